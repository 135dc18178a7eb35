# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Share a model on the Hub: push, pull and the model card."""
