# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from anomalyclip_hf.prompt_ensemble_anomalyclip import (
    ABNORMAL_STATES,
    NORMAL_STATES,
    PHOTO_TEMPLATES,
    ensemble_sentences,
)


def test_every_state_meets_every_template_once():
    normal, abnormal = ensemble_sentences("screw")
    assert len(normal) == len(set(normal)) == len(NORMAL_STATES) * len(PHOTO_TEMPLATES)
    assert len(abnormal) == len(set(abnormal)) == len(ABNORMAL_STATES) * len(PHOTO_TEMPLATES)
    assert not set(normal) & set(abnormal)
    assert all("screw" in text and "{" not in text for text in normal + abnormal)
