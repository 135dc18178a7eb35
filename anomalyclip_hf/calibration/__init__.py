# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Calibrate thresholds on images whose label is known, so that a score becomes a decision."""
