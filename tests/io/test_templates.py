# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import jinja2
import pytest

from anomalyclip_hf.io.templates import render


def test_values_are_escaped_for_html_alone(tmp_path):
    template = tmp_path / "page.txt"
    template.write_text("{% if value %}\n{{ value }}\n{% endif %}\n")
    assert render(template, autoescape=True, value="<b>") == "&lt;b&gt;\n"
    assert render(template, autoescape=False, value="<b>") == "<b>\n"


def test_a_missing_value_is_an_error(tmp_path):
    (tmp_path / "page.txt").write_text("{{ other }}")
    with pytest.raises(jinja2.UndefinedError, match="other"):
        render(tmp_path / "page.txt", autoescape=True)
