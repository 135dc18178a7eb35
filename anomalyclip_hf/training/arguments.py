# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Training arguments with the paper's settings as defaults."""

import math
import os
from dataclasses import dataclass, field

from transformers import TrainingArguments

from ..io.processes import has_accelerator


CACHE_DTYPES = ("float16", "bfloat16", "float32")
TARGETS = ("labels", "masks", "mask_weights", "indices")  # entries of a batch that metrics receive, in this order


@dataclass
class AnomalyCLIPTrainingArguments(TrainingArguments):
    """Hold [`~transformers.TrainingArguments`] with the paper's settings (appendix, published code) as defaults.

    The defaults are Adam (betas 0.5 and 0.999, no weight decay) at a constant learning rate of 1e-3, 15 epochs,
    batches of 8, seed 111, and no gradient clipping.

    Args:
        cache_features (`bool`, *optional*, defaults to `True`):
            Encode each image with the frozen CLIP once, and keep the features on disk.
        cache_dir (`str`, *optional*):
            Folder for the features; defaults to `_features` in `output_dir`. They are never pushed.
        cache_dtype (`str`, *optional*, defaults to `"float16"`):
            Data type of the features on disk: `"float16"`, `"bfloat16"` or `"float32"`.
        synthetic_anomalies (`bool`, *optional*, defaults to `False`):
            Train on normal images only, and add a copy of each with a synthetic defect.
        prompts_only (`bool`, *optional*):
            Save the trained model as prompts with a reference to their CLIP. By default, this is done if the CLIP has
            a name, unless the model is pushed and its CLIP exists only on this machine.
        include_code (`bool`, *optional*, defaults to `False`):
            Save the model's code with it, for `trust_remote_code=True` where this package is not installed.

    Raises:
        ValueError: If `cache_dtype` is unknown, or `num_train_epochs` is not a positive number.

    Example:
    ```python
    >>> from anomalyclip_hf import AnomalyCLIPTrainingArguments

    >>> arguments = AnomalyCLIPTrainingArguments("prompts", num_train_epochs=5)
    >>> arguments.learning_rate, arguments.adam_beta1, arguments.seed
    (0.001, 0.5, 111)

    ```
    """

    learning_rate: float = 1e-3
    adam_beta1: float = 0.5
    adam_beta2: float = 0.999
    weight_decay: float = 0.0
    max_grad_norm: float = 0.0
    num_train_epochs: float = 15.0
    per_device_train_batch_size: int = 8
    lr_scheduler_type: str = "constant"
    seed: int = 111
    save_strategy: str = "epoch"
    logging_strategy: str = "epoch"
    logging_nan_inf_filter: bool = False
    remove_unused_columns: bool = False
    dataloader_pin_memory: bool = field(default_factory=has_accelerator)
    use_cpu: bool = field(default_factory=lambda: not has_accelerator())
    ddp_find_unused_parameters: bool | None = False
    batch_eval_metrics: bool = True
    label_names: list[str] | None = field(default_factory=lambda: list(TARGETS))
    cache_features: bool = True
    cache_dir: str | None = None
    cache_dtype: str = "float16"
    synthetic_anomalies: bool = False
    prompts_only: bool | None = None
    include_code: bool = False

    def __post_init__(self) -> None:
        if self.cache_dtype not in CACHE_DTYPES:
            raise ValueError(f"cache_dtype is {self.cache_dtype!r}; expected one of {', '.join(CACHE_DTYPES)}.")
        if self.max_steps <= 0 and not 0 < self.num_train_epochs < math.inf:
            raise ValueError(f"num_train_epochs is {self.num_train_epochs:g}; expected a number above 0, such as 15.")
        super().__post_init__()

    @property
    def features_dir(self) -> str:
        """Folder of the cached features."""
        # Trainer does not push names that begin with an underscore.
        return self.cache_dir or os.path.join(self.output_dir, "_features")
