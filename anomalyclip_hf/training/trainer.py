# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`Trainer` for the prompts: cached features, weighted examples, checkpoints that are whole or ignored."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor, nn
from transformers import EvalPrediction, Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, rotate_checkpoints

from ..checkpoints_anomalyclip import PROMPTS_FILE, load_prompts_file, save_prompts_file
from ..io.atomic import atomic_write
from ..metrics import AnomalyDetectionMetric
from ..modeling_anomalyclip import AnomalyCLIPModel
from ..postprocessing_anomalyclip import gaussian_smooth
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..sharing.model_card import TRAINING_FILE, write_model_card
from ..sharing_anomalyclip import is_on_this_machine, remove_local_paths
from .arguments import AnomalyCLIPTrainingArguments
from .checkpoints import check_states, is_complete, latest_complete_checkpoint, mark_complete
from .examples import EpochOrder, TrainingImages, cache_folder, collate
from .feature_cache import cache_features


class AnomalyCLIPTrainer(Trainer):
    """Learns the prompts of an [`AnomalyCLIPModel`]; CLIP stays as it is.

    Args:
        model ([`AnomalyCLIPModel`]): With learned prompts.
        args ([`AnomalyCLIPTrainingArguments`], *optional*): Default: the paper's settings.
        train_dataset ([`~datasets.Dataset`], *optional*):
            Of [`load_anomaly_dataset`]; several joined by `datasets.concatenate_datasets`. Anomalous images without a
            mask take part with their label alone.
        eval_dataset ([`~datasets.Dataset`], *optional*): Likewise.
        processing_class ([`AnomalyCLIPProcessor`], *optional*): Default: the one that fits the model.
        compute_metrics (`Callable`, *optional*): Default: [`AnomalyMetrics`] of that processor.
        **kwargs: As for [`~transformers.Trainer`] (`callbacks`, `optimizers`, …).

    Raises:
        ValueError: If the model's prompts are not learned, there is nothing to learn from, or there is not one mask
            though `config.pixel_loss_weight` is not 0.

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

    args: AnomalyCLIPTrainingArguments
    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self,
        model: AnomalyCLIPModel,
        args: AnomalyCLIPTrainingArguments | None = None,
        train_dataset: datasets.Dataset | None = None,
        eval_dataset: datasets.Dataset | None = None,
        processing_class: AnomalyCLIPProcessor | None = None,
        compute_metrics: Callable[..., dict[str, float]] | None = None,
        **kwargs: Any,
    ):
        if model.config.prompts != "learned":
            raise ValueError(
                f"the prompts of the model are {model.config.prompts!r}; expected 'learned' ones to train."
            )
        args = args or AnomalyCLIPTrainingArguments("trainer_output")
        processor = processing_class or AnomalyCLIPProcessor.from_config(model.config)
        if processor.size != model.config.input_size:
            raise ValueError(
                f"the processor resizes to {processor.size}; the model expects {model.config.input_size}."
            )
        train_images = None
        if train_dataset is not None:
            train_images = TrainingImages(train_dataset, processor, args.synthetic_anomalies, args.seed)
            if model.config.pixel_loss_weight and not train_images.has_masks():
                raise ValueError(
                    "no anomalous image has a mask, so there is no local loss; set pixel_loss_weight=0 "
                    "(--pixel-loss-weight 0)."
                )
        super().__init__(
            model=model,
            args=args,
            data_collator=collate,
            train_dataset=train_images,
            eval_dataset=None if eval_dataset is None else TrainingImages(eval_dataset, processor, needs_both=False),
            compute_metrics=compute_metrics or AnomalyMetrics(processor),
            **kwargs,
        )
        self.processor = processor  # not `processing_class`, of which Trainer expects a tokenizer

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train, from the start or from a checkpoint.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint's folder; or `True` for the newest in `output_dir` that is whole, if there is one.
            **kwargs: As for [`~transformers.Trainer.train`].

        Raises:
            OSError: If a file of the checkpoint could run code.
            ValueError: If the checkpoint that was named is damaged.
            FloatingPointError: If the loss is no longer finite; the last checkpoint stays.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = str(latest_complete_checkpoint(Path(self.args.output_dir)) or "") or None
        elif resume_from_checkpoint and not is_complete(Path(resume_from_checkpoint)):
            raise ValueError(f"{resume_from_checkpoint} is damaged or was never finished; name an earlier checkpoint.")
        if resume_from_checkpoint:
            check_states(Path(resume_from_checkpoint))
        self.train_dataset = self._cached(self.train_dataset)
        return super().train(resume_from_checkpoint=resume_from_checkpoint or None, **kwargs)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Compute the package's figures, from cached features as in training.

        Args:
            eval_dataset ([`~datasets.Dataset`], *optional*): Default: the one given at the start.
            *args: As for [`~transformers.Trainer.evaluate`].
            **kwargs: Likewise.

        Returns:
            `dict[str, float]`: `eval_loss` and the figures that are defined, as `eval_pixel_auroc`.
        """
        if isinstance(eval_dataset, datasets.Dataset):
            eval_dataset = TrainingImages(eval_dataset, self.processor, needs_both=False)
        if eval_dataset is None:
            self.eval_dataset = self._cached(self.eval_dataset)
        return super().evaluate(self._cached(eval_dataset), *args, **kwargs)

    def _cached(self, images: Any) -> Any:
        if not self.args.cache_features or not isinstance(images, TrainingImages):
            return images
        folder = cache_folder(self.args.output_dir, self.args.cache_dir)
        return cache_features(self.model, images, folder, self.args.cache_dtype)

    # ------------------------------------------------------------------------------------------------ one step

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        examples = self.train_dataset if train_dataset is None else train_dataset
        args = self.args
        step_size = self._train_batch_size * args.world_size * args.gradient_accumulation_steps
        return EpochOrder(len(examples), step_size, args.seed)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """As [`~transformers.Trainer.compute_loss`]; stops when the loss is no longer a finite number."""
        inputs = dict(inputs)
        indices = inputs.pop("indices")
        result = super().compute_loss(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if not math.isfinite(loss.item()):
            examples = self.train_dataset if model.training else self.eval_dataset
            names = ", ".join(examples.name(index) for index in indices.tolist())
            raise FloatingPointError(
                f"the loss is {loss.item()} in step {self.state.global_step + 1}, with {names}; lower the learning "
                f"rate, or go on from the last checkpoint in {self.args.output_dir} with other data."
            )
        return result

    # -------------------------------------------------------------------------------------------- checkpoints

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Prompts alone in a checkpoint; the trained model as `prompts_only` says."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model)
        if folder.name.startswith(PREFIX_CHECKPOINT_DIR):
            save_prompts_file(model, folder)
            self.processor.save_pretrained(folder)
        else:
            self.processor.save_pretrained(folder)
            model.save_pretrained(folder, prompts_only=self._prompts_only(), include_code=self.args.include_code)
            if self.hub_model_id is not None:
                remove_local_paths(folder)
        torch.save(self.args, folder / "training_args.bin")

    def _prompts_only(self) -> bool:
        base_model = self.accelerator.unwrap_model(self.model).config.base_model_name_or_path
        if self.args.prompts_only is not None:
            return self.args.prompts_only
        return base_model is not None and not (self.args.push_to_hub and is_on_this_machine(base_model))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Older checkpoints go only when the new one is complete."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            run_dir = self._get_output_dir(trial=trial)
            mark_complete(Path(run_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
            best = self.state.best_model_checkpoint
            rotate_checkpoints(run_dir, save_total_limit=limit, best_model_checkpoint=best, use_mtime=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_prompts_file(self.model if model is None else model, Path(resume_from_checkpoint) / PROMPTS_FILE)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    # ------------------------------------------------------------------------------------------------- sharing

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """As [`~transformers.Trainer.init_hf_repo`]; what could not be shared is refused before hours of training.

        Raises:
            ValueError: If only prompts would be pushed, and their CLIP is on this machine alone.
        """
        base_model = self.accelerator.unwrap_model(self.model).config.base_model_name_or_path
        if self._prompts_only() and is_on_this_machine(base_model):
            raise ValueError(
                f"the prompts refer to the CLIP in {base_model}, which is on this machine alone; load it by its Hub "
                "id, or push the whole model with prompts_only=False."
            )
        super().init_hf_repo(*args, **kwargs)

    def create_model_card(
        self,
        license: str | None = None,
        tags: str | Sequence[str] | None = None,
        model_name: str | None = None,
        dataset_tags: str | Sequence[str] | None = None,
    ) -> None:
        """Write the model card, and `training.json` from which it can be written again with results.

        Args:
            license (`str`, *optional*): Of the weights, as the Hub writes it.
            tags (`str` or `Sequence[str]`, *optional*): Beside the package's own.
            model_name (`str`, *optional*): Default: that of the repository, or of the output folder.
            dataset_tags (`str` or `Sequence[str]`, *optional*): Hub ids of the data sets learned on.
        """
        if not self.is_world_process_zero():
            return
        folder = Path(self.args.output_dir)
        if self.train_dataset is not None:
            with atomic_write(folder / TRAINING_FILE) as partial:
                partial.write_text(json.dumps(self._describe(), indent=2, ensure_ascii=False) + "\n")
        write_model_card(
            folder,
            repo_id=self.hub_model_id or self.args.hub_model_id or model_name,
            license=license,
            tags=_as_list(tags),
            datasets=_as_list(dataset_tags),
        )

    def _describe(self) -> dict[str, Any]:
        """What was learned from, and how."""
        args = self.args
        images = self.train_dataset if isinstance(self.train_dataset, TrainingImages) else self.train_dataset.images
        settings = {
            "epochs": f"{self.state.epoch or 0:g}",
            "steps": self.state.global_step,
            "images per step": self._train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "optimiser": f"{args.optim.value.partition('_torch')[0]}, learning rate {args.learning_rate:g}, "
            f"betas {args.adam_beta1:g} and {args.adam_beta2:g}, schedule {args.lr_scheduler_type}",
            "weight of the pixel loss": f"{self.accelerator.unwrap_model(self.model).config.pixel_loss_weight:g}",
            "seed": args.seed,
        }
        losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        return {**images.describe(), "settings": settings | ({"last loss": f"{losses[-1]:.4f}"} if losses else {})}

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Trainer copies weights whose names it knows out of the checkpoint; ours are written as they will end.

        Never while an earlier push still reads the folder: where every checkpoint is asked for, that push is waited
        for, otherwise this one is left out, as Trainer does.
        """
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        if self.args.hub_always_push or self.args.hub_strategy == HubStrategy.ALL_CHECKPOINTS:
            self._finish_current_push()
        elif self.push_in_progress is not None and not self.push_in_progress.is_done():
            return
        self._save(self.args.output_dir)
        self.create_model_card()
        super()._push_from_checkpoint(checkpoint_folder)


def _as_list(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


class AnomalyMetrics:
    """The package's metric in the form that `Trainer` asks for, batch by batch (`batch_eval_metrics=True`).

    Args:
        processor ([`AnomalyCLIPProcessor`]): Its smoothing is applied before pixels are counted.
    """

    def __init__(self, processor: AnomalyCLIPProcessor):
        self.processor, self.metric = processor, AnomalyDetectionMetric()

    def __call__(self, prediction: EvalPrediction, compute_result: bool = False) -> dict[str, float]:
        """Count a batch; at the last one compute the figures that are defined."""
        scores, maps = (torch.as_tensor(part).float().cpu() for part in prediction.predictions)
        labels, masks, mask_weights = (torch.as_tensor(part).cpu() for part in prediction.label_ids)
        truths = [mask if known else None for mask, known in zip(masks, mask_weights, strict=True)]
        smoothed = gaussian_smooth(maps, self.processor.smoothing_sigma)
        self.metric.add_batch(image_scores=scores, labels=labels, anomaly_maps=smoothed, masks=truths)
        if not compute_result:
            return {}
        return {name: value for name, value in self.metric.compute().items() if isinstance(value, float)}


__all__ = ["AnomalyCLIPTrainer", "AnomalyMetrics"]
