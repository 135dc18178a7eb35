# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Save, resume and share trainings: the part of the trainer that reads and writes checkpoints and models."""

import json
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import EarlyStoppingCallback, Trainer, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, TrainOutput, rotate_checkpoints

from ..io.atomic import atomic_write
from ..loading_anomalyclip import (
    PROMPTS_FILE,
    is_on_this_machine,
    load_prompts_file,
    remove_local_paths,
    save_prompts_file,
)
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..sharing.model_card import TRAINING_FILE, write_model_card
from .arguments import AnomalyCLIPTrainingArguments
from .checkpoints import is_complete, latest_complete_checkpoint, mark_complete


STATE_FILE = "trainer_state.json"


class PromptsTrainer(Trainer):
    """Save checkpoints that contain only prompts, resume from them, and share the trained model.

    [`AnomalyCLIPTrainer`] adds the datasets, the loss and the metrics.
    """

    args: AnomalyCLIPTrainingArguments
    train_dataset: Any
    processor: AnomalyCLIPProcessor
    _checkpoint: Path | None = None  # folder of the checkpoint that is being saved

    # ---------------------------------------------------------------------------------------------------- training

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Train from the start or from a checkpoint.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                Folder of a checkpoint; or `True` for the latest complete one in `output_dir`, if there is one.
            **kwargs: Other arguments of [`~transformers.Trainer.train`].

        Returns:
            [`~transformers.trainer_utils.TrainOutput`]

        Raises:
            OSError: If a file of the checkpoint is not the state of a training.
            ValueError: If the given checkpoint is incomplete or damaged.
            FloatingPointError: If the loss is NaN or infinite; the last checkpoint stays.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = str(latest_complete_checkpoint(Path(self.args.output_dir)) or "")
        elif resume_from_checkpoint and not is_complete(Path(resume_from_checkpoint)):
            raise ValueError(f"{resume_from_checkpoint} is incomplete or damaged; choose an earlier checkpoint.")
        if not resume_from_checkpoint:
            return super().train(**kwargs)
        if self._was_stopped_early(Path(resume_from_checkpoint)):
            return self._restore(Path(resume_from_checkpoint))
        try:
            return super().train(resume_from_checkpoint=str(resume_from_checkpoint), **kwargs)
        except pickle.UnpicklingError as error:
            raise OSError(
                f"a .pt or .pth file in {resume_from_checkpoint} is damaged or contains more than the state of a "
                "training, and was not loaded; choose another checkpoint."
            ) from error

    def _was_stopped_early(self, checkpoint: Path) -> bool:
        """Restore the counts of early stopping, and return whether they ended the training at this checkpoint."""
        stored = TrainerState.load_from_json(str(checkpoint / STATE_FILE)).stateful_callbacks
        callbacks = [one for one in self.callback_handler.callbacks if isinstance(one, EarlyStoppingCallback)]
        for callback in callbacks:
            states = stored.get(type(callback).__name__, [])
            for state in states[-1:] if isinstance(states, list) else [states]:
                callback.early_stopping_patience_counter = state["attributes"]["early_stopping_patience_counter"]
        return any(one.early_stopping_patience_counter >= one.early_stopping_patience for one in callbacks)

    def _restore(self, checkpoint: Path) -> TrainOutput:
        """Restore the final state of a training that early stopping has ended."""
        self.state = TrainerState.load_from_json(str(checkpoint / STATE_FILE))
        self.state.is_local_process_zero = self.is_local_process_zero()
        self.state.is_world_process_zero = self.is_world_process_zero()
        best = self.state.best_model_checkpoint if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(best if best and Path(best).is_dir() else str(checkpoint))
        losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        return TrainOutput(self.state.global_step, losses[-1] if losses else math.nan, {})

    # ------------------------------------------------------------------------------------------------- checkpoints

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Save a checkpoint as prompts, or the trained model in the form that `prompts_only` chooses."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model)
        self.processor.save_pretrained(folder)
        if folder == self._checkpoint:
            save_prompts_file(model, folder)
            return
        model.save_pretrained(folder, prompts_only=self._prompts_only(), include_code=self.args.include_code)
        if self.hub_model_id is not None:
            remove_local_paths(folder)

    def _prompts_only(self) -> bool:
        base_model = self.accelerator.unwrap_model(self.model).config.base_model_name_or_path
        if self.args.prompts_only is not None:
            return self.args.prompts_only
        return base_model is not None and not (self.args.push_to_hub and is_on_this_machine(base_model))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint, and remove older ones only when it is complete."""
        run_dir = self._get_output_dir(trial=trial)
        self._checkpoint = Path(run_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                mark_complete(self._checkpoint)
                best = self.state.best_model_checkpoint
                rotate_checkpoints(run_dir, save_total_limit=limit, best_model_checkpoint=best, use_mtime=True)
        finally:
            self.args.save_total_limit, self._checkpoint = limit, None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_prompts_file(self.model if model is None else model, Path(resume_from_checkpoint) / PROMPTS_FILE)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    # ------------------------------------------------------------------------------------------------- sharing

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """Create the repository on the Hub, after checking that others can load what will be pushed.

        Raises:
            ValueError: If only prompts would be pushed, and their CLIP exists only on this machine.
        """
        base_model = self.accelerator.unwrap_model(self.model).config.base_model_name_or_path
        if self._prompts_only() and is_on_this_machine(base_model):
            raise ValueError(
                f"the prompts refer to the CLIP in {base_model}, which exists on this machine only; load it by its "
                "Hub id, or push the whole model with prompts_only=False."
            )
        super().init_hf_repo(*args, **kwargs)

    def create_model_card(
        self,
        license: str | None = None,
        tags: str | Sequence[str] | None = None,
        model_name: str | None = None,
        dataset_tags: str | Sequence[str] | None = None,
    ) -> None:
        """Write the model card, and `training.json`, from which `anomalyclip hub card` can write it again.

        Args:
            license (`str`, *optional*): License of the weights, as the Hub writes it.
            tags (`str` or `Sequence[str]`, *optional*): Tags in addition to the package's.
            model_name (`str`, *optional*): Defaults to the name of the repository or output folder.
            dataset_tags (`str` or `Sequence[str]`, *optional*): Hub ids of the training datasets.
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
        """Return the description of the training for the model card."""
        args = self.args
        settings = {
            "epochs": f"{self.state.epoch or 0:g}",
            "steps": self.state.global_step,
            "images per step": self._train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "optimiser": f"{_value(args.optim).partition('_torch')[0]}, learning rate "
            f"{args.learning_rate:g}, betas {args.adam_beta1:g} and {args.adam_beta2:g}, schedule "
            f"{_value(args.lr_scheduler_type)}",
            "weight of the pixel loss": f"{self.accelerator.unwrap_model(self.model).config.pixel_loss_weight:g}",
            "seed": args.seed,
        }
        losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        last = {"last loss": f"{losses[-1]:.4f}"} if losses else {}
        return {**self.train_dataset.describe(), "settings": settings | last}

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push the model in the form in which it is saved, since Trainer pushes only files with names that it knows.

        Nothing is saved while an earlier push reads the folder. If every checkpoint is to be pushed, this waits for
        that push; otherwise it skips this one, as Trainer does.
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


def _value(setting: Any) -> str:
    """Return the value of an enumeration, or of a plain string."""
    return str(getattr(setting, "value", setting))


def _as_list(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())
