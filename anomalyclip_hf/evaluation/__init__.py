# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Evaluate a model on a dataset: counting in bounded memory, progress on disk, tables and report."""
