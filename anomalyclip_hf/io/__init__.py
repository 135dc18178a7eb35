# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Atomic writes, fingerprints, reading ahead, templates, versions, and which of several processes this is."""
