# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pytest

from anomalyclip_hf import AnomalyCLIPTrainingArguments


def test_defaults_are_the_papers(tmp_path):
    args = AnomalyCLIPTrainingArguments(str(tmp_path))
    assert (args.learning_rate, args.adam_beta1, args.adam_beta2, args.weight_decay) == (1e-3, 0.5, 0.999, 0.0)
    assert (args.num_train_epochs, args.per_device_train_batch_size, args.seed) == (15, 8, 111)
    assert (args.max_grad_norm, args.lr_scheduler_type) == (0.0, "constant")


def test_an_unknown_precision_of_the_cache(tmp_path):
    with pytest.raises(ValueError, match="cache_dtype is 'int8'; expected one of float16, bfloat16, float32"):
        AnomalyCLIPTrainingArguments(str(tmp_path), cache_dtype="int8")
