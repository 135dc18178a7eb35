# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Define the `Trainer` for the prompts: its arguments, datasets, loss and metrics."""

import copy
import inspect
import logging
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import set_seed
from transformers.trainer_utils import EvalLoopOutput

from ..modeling_anomalyclip import AnomalyCLIPModel
from ..processing_anomalyclip import AnomalyCLIPProcessor
from .arguments import AnomalyCLIPTrainingArguments
from .examples import EpochOrder, TrainingImages, collate
from .feature_cache import CachedFeatures, cache_features
from .metrics import AnomalyMetrics
from .saving import PromptsTrainer


logger = logging.getLogger(__name__)


class AnomalyCLIPTrainer(PromptsTrainer):
    """Train the prompts of an [`AnomalyCLIPModel`]; its CLIP stays frozen.

    Datasets need the columns `image` and `label` (0 normal, 1 anomalous), and `mask` for the pixel loss. `category` is
    optional: metrics are means over categories. Of anomalous images without a mask, or with an empty one, only the
    label is used.

    Args:
        model ([`AnomalyCLIPModel`], *optional*): Model with learned prompts. They are trained in float32.
        args ([`AnomalyCLIPTrainingArguments`], *optional*): Defaults to the paper's settings.
        train_dataset ([`~datasets.Dataset`] or `list[dict]`, *optional*):
            For example from [`load_anomaly_dataset`]; join several with `datasets.concatenate_datasets`.
        eval_dataset (as `train_dataset`, or `dict` of several, *optional*):
            For evaluation. With a dictionary, metrics are called `eval_<key>_image_auroc` and so on.
        processing_class ([`AnomalyCLIPProcessor`], *optional*): Defaults to the one that fits the model.
        compute_metrics (`Callable`, *optional*):
            Called with an [`~transformers.EvalPrediction`] of `(image_scores, anomaly_maps)` and
            `(labels, masks, mask_weights, indices)`: batch by batch if it has a parameter `compute_result`, otherwise
            once for all images. Defaults to [`AnomalyMetrics`].
        model_init (`Callable`, *optional*): Returns a new model for each training, in place of `model`.
        **kwargs: Other arguments of [`~transformers.Trainer`] (`callbacks`, `optimizers`, …), except `data_collator`.

    Raises:
        TypeError: If `args`, `model` or `data_collator` is not supported; the message says what to pass.
        ValueError: If the prompts are not learned, the processor does not fit the model, a dataset cannot be used, or
            no mask is given although `config.pixel_loss_weight` is not 0.

    Example:
    ```python
    >>> from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPTrainer, AnomalyCLIPTrainingArguments
    >>> from anomalyclip_hf import load_anomaly_dataset

    >>> model = AnomalyCLIPModel.from_clip_pretrained(str(getfixture("clip_folder")), image_size=40)
    >>> dataset = load_anomaly_dataset("folder", getfixture("parts_folder"))
    >>> args = AnomalyCLIPTrainingArguments(str(getfixture("tmp_path")), num_train_epochs=2, logging_strategy="no")
    >>> trainer = AnomalyCLIPTrainer(model, args, train_dataset=dataset)
    >>> output = trainer.train()
    {'train_runtime': ...}
    >>> output.global_step
    4

    ```
    """

    eval_dataset: Any

    def __init__(
        self,
        model: AnomalyCLIPModel | None = None,
        args: AnomalyCLIPTrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: AnomalyCLIPProcessor | None = None,
        compute_metrics: Callable[..., dict[str, float]] | None = None,
        *,
        model_init: Callable[..., AnomalyCLIPModel] | None = None,
        **kwargs: Any,
    ):
        if kwargs.pop("data_collator", None) is not None:
            raise TypeError(
                "data_collator is not supported, since the trainer makes its own batches; leave it out, and change "
                "the images in the dataset."
            )
        args = _check_arguments(args or AnomalyCLIPTrainingArguments("trainer_output"))
        if (model is None) == (model_init is None):
            raise ValueError("expected either model or model_init; give exactly one of them.")
        self._features: dict[int, CachedFeatures] = {}
        if model_init is not None:
            set_seed(args.seed)
            self.model_init: Any = model_init
            model = self.call_model_init()
        model = _check_model(model)
        self.processor = processing_class or AnomalyCLIPProcessor.from_config(model.config)
        self.processor.check_model(model.config)
        if _wants_all_at_once(compute_metrics):
            args = copy.copy(args)
            args.batch_eval_metrics = False
        super().__init__(
            model=model,
            args=args,
            data_collator=collate,
            train_dataset=_training_images(train_dataset, self.processor, args, model),
            eval_dataset=self._images(eval_dataset, "eval_dataset"),
            compute_metrics=compute_metrics or AnomalyMetrics(self.processor),
            **kwargs,
        )
        self.model_init = model_init  # if passed above, Trainer would make another model

    def call_model_init(self, trial: Any = None) -> AnomalyCLIPModel:
        """Make a model with `model_init`; features of the previous one are not used again."""
        self._features.clear()
        return _check_model(super().call_model_init(trial))

    # --------------------------------------------------------------------------------------------------- datasets

    def _images(self, dataset: Any, argument: str) -> Any:
        """Make examples of a dataset for evaluation or prediction."""
        if dataset is None or isinstance(dataset, TrainingImages):
            return dataset
        if isinstance(dataset, dict) and argument == "eval_dataset":
            return {name: self._images(part, argument) for name, part in dataset.items()}
        images = TrainingImages(dataset, self.processor, argument=argument)
        if argument == "eval_dataset":
            images.check_labels()
        return images

    def _get_dataloader(self, dataset: Any, description: str, *args: Any, **kwargs: Any) -> DataLoader:
        """Read cached features in place of images; for `train`, `evaluate` and `predict`."""
        images = self._images(dataset, "test_dataset" if description == "test" else "eval_dataset")
        return super()._get_dataloader(self._cached(images), description, *args, **kwargs)

    def _cached(self, images: TrainingImages) -> TrainingImages | CachedFeatures:
        if not self.args.cache_features:
            return images
        features = self._features.get(id(images))
        if features is None:
            features = cache_features(self.model, images, self.args.features_dir, self.args.cache_dtype)
            self._features[id(images)] = features  # keeps the images alive, so that their id stays unique
        return features

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        examples: Any = self.train_dataset if train_dataset is None else train_dataset
        step_size = self._train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        return EpochOrder(len(examples), step_size, self.args.seed)

    # ------------------------------------------------------------------------------------------------------- steps

    def evaluation_loop(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate as [`~transformers.Trainer.evaluation_loop`] does, after resetting the counts."""
        self._evaluated: Any = getattr(dataloader.dataset, "images", dataloader.dataset)
        if isinstance(self.compute_metrics, AnomalyMetrics):
            self.compute_metrics.start(self._evaluated.categories)
        return super().evaluation_loop(dataloader, *args, **kwargs)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss as [`~transformers.Trainer.compute_loss`] does, and stop if it is not finite.

        Raises:
            FloatingPointError: If the loss is not finite. The message names the step and the images.
        """
        inputs = dict(inputs)
        indices = inputs.pop("indices")
        result = super().compute_loss(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if not math.isfinite(loss.item()):
            images = self.train_dataset if model.training else self._evaluated
            names = ", ".join(images.name(index) for index in indices.tolist())
            remedy = "check these images and the weights of the model."
            if model.training:
                remedy = "lower the learning rate, or check these images. " + (
                    f"The last checkpoint in {self.args.output_dir} stays."
                )
            raise FloatingPointError(
                f"the loss is {loss.item()} in step {self.state.global_step + 1}, with {names}; {remedy}"
            )
        return result


def _check_arguments(args: Any) -> AnomalyCLIPTrainingArguments:
    """Refuse plain `TrainingArguments`, and use one GPU per process."""
    if not isinstance(args, AnomalyCLIPTrainingArguments):
        raise TypeError(
            f"args is a {type(args).__name__}; expected AnomalyCLIPTrainingArguments, which accepts the same "
            "arguments and defaults to the paper's settings."
        )
    if args.n_gpu > 1:
        logger.warning(
            "Training uses one of %d GPUs: nn.DataParallel is not supported. Use `accelerate launch` or `torchrun` to "
            "train on all of them.",
            args.n_gpu,
        )
        args._n_gpu = 1
    return args


def _check_model(model: Any) -> AnomalyCLIPModel:
    """Refuse a model without learned prompts, and convert 16-bit prompts to float32."""
    if not isinstance(model, AnomalyCLIPModel):
        raise TypeError(f"model is a {type(model).__name__}; expected an AnomalyCLIPModel.")
    if model.config.prompts != "learned":
        raise ValueError(f"the prompts of the model are {model.config.prompts!r}; expected 'learned' ones to train.")
    if model.frozen_text_embeds is not None:
        raise ValueError("the prompts of the model are frozen (freeze_prompts); load the model again to train it.")
    if model.prompt_learner.normal_prompt.itemsize < 4:
        model.prompt_learner.float()
    return model


def _training_images(
    dataset: Any, processor: AnomalyCLIPProcessor, args: AnomalyCLIPTrainingArguments, model: AnomalyCLIPModel
) -> TrainingImages | None:
    """Make examples of a dataset for training."""
    if dataset is None:
        return None
    images = TrainingImages(dataset, processor, args.synthetic_anomalies, args.seed)
    images.check_labels(both=True)
    if model.config.pixel_loss_weight and not images.has_masks():
        raise ValueError(
            "train_dataset has no masks, which the pixel loss needs; add a column mask, or set pixel_loss_weight=0 "
            "(--pixel-loss-weight 0)."
        )
    return images


def _wants_all_at_once(compute_metrics: Callable | None) -> bool:
    """Return whether metrics are computed once for all images, as in an ordinary `Trainer`, and not per batch."""
    return compute_metrics is not None and "compute_result" not in inspect.signature(compute_metrics).parameters


__all__ = ["AnomalyCLIPTrainer"]
