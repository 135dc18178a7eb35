# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Data sets: one table of what there is (catalogue), a few readers of layouts, and the loader on `datasets`."""
