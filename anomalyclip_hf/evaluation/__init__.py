# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Evaluating a model on a data set: scoring with bounded memory, progress that survives a kill, the report."""
