# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Serve a model: the demo, its Space, and the handler of an Inference Endpoint."""
