# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Atomic writes, fingerprints, templates, and which of several processes this is."""
