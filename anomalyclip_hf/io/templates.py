# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Fill the templates of the package."""

from pathlib import Path
from typing import Any

import jinja2


def render(template: Path, autoescape: bool, **values: Any) -> str:
    """Fill a template.

    Args:
        template (`Path`): A Jinja file of the package.
        autoescape (`bool`): Whether to escape values for HTML.
        **values: Values for all names in the template; a missing name is an error.

    Returns:
        `str`: the text with the values filled in.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).render(**values)
