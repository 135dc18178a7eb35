# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip train`: train prompts on a frozen CLIP, in one process or several."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .evaluate import load_rows
from .messages import quiet_transformers
from .options import (
    AllowOutsideOption,
    ColumnOption,
    Dtype,
    EncodingOption,
    NormalLabelOption,
    ValueRangeOption,
    check_model,
    dataset_options,
    parse_value_range,
)


class Precision(StrEnum):
    """Mixed precision of the forward pass."""

    no = "no"
    bf16 = "bf16"
    fp16 = "fp16"


BaseModelOption = Annotated[
    str,
    typer.Option(help="CLIP to train on: Hub id or folder; default: the demonstration model's.", show_default=False),
]
DatasetOption = Annotated[
    list[str],
    typer.Option(
        help="Dataset, by a name that `anomalyclip datasets` lists; repeat with --data-dir for more.",
        show_default=False,
    ),
]
DataDirOption = Annotated[list[str], typer.Option(help="Folder of the dataset.", show_default=False)]
OutputDirOption = Annotated[
    Path, typer.Option(help="Folder for checkpoints and the trained model.", show_default=False)
]
SplitOption = Annotated[str, typer.Option(help="Split: test, which has anomalies and is used in the paper, or train.")]
CategoryOption = Annotated[list[str] | None, typer.Option(help="Train on this category only; repeat for more.")]
SyntheticOption = Annotated[
    bool, typer.Option("--synthetic", help="Train on normal images, and copies of them with synthetic defects.")
]
FeatureLayerOption = Annotated[
    list[int] | None,
    typer.Option(help="Vision layer selected for the map, from 1; repeat for more; default: the last."),
]
CacheDirOption = Annotated[
    str | None, typer.Option(help="Folder for the features; default: _features in --output-dir.")
]
PushOption = Annotated[
    str | None, typer.Option(help="Hub id of the repository to push the trained model to.", show_default=False)
]
LicenseOption = Annotated[
    str | None,
    typer.Option("--license", help="License of the weights, for the model card, such as mit.", show_default=False),
]


def train(
    dataset: DatasetOption,
    data_dir: DataDirOption,
    output_dir: OutputDirOption,
    base_model: BaseModelOption = "",
    split: SplitOption = "test",
    category: CategoryOption = None,
    column: ColumnOption = None,
    normal_label: NormalLabelOption = None,
    encoding: EncodingOption = None,
    allow_outside: AllowOutsideOption = False,
    value_range: ValueRangeOption = None,
    synthetic: SyntheticOption = False,
    epochs: Annotated[float, typer.Option(help="Number of epochs.")] = 15.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch and process.")] = 8,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches per optimiser step.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of Adam, constant.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Seed of the new prompts and the order of images.")] = 111,
    image_size: Annotated[int | None, typer.Option(help="Side of the images in pixels; default: up to 518.")] = None,
    feature_layer: FeatureLayerOption = None,
    pixel_loss_weight: Annotated[float, typer.Option(help="Weight of the pixel loss; 0 for none.")] = 4.0,
    cache: Annotated[bool, typer.Option(help="Cache CLIP features, so each image is encoded once.")] = True,
    cache_dir: CacheDirOption = None,
    cache_dtype: Annotated[Dtype, typer.Option(help="Data type of the cached features.")] = Dtype.float16,
    precision: Annotated[Precision, typer.Option(help="Mixed precision of the forward pass.")] = Precision.no,
    report_to: Annotated[str, typer.Option(help="Where to log: none, tensorboard, trackio, …")] = "none",
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the latest complete checkpoint.")] = False,
    push_to_hub: PushOption = None,
    private: Annotated[bool | None, typer.Option(help="Make a new repository on the Hub private.")] = None,
    license: LicenseOption = None,
) -> None:
    """Train AnomalyCLIP prompts on an auxiliary dataset.

    The defaults are the paper's. To share the work between processes, use
    `accelerate launch -m anomalyclip_hf.cli train …` or `torchrun`.
    """
    from ..training.arguments import AnomalyCLIPTrainingArguments
    from ..training.checkpoints import check_output_dir

    arguments = AnomalyCLIPTrainingArguments(
        num_train_epochs=epochs, per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulate,
        learning_rate=learning_rate, seed=seed, cache_features=cache, cache_dir=cache_dir,
        cache_dtype=cache_dtype.value, synthetic_anomalies=synthetic,
        **_trainer_options(output_dir, precision, report_to, push_to_hub, private),
    )  # fmt: skip
    check_output_dir(output_dir, resume)
    options = dataset_options(column, normal_label, encoding, allow_outside)
    rows = _load_datasets(dataset, data_dir, split, category, options)
    settings = _given(image_size, feature_layer, pixel_loss_weight)
    _train(arguments, rows, base_model, settings, parse_value_range(value_range), resume, license)


def _given(image_size: int | None, feature_layers: list[int] | None, pixel_loss_weight: float) -> dict[str, Any]:
    """Return the settings of the model that the user has chosen."""
    settings = {"image_size": image_size, "feature_layers": feature_layers, "pixel_loss_weight": pixel_loss_weight}
    return {name: value for name, value in settings.items() if value is not None}


def _trainer_options(
    output_dir: Path, precision: Precision, report_to: str, repo_id: str | None, private: bool | None
) -> dict[str, Any]:
    """Return the arguments that any Trainer has."""
    return {
        "output_dir": str(output_dir),
        "bf16": precision is Precision.bf16,
        "fp16": precision is Precision.fp16,
        "report_to": report_to,
        "push_to_hub": repo_id is not None,
        "hub_model_id": repo_id,
        "hub_private_repo": private,
    }


def _load_datasets(
    names: list[str], folders: list[str], split: str, categories: list[str] | None, options: dict[str, Any]
) -> Any:
    import datasets

    if len(names) != len(folders):
        raise ValueError(f"got {len(names)} --dataset and {len(folders)} --data-dir; give one of each per dataset.")
    sources = zip(names, folders, strict=True)
    return datasets.concatenate_datasets([load_rows(*source, split, categories, options) for source in sources])


def _train(
    arguments: Any,
    rows: Any,
    base_model: str,
    settings: dict[str, Any],
    value_range: Any,
    resume: bool,
    license: str | None,
) -> None:
    from transformers import set_seed

    from ..processing_anomalyclip import AnomalyCLIPProcessor
    from ..training.base_model import load_base_model
    from ..training.trainer import AnomalyCLIPTrainer

    check_model(base_model)
    quiet_transformers()
    set_seed(arguments.seed)  # decides the new prompts
    model = load_base_model(base_model, **settings)
    processor = AnomalyCLIPProcessor.from_config(model.config, value_range=value_range)
    trainer = AnomalyCLIPTrainer(model, arguments, train_dataset=rows, processing_class=processor)
    trainer.train(resume_from_checkpoint=resume)
    if arguments.push_to_hub:
        trainer.push_to_hub(license=license)
    else:
        trainer.save_model()
        trainer.create_model_card(license=license)
    if arguments.should_save:
        folder = arguments.output_dir
        print(f"The model is in {folder}; try it with `anomalyclip predict --model {folder}`.", file=sys.stderr)
