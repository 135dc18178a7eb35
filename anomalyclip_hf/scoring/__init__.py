# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score images: the one engine behind every command, and the backends that run the model."""
