# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Conversion of published AnomalyCLIP and OpenAI checkpoints. The only place that reads a pickle."""
