# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Export models for other runtimes: the graph from pixels to map, ONNX, OpenVINO, INT8, the web page."""
