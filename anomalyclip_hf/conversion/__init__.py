# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Convert published AnomalyCLIP and OpenAI checkpoints; pickles are read with `weights_only=True`."""
