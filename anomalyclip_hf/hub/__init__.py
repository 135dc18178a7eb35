# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What a shared model comes with: its card, an endpoint's handler, a Space."""
