# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`python -m anomalyclip_hf.cli`, as `accelerate launch -m` needs it."""

from . import main


main()
