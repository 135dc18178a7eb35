# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score millions of images into Parquet, on one machine or on a Ray cluster."""
