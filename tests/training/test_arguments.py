# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pytest

from anomalyclip_hf import AnomalyCLIPTrainingArguments


def test_defaults_are_the_papers(tmp_path):
    args = AnomalyCLIPTrainingArguments(str(tmp_path))
    assert (args.learning_rate, args.adam_beta1, args.adam_beta2, args.weight_decay) == (1e-3, 0.5, 0.999, 0.0)
    assert (args.num_train_epochs, args.per_device_train_batch_size, args.seed) == (15, 8, 111)
    assert (args.max_grad_norm, args.lr_scheduler_type) == (0.0, "constant")
    assert args.features_dir == str(tmp_path / "_features")


@pytest.mark.parametrize(
    ("name", "value"),
    [("cache_dtype", "int8"), ("num_train_epochs", 0), ("num_train_epochs", float("nan"))],
)
def test_values_that_cannot_be_used_are_named(tmp_path, name, value):
    with pytest.raises(ValueError, match=name):
        AnomalyCLIPTrainingArguments(str(tmp_path), **{name: value})
