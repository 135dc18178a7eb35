# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Check the structure of the source: who imports whom, sizes, public names."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import anomalyclip_hf
from anomalyclip_hf.cli import app
from anomalyclip_hf.loading_anomalyclip import CODE_FILES


PACKAGE = Path(anomalyclip_hf.__file__).parent
# Each file may import only from those above it; the Hub's remote-code loading copies this block.
CLOSED_SET = [
    "image_processing_anomalyclip",
    "postprocessing_anomalyclip",
    "configuration_anomalyclip",
    "losses_anomalyclip",
    "loading_anomalyclip",
    "modeling_anomalyclip",
    "processing_anomalyclip",
    "pipeline_anomaly_detection",
]
# Below it, files and folders, each importing only from those above.
OPEN_SET = [
    "version",
    "assets",
    "io",
    "data",
    "metrics",
    "scoring",
    "evaluation",
    "calibration",
    "conversion",
    "sharing",
    "training",
    "export",
    "bulk",
    "serving",
    "cli",
]
ALLOWED = {"torch", "numpy", "PIL", "safetensors", "transformers", "huggingface_hub"}


def imports_of(path: Path) -> list[tuple[int, str, bool]]:
    """Return (level, module, inside a try) of every import in a file."""
    tree = ast.parse(path.read_text())
    tried = {id(node) for block in ast.walk(tree) if isinstance(block, ast.Try) for node in ast.walk(block)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, id(node) in tried) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", id(node) in tried))
    return found


@pytest.mark.parametrize("name", CLOSED_SET)
def test_the_closed_set_is_closed(name):
    above = CLOSED_SET[: CLOSED_SET.index(name)]
    for level, module, tried in imports_of(PACKAGE / f"{name}.py"):
        if level:
            assert level == 1
            assert module in above, f"{name} imports {module or 'the package'}, which does not stand above it"
        else:
            top = module.split(".")[0]
            assert top in ALLOWED or top in sys.stdlib_module_names or tried, f"{name} imports {module}"


def test_the_closed_set_is_what_goes_along_as_code():
    assert [f"{name}.py" for name in CLOSED_SET] == list(CODE_FILES)


def test_nothing_above_imports_from_below():
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).parts
        room = place[0].removesuffix(".py")
        if room in CLOSED_SET or room == "__init__":
            continue
        above = {*CLOSED_SET, *OPEN_SET[: OPEN_SET.index(room)]}
        for level, module, _ in imports_of(path):
            if level == len(place):  # as seen from the package; fewer dots stay in the room
                assert not module or module.split(".")[0] in above, f"{path}: {module}"


def test_contributing_lists_all_files_and_folders_in_the_order_of_imports():
    table = re.findall(r"^\| `(\w+)(?:\.py|/)` \|", (PACKAGE.parent / "CONTRIBUTING.md").read_text(), re.M)
    assert table == [*CLOSED_SET, *(name for name in OPEN_SET if name != "version")]


def test_budgets():
    for path in PACKAGE.rglob("*.py"):
        lines = len(path.read_text().splitlines())
        larger = {"modeling_anomalyclip": 790, "loading_anomalyclip": 700, "image_processing_anomalyclip": 760}
        larger |= {"postprocessing_anomalyclip": 440, "engine": 410}
        assert lines <= {**larger, "configuration_anomalyclip": 420}.get(path.stem, 400), path.name
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                docstring = (ast.get_docstring(node, clean=False) or "").count("\n") + 1
                has_options = node.name in ("forward", "__init__") or path.parent.name == "cli"  # a line each
                most = 55 if has_options else 45
                assert node.end_lineno - node.lineno + 1 - docstring <= most, f"{path.name}: {node.name}"


def test_ci_runs_the_commands_of_the_readme():
    root = PACKAGE.parent
    blocks = re.findall(r"```bash\n(.*?)\n```", (root / "README.md").read_text(), re.S)
    commands = [line for block in blocks for line in block.splitlines() if ".venv/bin" in line]
    assert len(commands) == 2
    ci = (root / ".ci" / "run").read_text()
    assert commands[1] in ci.splitlines()
    assert commands[0].split(" && ")[-1] in ci


def test_the_page_about_the_command_line_lists_all_options():
    commands = dict(get_command(app).commands)  # type: ignore[attr-defined]
    page = (PACKAGE.parent / "docs" / "command_line.md").read_text()
    parts = re.split(r"^## anomalyclip (\w+)$", page, flags=re.M)[1:]
    assert sorted(parts[::2]) == sorted(commands)
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        below = getattr(commands[name], "commands", {}).values()
        options = {option for command in (commands[name], *below) for found in command.params for option in found.opts}
        missing = {option for option in options if option.startswith("--")} - set(re.findall(r"--[a-z-]+", text))
        assert not missing, f"{name}: {missing}"


def test_everything_public_is_in_the_reference():
    pages = (PACKAGE.parent / "docs" / "reference").glob("*.md")
    shown = set(re.findall(r"^::: anomalyclip_hf\.(\w+)$", "\n".join(page.read_text() for page in pages), re.M))
    missing = set(anomalyclip_hf.__all__) - shown - {"__version__"}
    assert not missing, f"add `::: anomalyclip_hf.NAME` to a page of docs/reference for {sorted(missing)}"


def test_the_overview_of_the_reference_lists_the_names_of_each_page():
    folder = PACKAGE.parent / "docs" / "reference"
    rows = re.findall(r"^\| \[.*\]\((\w+\.md)\) \| (.*) \|$", (folder / "README.md").read_text(), re.M)
    listed = {page: re.findall(r"`(\w+)`", names) for page, names in rows}
    pages = [page for page in sorted(folder.glob("*.md")) if page.name != "README.md"]
    assert listed == {page.name: re.findall(r"^::: \S*?(\w+)$", page.read_text(), re.M) for page in pages}


def test_everything_public_is_there():
    for name in anomalyclip_hf.__all__:
        assert getattr(anomalyclip_hf, name).__doc__ or name in ("DEFAULT_MODEL", "__version__")
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        anomalyclip_hf.Nothing  # noqa: B018


def test_import_registers_with_transformers_in_a_fresh_process(model_folder):
    program = f"""
import anomalyclip_hf
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline
print(type(AutoConfig.from_pretrained({str(model_folder)!r})).__name__,
      type(AutoModel.from_pretrained({str(model_folder)!r})).__name__,
      type(AutoProcessor.from_pretrained({str(model_folder)!r})).__name__,
      type(pipeline("anomaly-detection", model={str(model_folder)!r})).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "AnomalyCLIPConfig",
        "AnomalyCLIPModel",
        "AnomalyCLIPProcessor",
        "AnomalyDetectionPipeline",
    ]
