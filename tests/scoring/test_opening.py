# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch

from anomalyclip_hf.scoring.opening import check_device, open_detector


@pytest.mark.parametrize("device", ["cuda:99", "warp", torch.device("meta")])
def test_a_device_that_is_not_there_is_named_beside_those_that_are(model_folder, model, device):
    for source in (model_folder, model):
        with pytest.raises(ValueError, match=f"{device} .* cpu"):
            open_detector(source, device=device)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_a_device_that_is_there_is_used(model_folder, device):
    check_device(device)
    assert open_detector(model_folder, device=device).model.device.type == "cpu"
