# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import EarlyStoppingCallback

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPTrainer, AnomalyCLIPTrainingArguments
from anomalyclip_hf.training.checkpoints import mark_complete
from anomalyclip_hf.training.examples import EpochOrder, collate
from conftest import tiny_model


@pytest.fixture
def make_trainer(parts, tmp_path):
    def make(folder="out", dataset=parts, model=None, **settings):
        trainer_settings = {name: settings.pop(name) for name in ("callbacks", "eval_dataset") if name in settings}
        defaults = {"num_train_epochs": 3, "report_to": "none", "disable_tqdm": True, "cache_dtype": "float32"}
        args = AnomalyCLIPTrainingArguments(str(tmp_path / folder), **(defaults | settings))
        return AnomalyCLIPTrainer(model or tiny_model(), args, train_dataset=dataset, **trainer_settings)

    return make


def prompts(trainer) -> torch.Tensor:
    return torch.cat([prompt.detach().flatten() for prompt in trainer.model.prompt_learner.parameters()])


def test_against_a_loop_with_adam(make_trainer, images):
    trainer = make_trainer(cache_features=False)
    trainer.train()
    model = tiny_model()
    optimizer = torch.optim.Adam(model.prompt_learner.parameters(), lr=1e-3, betas=(0.5, 0.999))
    order = EpochOrder(16, 8, 111)
    for epoch in range(3):
        order.set_epoch(epoch)
        numbers = [place.number for place in order]
        for step in (numbers[:8], numbers[8:]):
            batch = collate([images[number] for number in step])
            optimizer.zero_grad()
            model(batch["pixel_values"], labels=batch["labels"], masks=batch["masks"]).loss.backward()
            optimizer.step()
    expected = torch.cat([prompt.detach().flatten() for prompt in model.prompt_learner.parameters()])
    torch.testing.assert_close(prompts(trainer), expected, rtol=1e-5, atol=1e-6)
    assert trainer.state.global_step == 6


def test_the_cache_changes_nothing(make_trainer):
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


def test_accumulated_batches_are_one_batch(make_trainer, parts):
    dataset = parts.select(range(13))  # so that the last step is short
    whole = make_trainer("whole", dataset, per_device_train_batch_size=8)
    parted = make_trainer("parted", dataset, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    whole.train()
    parted.train()
    assert whole.state.global_step == parted.state.global_step
    torch.testing.assert_close(prompts(parted), prompts(whole), rtol=1e-4, atol=1e-6)


def test_what_fills_the_last_batch_weighs_nothing(make_trainer, parts):
    dataset = parts.select([0, 1, 8, 9, 4])
    filled = make_trainer("filled", dataset, per_device_train_batch_size=8)
    exact = make_trainer("exact", dataset, per_device_train_batch_size=5)
    filled.train()
    exact.train()
    torch.testing.assert_close(prompts(filled), prompts(exact), rtol=1e-4, atol=1e-6)


def test_checkpoints_hold_prompts_and_resume_exactly(make_trainer, tmp_path):
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
    torch.testing.assert_close(prompts(resumed), prompts(whole), rtol=0, atol=0)


def test_a_damaged_checkpoint_is_passed_over(make_trainer, tmp_path):
    whole = make_trainer()
    whole.train()
    damaged = tmp_path / "out" / "checkpoint-6" / "prompts.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    resumed = make_trainer()
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 6
    torch.testing.assert_close(prompts(resumed), prompts(whole), rtol=0, atol=0)
    (tmp_path / "out" / "checkpoint-4" / "complete.json").unlink()
    with pytest.raises(ValueError, match="checkpoint-4 is damaged or was never finished"):
        make_trainer().train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_trapped_checkpoint_is_refused_and_does_not_run(make_trainer, tmp_path, name):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    make_trainer().train()
    folder = tmp_path / "out" / "checkpoint-6"
    torch.save({"state": Bomb()}, folder / name)
    mark_complete(folder)  # as whoever laid the trap would
    with pytest.raises(OSError, match=f"{name} holds more than tensors: its pickle wants to run") as caught:
        make_trainer().train(resume_from_checkpoint=str(folder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_nothing_to_resume_starts_anew(make_trainer):
    trainer = make_trainer()
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 6


def test_old_checkpoints_go(make_trainer, tmp_path):
    make_trainer(save_total_limit=1).train()
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-6"]


@pytest.mark.parametrize("known", [True, False])
def test_the_trained_model_loads(make_trainer, tmp_path, clip_folder, known):
    model = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), image_size=40)
    model.config.base_model_name_or_path = str(clip_folder) if known else None
    trainer = make_trainer(model=model)
    trainer.train()
    trainer.save_model()
    assert (tmp_path / "out" / ("prompts.safetensors" if known else "model.safetensors")).exists()
    loaded = AnomalyCLIPModel.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(loaded.get_text_embeds(), trainer.model.get_text_embeds())
    assert (tmp_path / "out" / "processor_config.json").exists()


@pytest.mark.parametrize("cache_features", [True, False])
def test_a_loss_that_is_no_number_stops(make_trainer, tmp_path, cache_features):
    make_trainer(num_train_epochs=1).train()
    trainer = make_trainer(cache_features=cache_features, learning_rate=1e30, num_train_epochs=20, save_strategy="no")
    with pytest.raises(FloatingPointError, match=r"the loss is (nan|inf) in step \d+, with .*/test/.*png"):
        trainer.train()
    assert (tmp_path / "out" / "checkpoint-2" / "complete.json").exists()


def test_evaluation_gives_the_packages_figures(make_trainer, parts):
    trainer = make_trainer(eval_dataset=parts, eval_strategy="epoch", per_device_eval_batch_size=5)
    trainer.train()
    figures = trainer.evaluate()
    model = trainer.model.eval()
    scores = []
    for row in parts:
        with torch.no_grad():
            scores.append(model(**trainer.processor(images=row["image"])).image_scores.item())
    assert figures["eval_image_auroc"] == pytest.approx(roc_auc_score(parts["label"], scores))
    assert np.isfinite(figures["eval_loss"])
    assert 0 <= figures["eval_pixel_aupro"] <= 1
    anomalous = parts.filter(lambda label: label == 1, input_columns="label")
    assert "eval_image_auroc" not in trainer.evaluate(anomalous)  # undefined without normal images
    assert [entry["eval_image_auroc"] for entry in trainer.state.log_history if "eval_image_auroc" in entry]


def test_early_stopping_and_the_best_model(make_trainer, parts):
    trainer = make_trainer(
        eval_dataset=parts,
        eval_strategy="epoch",
        num_train_epochs=30,
        learning_rate=0.0,
        load_best_model_at_end=True,
        metric_for_best_model="pixel_auroc",
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    trainer.train()
    assert trainer.state.epoch == 3


def test_synthetic_anomalies(make_trainer, parts):
    normal = parts.filter(lambda label: label == 0, input_columns="label")
    trainer = make_trainer(dataset=normal, synthetic_anomalies=True)
    trainer.train()
    assert trainer.state.global_step == 6  # 8 images and 8 with a drawn defect, in batches of 8


@pytest.mark.parametrize("cache_features", [True, False])
def test_mixed_precision(make_trainer, cache_features):
    full, mixed = make_trainer("full"), make_trainer("mixed", bf16=True, cache_features=cache_features)
    full.train()
    mixed.train()
    losses = [trainer.state.log_history[-1]["train_loss"] for trainer in (full, mixed)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert prompts(mixed).dtype == torch.float32


def test_labels_alone_teach_only_without_the_local_loss(make_trainer, parts):
    unmasked = parts.map(lambda row: {"mask": None}, features=parts.features)
    with pytest.raises(ValueError, match="no anomalous image has a mask.*set pixel_loss_weight=0"):
        make_trainer(dataset=unmasked)
    trainer = make_trainer(dataset=unmasked, model=tiny_model(pixel_loss_weight=0.0))
    trainer.train()
    assert trainer.state.global_step == 6


def test_prompts_that_are_not_learned(make_trainer):
    with pytest.raises(ValueError, match="the prompts of the model are 'ensemble'"):
        make_trainer(model=tiny_model(prompts="ensemble"))
