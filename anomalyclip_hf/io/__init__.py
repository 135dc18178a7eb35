# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Write files atomically, lock folders, fingerprint values, read ahead, fill templates, and tell processes apart."""
