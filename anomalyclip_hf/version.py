# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The version, alone, so that a build reads it without importing anything."""

__version__ = "0.1.0"
