# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Calibrate thresholds on labelled images, which turn scores into decisions."""
