# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Datasets: a catalogue, readers of layouts and tables, the loader, and the one reader of images with ground truth."""
