# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Versions of the packages that results depend on."""

import functools
import importlib.metadata
from collections.abc import Iterable


PACKAGES = ("anomalyclip-hf", "transformers", "torch")


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str | None]:
    """Return the version of each package, `None` for one that is not installed, such as a checkout on `sys.path`."""
    return {name: _version(name) for name in packages}


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
