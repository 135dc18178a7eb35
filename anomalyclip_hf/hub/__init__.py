# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What stands beside a model on the Hub: the endpoint's handler, the demo and its Space."""
