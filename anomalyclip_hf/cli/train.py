# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip train`: learn prompts on a frozen CLIP, in one process or many."""

import math
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .evaluate import load_rows
from .messages import quiet_transformers
from .options import ColumnOption, Dtype, check_model, parse_columns


if TYPE_CHECKING:
    from ..modeling_anomalyclip import AnomalyCLIPModel


class Precision(StrEnum):
    """What the forward pass is computed in."""

    no = "no"
    bf16 = "bf16"
    fp16 = "fp16"


BaseModelOption = Annotated[
    str, typer.Option(help="A CLIP: Hub id or folder; without, the demonstration model's.", show_default=False)
]
DatasetOption = Annotated[
    list[str],
    typer.Option(
        help="A name that `anomalyclip datasets` lists; repeat with --data-dir for more.", show_default=False
    ),
]
DataDirOption = Annotated[list[str], typer.Option(help="Where it was unpacked.", show_default=False)]
SplitOption = Annotated[str, typer.Option(help="test: the split with anomalies, as in the paper; or train.")]
CategoryOption = Annotated[list[str] | None, typer.Option(help="Only this one; repeat for more.")]
SyntheticOption = Annotated[
    bool, typer.Option("--synthetic", help="Use normal images only, and draw defects into copies of them.")
]
FeatureLayerOption = Annotated[
    list[int] | None, typer.Option(help="Vision layer to tap, from 1; repeat for several; default: the last.")
]
PushOption = Annotated[
    str | None, typer.Option(help="Hub id to push checkpoints' prompts and the model to.", show_default=False)
]
LicenseOption = Annotated[
    str | None, typer.Option(help="Of the weights, for the model card, as the Hub writes it.", show_default=False)
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint that is whole.")]


def train(
    dataset: DatasetOption,
    data_dir: DataDirOption,
    output_dir: Annotated[Path, typer.Option(help="Where checkpoints and the model go.", show_default=False)],
    base_model: BaseModelOption = "",
    split: SplitOption = "test",
    category: CategoryOption = None,
    column: ColumnOption = None,
    synthetic: SyntheticOption = False,
    epochs: Annotated[float, typer.Option(help="Times that each image is seen.")] = 15.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step and process.")] = 8,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches per step.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, constant.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of prompts and order.")] = 111,
    image_size: Annotated[int | None, typer.Option(help="Side in pixels; default: up to 518.")] = None,
    feature_layer: FeatureLayerOption = None,
    pixel_loss_weight: Annotated[float, typer.Option(help="Of the local loss; 0 for none.")] = 4.0,
    cache: Annotated[bool, typer.Option(help="Compute features of the frozen CLIP once.")] = True,
    cache_dir: Annotated[Path | None, typer.Option(help="Default: _features in --output-dir.")] = None,
    cache_dtype: Annotated[Dtype, typer.Option(help="Precision of the features.")] = Dtype.float16,
    precision: Annotated[Precision, typer.Option(help="Mixed precision of the forward pass.")] = Precision.no,
    report_to: Annotated[str, typer.Option(help="none, tensorboard, trackio, …")] = "none",
    resume: ResumeOption = False,
    push_to_hub: PushOption = None,
    private: Annotated[bool | None, typer.Option(help="Of a new repository on the Hub.")] = None,
    license: LicenseOption = None,
) -> None:
    """Learn the prompts of AnomalyCLIP on the anomalies of other things than it shall find.

    Defaults are the paper's. Several processes share the work, under `accelerate launch -m anomalyclip_hf.cli train …`
    or `torchrun`.
    """
    from ..training.arguments import AnomalyCLIPTrainingArguments

    _check_request(output_dir, resume, epochs)
    arguments = AnomalyCLIPTrainingArguments(
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulate,
        learning_rate=learning_rate,
        seed=seed,
        cache_features=cache,
        cache_dir=str(cache_dir) if cache_dir else None,
        cache_dtype=cache_dtype.value,
        synthetic_anomalies=synthetic,
        **_trainer_options(output_dir, precision, report_to, push_to_hub, private),
    )
    rows = _load_all(dataset, data_dir, split, category, parse_columns(column))
    settings = _given(image_size=image_size, feature_layers=feature_layer, pixel_loss_weight=pixel_loss_weight)
    _train(arguments, base_model, settings, rows, resume, license)


def _check_request(output_dir: Path, resume: bool, epochs: float) -> None:
    """Keep what an earlier training has written; before processes wait for each other, so that all of them look."""
    from ..training.checkpoints import latest_complete_checkpoint

    if not 0 < epochs < math.inf:
        raise ValueError(f"--epochs is {epochs:g}; expected a number above 0, as 15.")
    names = ("config.json", "README.md", "training.json", "*.safetensors", "checkpoint-*/trainer_state.json")
    finished = _find_first(output_dir, *names)  # none of them: its first checkpoint was cut off
    can_resume = finished is None or latest_complete_checkpoint(output_dir) is not None
    found = finished or _find_first(output_dir, "checkpoint-*")
    if found is not None and not (resume and can_resume):
        lack, remedy = ("", ", or go on with --resume") if can_resume else (" and no checkpoint that is whole", "")
        raise FileExistsError(f"{output_dir} holds {found} already{lack}; choose another --output-dir{remedy}.")


def _find_first(folder: Path, *patterns: str) -> Path | None:
    """What fits the first pattern that anything fits, below the folder."""
    return next((path.relative_to(folder) for pattern in patterns for path in sorted(folder.glob(pattern))), None)


def _trainer_options(
    output_dir: Path, precision: Precision, report_to: str, repo: str | None, private: bool | None
) -> dict[str, Any]:
    """What is any Trainer's."""
    options: dict[str, Any] = {"output_dir": str(output_dir), "report_to": report_to}
    if precision is not Precision.no:
        options[precision.value] = True
    if repo is not None:
        options |= {"push_to_hub": True, "hub_model_id": repo, "hub_private_repo": private}
    return options


def _given(**settings: Any) -> dict[str, Any]:
    """Those that the user has set."""
    return {name: value for name, value in settings.items() if value is not None}


def _load_all(
    names: list[str], folders: list[str], split: str, categories: list[str] | None, columns: dict[str, str]
) -> Any:
    import datasets

    if len(names) != len(folders):
        raise ValueError(
            f"got {len(names)} --dataset and {len(folders)} --data-dir; give one of each for every data set."
        )
    options = {"columns": columns}
    pairs = zip(names, folders, strict=True)
    return datasets.concatenate_datasets(
        [load_rows(name, folder, split, categories, options) for name, folder in pairs]
    )


def _train(
    arguments: Any, base_model: str, settings: dict[str, Any], rows: Any, resume: bool, license: str | None
) -> None:
    from transformers import set_seed

    from ..training.trainer import AnomalyCLIPTrainer

    quiet_transformers()
    set_seed(arguments.seed)  # of the prompts
    model = load_base_model(base_model, settings)
    trainer = AnomalyCLIPTrainer(model, arguments, train_dataset=rows)
    trainer.train(resume_from_checkpoint=resume or None)
    if arguments.push_to_hub:
        trainer.push_to_hub(license=license)
    else:
        trainer.save_model()
        trainer.create_model_card(license=license)
    if arguments.should_save:
        print(f"The model is in {arguments.output_dir}; try it with predict --model.", file=sys.stderr)


def load_base_model(name: str, settings: dict[str, Any]) -> "AnomalyCLIPModel":
    """Put fresh prompts on a CLIP, or on that of the demonstration model."""
    from transformers import AutoTokenizer

    from ..assets import DEFAULT_MODEL
    from ..modeling_anomalyclip import AnomalyCLIPModel

    check_model(name)
    if name:
        return AnomalyCLIPModel.from_clip_pretrained(name, **settings)
    shipped = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL)
    own = {"image_size": shipped.config.image_size, "feature_layers": shipped.config.feature_layers}
    return AnomalyCLIPModel.from_clip(
        shipped.clip, lambda: AutoTokenizer.from_pretrained(DEFAULT_MODEL), **(own | settings)
    )
