# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Adapt docstrings in Hugging Face's style to mkdocstrings, for the documentation's site."""

import re
from typing import Any

import griffe


# The type of an argument, and of what is returned
TYPE = re.compile(r"^( *[*\w]+ \()(.*[`*].*)(\):)|(Returns:\n +)(\[?`[^:\n]*)(:|$)", re.MULTILINE)
REFERENCE = re.compile(r"\[`~?([\w.]+)`\](?![\[(])")


class Docstrings(griffe.Extension):
    """Link [`AnomalyCLIPModel`] and other public names of this package; show types without their markup."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Collect the public names, then rewrite every docstring once."""
        public = {name for name in pkg.exports or () if isinstance(name, str)}

        def link(match: re.Match) -> str:
            name = match[1].removeprefix(f"{pkg.name}.")
            shown = f"`{name.split('.')[-1]}`" if match[0].startswith("[`~") else f"`{name}`"
            return f"[{shown}][{pkg.name}.{name}]" if name.split(".")[0] in public else shown

        def plain(match: re.Match) -> str:
            before, shown, after = (part for part in match.groups() if part is not None)
            return before + re.sub(r"[`*]|\[(?=`)|(?<=`)\]|~[\w.]+\.", "", shown) + after

        def rewrite(item: griffe.Object) -> None:
            if item.docstring:
                text = TYPE.sub(plain, item.docstring.value)
                item.docstring.value = REFERENCE.sub(link, text)
            for member in item.members.values():
                if not member.is_alias:
                    rewrite(member)

        rewrite(pkg)
