# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Learning the prompts with `Trainer`, from features of the frozen CLIP that are computed once."""
