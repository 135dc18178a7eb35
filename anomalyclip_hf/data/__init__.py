# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""List, load and check datasets, and read images with their ground truth."""
