# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from transformers import EarlyStoppingCallback, TrainingArguments

from anomalyclip_hf import (
    AnomalyCLIPModel,
    AnomalyCLIPTrainer,
    AnomalyCLIPTrainingArguments,
    AnomalyScorer,
    evaluate_model,
    load_anomaly_dataset,
)
from anomalyclip_hf.image_processing_anomalyclip import masks_to_tensor
from anomalyclip_hf.training.checkpoints import mark_complete
from anomalyclip_hf.training.examples import EpochOrder, collate
from conftest import tiny_model


TRAINER_SETTINGS = ("callbacks", "eval_dataset", "compute_metrics", "model_init", "data_collator")


@pytest.fixture
def make_trainer(parts, tmp_path):
    def make(folder="out", dataset=parts, model=None, **settings):
        trainer_settings = {name: settings.pop(name) for name in TRAINER_SETTINGS if name in settings}
        defaults = {"num_train_epochs": 3, "report_to": "none", "disable_tqdm": True, "cache_dtype": "float32"}
        args = AnomalyCLIPTrainingArguments(str(tmp_path / folder), **(defaults | settings))
        if "model_init" not in trainer_settings:
            model = model or tiny_model()
        return AnomalyCLIPTrainer(model, args, train_dataset=dataset, **trainer_settings)

    return make


def prompts(trainer) -> torch.Tensor:
    return torch.cat([prompt.detach().flatten() for prompt in trainer.model.prompt_learner.parameters()])


def predict_one_by_one(trainer, dataset) -> tuple[np.ndarray, np.ndarray]:
    """Scores and smoothed maps of a dataset, without `Trainer` and its cache."""
    scores, maps = [], []
    for image in dataset["image"]:
        with torch.no_grad():
            outputs = trainer.model.eval()(**trainer.processor(images=image))
        scores.append(outputs.image_scores.item())
        maps.append(gaussian_filter(outputs.anomaly_maps[0].numpy(), trainer.processor.smoothing_sigma))
    return np.array(scores), np.stack(maps)


# ------------------------------------------------------------------------------------------------------ training


def test_training_matches_a_plain_loop_with_adam(make_trainer, images):
    trainer = make_trainer(cache_features=False)
    trainer.train()
    model = tiny_model()
    optimizer = torch.optim.Adam(model.prompt_learner.parameters(), lr=1e-3, betas=(0.5, 0.999))
    order = EpochOrder(16, 8, 111)
    for epoch in range(3):
        order.set_epoch(epoch)
        numbers = [item.number for item in order]
        for step in (numbers[:8], numbers[8:]):
            batch = collate([images[number] for number in step])
            optimizer.zero_grad()
            model(batch["pixel_values"], labels=batch["labels"], masks=batch["masks"]).loss.backward()
            optimizer.step()
    expected = torch.cat([prompt.detach().flatten() for prompt in model.prompt_learner.parameters()])
    torch.testing.assert_close(prompts(trainer), expected, rtol=1e-5, atol=1e-6)
    assert trainer.state.global_step == 6


def test_the_cache_does_not_change_the_result(make_trainer):
    plain, cached = make_trainer("plain", cache_features=False), make_trainer("cached")
    plain.train()
    cached.train()
    torch.testing.assert_close(prompts(cached), prompts(plain), rtol=1e-4, atol=1e-6)


def test_only_prompts_change(make_trainer):
    trainer = make_trainer()
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train()
    changed = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"prompt_learner.{name}" for name, _ in trainer.model.prompt_learner.named_parameters()}


def test_accumulated_batches_equal_one_batch(make_trainer, parts):
    dataset = parts.select(range(13))  # so that the last step is short
    whole = make_trainer("whole", dataset, per_device_train_batch_size=8)
    parted = make_trainer("parted", dataset, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    whole.train()
    parted.train()
    assert whole.state.global_step == parted.state.global_step
    torch.testing.assert_close(prompts(parted), prompts(whole), rtol=1e-4, atol=1e-6)


def test_padding_of_the_last_batch_has_no_weight(make_trainer, parts):
    dataset = parts.select([0, 1, 8, 9, 4])
    padded = make_trainer("padded", dataset, per_device_train_batch_size=8)
    exact = make_trainer("exact", dataset, per_device_train_batch_size=5)
    padded.train()
    exact.train()
    torch.testing.assert_close(prompts(padded), prompts(exact), rtol=1e-4, atol=1e-6)


def test_synthetic_anomalies(make_trainer, parts):
    normal = parts.filter(lambda label: label == 0, input_columns="label")
    trainer = make_trainer(dataset=normal, synthetic_anomalies=True)
    trainer.train()
    assert trainer.state.global_step == 6  # 8 images and 8 with a synthetic defect, in batches of 8


@pytest.mark.parametrize("cache_features", [True, False])
def test_mixed_precision(make_trainer, cache_features):
    full, mixed = make_trainer("full"), make_trainer("mixed", bf16=True, cache_features=cache_features)
    full.train()
    mixed.train()
    losses = [trainer.state.log_history[-1]["train_loss"] for trainer in (full, mixed)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert prompts(mixed).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", ["loaded", "converted"])
def test_prompts_are_trained_in_float32_on_a_clip_in_16_bits(make_trainer, clip_folder, tmp_path, dtype, how):
    def load(dtype):
        torch.manual_seed(5)
        return AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), image_size=40, dtype=dtype)

    exact = make_trainer("exact", model=load(torch.float32), learning_rate=1e-5)
    model = load(dtype) if how == "loaded" else load(torch.float32).to(dtype)
    trainer = make_trainer("short", model=model, learning_rate=1e-5)
    start = prompts(trainer).clone()
    for run in (exact, trainer):
        run.train()
        run.save_model()
    trained = prompts(trainer)
    assert trained.dtype == torch.float32
    assert trainer.model.clip.dtype == dtype
    # steps of 1e-5 are lost where a prompt of 0.02 is rounded to 16 bits
    assert ((trained - start).abs() > 0).float().mean() > 0.99
    losses = [run.state.log_history[-1]["train_loss"] for run in (exact, trainer)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    loaded = AnomalyCLIPModel.from_pretrained(tmp_path / "short", dtype=dtype)
    assert torch.equal(loaded.prompt_learner.normal_prompt, trainer.model.prompt_learner.normal_prompt)


@pytest.mark.parametrize("cache_features", [True, False])
def test_a_loss_that_is_not_finite_stops_the_training(make_trainer, tmp_path, cache_features):
    make_trainer(num_train_epochs=1).train()
    trainer = make_trainer(cache_features=cache_features, learning_rate=1e30, num_train_epochs=20, save_strategy="no")
    with pytest.raises(FloatingPointError, match=r"step \d+, with .*/test/.*png"):
        trainer.train()
    assert (tmp_path / "out" / "checkpoint-2" / "complete.json").exists()


# ---------------------------------------------------------------------------------------------- what can be passed


@pytest.fixture
def foreign(parts):
    """The parts as somebody else would publish them: other feature types, no category, no path."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "mask": datasets.Image(),
            "label": datasets.ClassLabel(names=["normal", "anomalous"]),
        }
    )
    rows = [{name: row[name] for name in features} for row in parts]
    return datasets.Dataset.from_list(rows, features=features)


@pytest.mark.parametrize("kind", ["foreign", "mapped", "cast", "rows", "paths"])
def test_any_dataset_with_image_mask_and_label_gives_the_same_prompts(make_trainer, parts, foreign, kind):
    plain = {"image": datasets.Image(), "mask": datasets.Image()}
    undecoded = parts.cast_column("image", datasets.Image(decode=False)).cast_column(
        "mask", datasets.Image(decode=False)
    )
    dataset = {
        "foreign": lambda: foreign,
        "mapped": lambda: parts.map(lambda row: {"extra": 1}).filter(lambda row: True),
        "cast": lambda: parts.cast(datasets.Features({**parts.features, **plain})),
        "rows": lambda: list(foreign),
        "paths": lambda: datasets.Dataset.from_list(
            [
                {"image": row["image"]["path"], "mask": row["mask"] and row["mask"]["path"], "label": row["label"]}
                for row in undecoded
            ]
        ),
    }[kind]()
    expected, trainer = make_trainer("expected"), make_trainer("other", dataset=dataset)
    expected.train()
    trainer.train()
    torch.testing.assert_close(prompts(trainer), prompts(expected))


@pytest.mark.parametrize("argument", ["train_dataset", "eval_dataset"])
def test_a_streamed_dataset_is_refused(make_trainer, parts, argument):
    streamed = parts.to_iterable_dataset()
    settings = {"dataset": streamed} if argument == "train_dataset" else {"eval_dataset": streamed}
    with pytest.raises(ValueError, match=f"^{argument}: .*streaming") as caught:
        make_trainer(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"data_collator": collate}, "data_collator"),
        ({"model": torch.nn.DataParallel(torch.nn.Linear(1, 1))}, "DataParallel"),
    ],
)
def test_arguments_that_are_not_supported_are_named(make_trainer, settings, name):
    with pytest.raises(TypeError, match=name):
        make_trainer(**settings)


def test_plain_training_arguments_are_refused(parts, tmp_path):
    with pytest.raises(TypeError, match="AnomalyCLIPTrainingArguments"):
        AnomalyCLIPTrainer(tiny_model(), TrainingArguments(str(tmp_path)), train_dataset=parts)


def test_model_or_model_init(make_trainer, parts, tmp_path):
    arguments = AnomalyCLIPTrainingArguments(str(tmp_path))
    for options in ({}, {"model": tiny_model(), "model_init": tiny_model}):
        with pytest.raises(ValueError, match="model_init"):
            AnomalyCLIPTrainer(args=arguments, train_dataset=parts, **options)
    expected, trainer = make_trainer("model"), make_trainer("init", model_init=lambda: tiny_model())
    expected.train()
    for _ in range(2):  # each time with a new model
        trainer.train()
        assert torch.equal(prompts(trainer), prompts(expected))


def test_only_one_of_several_gpus_is_used_in_one_process(parts, tmp_path, caplog):
    arguments = AnomalyCLIPTrainingArguments(str(tmp_path), num_train_epochs=1, disable_tqdm=True)
    arguments._n_gpu = 2 * arguments.n_gpu or 2
    trainer = AnomalyCLIPTrainer(tiny_model(), arguments, train_dataset=parts)
    assert "accelerate launch" in caplog.text
    trainer.train()
    assert trainer.state.global_step == 2


def test_labels_without_masks_need_a_pixel_loss_weight_of_0(make_trainer, parts):
    unmasked = parts.map(lambda row: {"mask": None}, features=parts.features)
    with pytest.raises(ValueError, match="pixel_loss_weight=0"):
        make_trainer(dataset=unmasked)
    trainer = make_trainer(dataset=unmasked, model=tiny_model(pixel_loss_weight=0.0))
    trainer.train()
    assert trainer.state.global_step == 6


def test_an_ensemble_of_prompts_is_refused(make_trainer):
    with pytest.raises(ValueError, match="'ensemble'"):
        make_trainer(model=tiny_model(prompts="ensemble"))


# ---------------------------------------------------------------------------------------------------- checkpoints


def test_checkpoints_contain_prompts_and_resume_exactly(make_trainer, tmp_path):
    whole = make_trainer("whole")
    whole.train()
    first = make_trainer("parts", save_strategy="steps", save_steps=3)  # in the middle of an epoch
    first.train()
    folder = tmp_path / "parts" / "checkpoint-3"
    assert not list(folder.glob("model*"))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1e6

    model = tiny_model()
    torch.nn.init.zeros_(model.prompt_learner.normal_prompt.data)  # is overwritten by the checkpoint
    resumed = make_trainer("parts", model=model)
    resumed.train(resume_from_checkpoint=str(folder))
    assert torch.equal(prompts(resumed), prompts(whole))


def test_a_damaged_checkpoint_is_not_used(make_trainer, tmp_path):
    whole = make_trainer()
    whole.train()
    damaged = tmp_path / "out" / "checkpoint-6" / "prompts.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    resumed = make_trainer()
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 6
    assert torch.equal(prompts(resumed), prompts(whole))
    (tmp_path / "out" / "checkpoint-4" / "complete.json").unlink()
    with pytest.raises(ValueError, match="checkpoint-4"):
        make_trainer().train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_in_a_checkpoint_cannot_run_code(make_trainer, tmp_path, name):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    make_trainer().train()
    folder = tmp_path / "out" / "checkpoint-2"
    torch.save({"state": Bomb()}, folder / name)
    mark_complete(folder)  # as an attacker would
    with pytest.raises(OSError, match="checkpoint-2") as caught:
        make_trainer().train(resume_from_checkpoint=str(folder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_training_starts_where_there_is_no_checkpoint(make_trainer):
    trainer = make_trainer()
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 6


def test_old_checkpoints_are_removed(make_trainer, tmp_path):
    make_trainer(save_total_limit=1).train()
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-6"]


@pytest.mark.parametrize("folder", ["out", "checkpoints", "checkpoint-6"])
@pytest.mark.parametrize("known", [True, False])
def test_the_trained_model_loads_whatever_its_folder_is_called(make_trainer, tmp_path, clip_folder, folder, known):
    model = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), image_size=40)
    model.config.base_model_name_or_path = str(clip_folder) if known else None
    trainer = make_trainer(folder, model=model, num_train_epochs=1)
    trainer.train()
    trainer.save_model()
    trainer.save_model(str(tmp_path / folder / "checkpoint-final"))
    for saved in (tmp_path / folder, tmp_path / folder / "checkpoint-final"):
        assert (saved / ("prompts.safetensors" if known else "model.safetensors")).exists()
        assert (saved / "processor_config.json").exists()
        loaded = AnomalyCLIPModel.from_pretrained(saved)
        torch.testing.assert_close(loaded.get_text_embeds(), trainer.model.get_text_embeds())
    assert not list((tmp_path / folder / "checkpoint-2").glob("model*"))


def test_the_card_names_optimiser_and_schedule(make_trainer, tmp_path):
    trainer = make_trainer(num_train_epochs=1)
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    settings = json.loads((tmp_path / "out" / "training.json").read_text())["settings"]
    assert settings["optimiser"].startswith("adamw, ")
    assert settings["optimiser"].endswith("schedule constant")


# ---------------------------------------------------------------------------------------------------- evaluation


def test_metrics_are_means_over_categories(make_trainer, parts):
    # without its easy images one category is harder than the other, so that pooling gives other values
    trainer = make_trainer(eval_dataset=parts, per_device_eval_batch_size=5)
    metrics = trainer.evaluate()
    scores, maps = predict_one_by_one(trainer, parts)
    labels, categories = np.array(parts["label"]), np.array(parts["category"])
    masks = masks_to_tensor(list(parts["mask"]), trainer.processor.size).numpy()
    image_auroc, pixel_auroc = [], []
    for category in ("bolt", "nut"):
        chosen = categories == category
        image_auroc.append(roc_auc_score(labels[chosen], scores[chosen]))
        pixel_auroc.append(roc_auc_score(masks[chosen].ravel(), maps[chosen].ravel()))
    assert metrics["eval_image_auroc"] == pytest.approx(np.mean(image_auroc))
    assert metrics["eval_pixel_auroc"] == pytest.approx(np.mean(pixel_auroc), abs=1e-3)
    assert roc_auc_score(labels, scores) != pytest.approx(np.mean(image_auroc))
    assert np.isfinite(metrics["eval_loss"])


def test_undefined_metrics_are_left_out(make_trainer, parts):
    anomalous = parts.filter(lambda label: label == 1, input_columns="label")
    assert "eval_image_auroc" not in make_trainer().evaluate(anomalous)


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_an_anomalous_image_without_truth_counts_for_image_metrics_only(make_trainer, parts, parts_folder, how):
    path = parts_folder / "nut" / "ground_truth" / "scratch" / "002_mask.png"
    path.unlink() if how == "missing" else Image.new("L", (40, 40)).save(path)
    changed = load_anomaly_dataset("folder", parts_folder)
    (index,) = [number for number, name in enumerate(changed["path"]) if name.endswith("nut/test/scratch/002.png")]
    without = changed.select([number for number in range(16) if number != index])
    trainer = make_trainer()
    metrics, fewer = trainer.evaluate(changed), trainer.evaluate(without)
    assert metrics["eval_pixel_auroc"] == fewer["eval_pixel_auroc"]
    assert metrics["eval_image_auroc"] != fewer["eval_image_auroc"]

    expected = evaluate_model(AnomalyScorer(trainer.model, trainer.processor), changed, show_progress=False).metrics
    for name in ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro"):
        assert metrics[f"eval_{name}"] == pytest.approx(expected[name], abs=1e-4)


def test_several_datasets_for_evaluation(make_trainer, parts):
    halves = {"a": parts.select(range(8)), "b": parts.select(range(8, 16))}
    trainer = make_trainer(eval_dataset=halves, eval_strategy="epoch", num_train_epochs=1)
    trainer.train()
    metrics = trainer.evaluate()
    for name, half in halves.items():
        assert metrics[f"eval_{name}_image_auroc"] == trainer.evaluate(half)["eval_image_auroc"]
    assert trainer.evaluate({"c": parts})["eval_c_image_auroc"]


def test_an_ordinary_compute_metrics_is_called_once(make_trainer, parts):
    def compute_metrics(prediction):
        scores, maps = prediction.predictions
        labels, masks, _, _ = prediction.label_ids
        assert maps.shape == masks.shape == (16, 40, 40)
        return {"auroc": roc_auc_score(labels, scores)}

    trainer = make_trainer(eval_dataset=parts, compute_metrics=compute_metrics, per_device_eval_batch_size=5)
    scores, _ = predict_one_by_one(trainer, parts)
    assert trainer.evaluate()["eval_auroc"] == pytest.approx(roc_auc_score(parts["label"], scores))


@pytest.mark.parametrize("cache_features", [True, False])
def test_predict(make_trainer, parts, parts_folder, cache_features):
    trainer = make_trainer(cache_features=cache_features)
    output = trainer.predict(parts)
    scores, _ = predict_one_by_one(trainer, parts)
    np.testing.assert_allclose(output.predictions[0], scores, rtol=1e-4)
    assert output.predictions[1].shape == (16, 40, 40)
    assert output.label_ids[0].tolist() == parts["label"][:]
    assert output.metrics["test_image_auroc"] == trainer.evaluate(parts)["eval_image_auroc"]

    paths = [str(parts_folder / name) for name in parts["path"]]
    unlabelled = trainer.predict(paths)
    np.testing.assert_allclose(unlabelled.predictions[0], scores, rtol=1e-4)
    assert unlabelled.label_ids is None
    with pytest.raises(ValueError, match="16 images of eval_dataset have no label"):
        trainer.evaluate(paths)


def test_an_interrupted_evaluation_leaves_no_counts(make_trainer, parts, monkeypatch):
    trainer = make_trainer(eval_dataset=parts, per_device_eval_batch_size=4)
    expected = trainer.evaluate()
    forward, calls = trainer.model.forward, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    monkeypatch.setattr(trainer.model, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.evaluate()
    monkeypatch.undo()
    again = trainer.evaluate()
    names = [name for name in expected if "auroc" in name or "f1" in name]
    assert {name: again[name] for name in names} == {name: expected[name] for name in names}


@pytest.mark.parametrize("given", [True, False])
def test_a_loss_that_is_not_finite_stops_an_evaluation(make_trainer, parts, given):
    trainer = make_trainer(eval_dataset=parts if given else None)
    trainer.model.prompt_learner.normal_prompt.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="nut/test/scratch/003.png"):
        trainer.evaluate(parts.select([15]))


def stops_early(make_trainer, parts, folder, patience=3, **settings):
    return make_trainer(
        folder,
        eval_dataset=parts,
        eval_strategy="epoch",
        num_train_epochs=30,
        learning_rate=0.0,  # nothing improves after the first epoch
        load_best_model_at_end=True,
        metric_for_best_model="pixel_auroc",
        callbacks=[EarlyStoppingCallback(early_stopping_patience=patience)],
        **settings,
    )


def test_early_stopping_ends_at_the_same_step_after_a_resume(make_trainer, parts, tmp_path):
    trainer = stops_early(make_trainer, parts, "out")
    trainer.train()
    assert trainer.state.epoch == 4
    assert trainer.state.best_metric == trainer.evaluate()["eval_pixel_auroc"]
    for step in (4, 8):  # two epochs before the end, and at it
        resumed = stops_early(make_trainer, parts, "out")
        output = resumed.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{step}"))
        assert (output.global_step, resumed.state.epoch) == (8, 4)
        assert resumed.state.best_model_checkpoint == trainer.state.best_model_checkpoint
        assert torch.equal(prompts(resumed), prompts(trainer))
    patient = stops_early(make_trainer, parts, "out", patience=5)
    patient.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-8"))
    assert patient.state.epoch == 6


def test_frozen_prompts_are_refused(parts, tmp_path):
    with pytest.raises(ValueError, match="freeze_prompts"):
        AnomalyCLIPTrainer(tiny_model().freeze_prompts(), AnomalyCLIPTrainingArguments(str(tmp_path)), parts)
