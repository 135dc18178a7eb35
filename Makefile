.PHONY: style quality test slow fuzz docs demo

PYTHON ?= python3

style:  ## fix what can be fixed
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

quality:  ## check style and types, change nothing
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

test:  ## unit tests, doctests and the examples of the documentation
	$(PYTHON) -m pytest

slow:  ## the tests that take minutes: training the default model from scratch
	$(PYTHON) -m pytest -m slow

fuzz:  ## many more inputs than in CI, new ones each time
	HYPOTHESIS_PROFILE=long $(PYTHON) -m pytest tests/fuzz

docs:  ## the documentation as a site, in site/
	$(PYTHON) -m mkdocs build --strict

demo:  ## heat maps of the sample images with the demonstration model
	$(PYTHON) -m anomalyclip_hf.cli predict examples/images --output-dir heatmaps
