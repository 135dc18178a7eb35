# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Train the prompts with `Trainer`, on cached features of the frozen CLIP."""
