# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The scripts that generate scenes and train and measure the default model."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPModel

from anomalyclip_hf import AnomalyCLIPModel
from anomalyclip_hf.modeling_anomalyclip import encode_image


ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tools" / "default_model"
sys.path.insert(0, str(FOLDER))

from collect_cutouts import decode_cutout  # noqa: E402
from defects import KINDS, apply_defect  # noqa: E402
from learn_prompts import choose_threshold  # noqa: E402
from losses_tower import NORMAL_LOGIT, attention_loss, patch_loss, state_loss, to_pixel_values, touched_patches  # noqa: E402
from optics import light_and_lens  # noqa: E402
from scenes import TextureBank, draw_pair  # noqa: E402
from surfaces import FAMILIES, draw_family, names  # noqa: E402
from train_tower import build_clip, initialise_vision, load_grown  # noqa: E402


def run(script: str, *arguments) -> str:
    command = [sys.executable, str(FOLDER / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_pairs_are_honest(split):
    rng = np.random.default_rng(0)
    for _ in range(10):
        normal, defective = draw_pair(rng, 64, split)
        assert normal.image.shape == defective.image.shape == (64, 64, 3)
        assert normal.image.dtype == np.uint8
        assert normal.defect is None
        assert not normal.mask.any()
        assert defective.defect
        assert defective.mask.any()
        assert normal.family == defective.family
        assert FAMILIES[normal.family].split == split


def test_pairs_repeat_with_their_seed():
    first, second = (draw_pair(np.random.default_rng(7), 64) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.mask, other.mask)


def test_the_splits_share_no_family():
    assert set(FAMILIES) == {
        name for split in ("train", "validation", "test") for name in names(split, True) + names(split, False)
    }
    assert all(
        len(names(split, is_object)) >= 2 for split in ("train", "validation", "test") for is_object in (True, False)
    )


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_can_be_drawn(name):
    image, foreground = draw_family(name, np.random.default_rng(1), 72, 48)
    assert image.shape == (72, 48, 3)
    assert image.dtype == np.uint8
    assert foreground.shape == (72, 48)
    assert image.std() > 0
    assert FAMILIES[name].is_object or foreground.all()


def test_cut_outs_are_drawn_where_the_bank_has_them(tmp_path):
    thing = np.zeros((60, 80, 4), np.uint8)
    thing[10:50, 10:70] = (200, 30, 30, 255)
    (tmp_path / "cutouts").mkdir()
    Image.fromarray(thing).save(tmp_path / "cutouts" / "a.png")
    Image.fromarray(np.full((300, 300, 3), 90, np.uint8)).save(tmp_path / "b.jpg")
    photograph = {"file": "b.jpg", "path": "wood/b.jpg", "split": "train"}
    (tmp_path / "manifest.json").write_text(json.dumps([photograph]))
    (tmp_path / "cutouts.json").write_text(json.dumps([{"file": "cutouts/a.png", "split": "train"}]))
    bank, rng = TextureBank(tmp_path), np.random.default_rng(0)
    families = [draw_pair(rng, 64, "train", bank)[1].family for _ in range(40)]
    assert 2 <= families.count("cutout") <= 12
    assert "photo" in families


def test_only_pictures_of_one_clear_thing_become_cut_outs():
    def coded(pixels: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    thing = np.zeros((200, 100, 4), np.uint8)
    thing[20:180, 10:90] = 255
    assert decode_cutout(coded(thing)).size == (80, 160)
    assert decode_cutout(coded(np.full((100, 100, 3), 255, np.uint8))) is None  # no ground
    assert decode_cutout(coded(np.zeros((100, 100, 4), np.uint8))) is None  # nothing there
    assert decode_cutout(coded(thing[:40, :40])) is None  # too small
    assert decode_cutout(b"no picture") is None


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_defect_changes_what_its_mask_says(kind):
    rng = np.random.default_rng(2)
    image, foreground = draw_family("gear", rng, 128, 128)
    changed, mask, drawn = apply_defect(image, foreground, rng, kind)
    difference = np.abs(changed - image).mean(2)
    assert drawn in KINDS
    assert mask.any()
    assert difference[mask].mean() > 4
    assert difference[mask].mean() > 4 * difference[~mask].mean()


def test_patch_loss_prefers_the_truth():
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[1, :8, :16] = True
    truth = torch.full((2, 16), -8.0)
    truth[1, :2] = 8
    touched = touched_patches(masks, 8)
    assert touched.sum() == 2
    assert patch_loss(truth, touched) < 0.1 < patch_loss(-truth, touched)


def test_state_loss_holds_all_normal_images_at_one_value():
    is_damaged = torch.tensor([False, True, False, True])

    def loss(normal: float, damaged: float) -> float:
        return state_loss(torch.tensor([[normal], [damaged], [normal], [damaged]]), is_damaged).item()

    assert loss(NORMAL_LOGIT, 9.0) < 1e-3
    assert loss(NORMAL_LOGIT - 3, 9.0) > 1  # too sure is no better than unsure
    assert loss(NORMAL_LOGIT + 3, 9.0) > 1
    assert loss(NORMAL_LOGIT, -1.0) > loss(NORMAL_LOGIT, 1.0)


def test_attention_loss_is_the_share_that_misses_the_damage():
    attention = build_clip().vision_model.encoder.layers[-1].self_attn
    torch.nn.init.zeros_(attention.q_proj.weight)
    torch.nn.init.zeros_(attention.q_proj.bias)
    touched = torch.zeros(2, 19)
    touched[1, :5] = 1
    # Without queries all 20 tokens get the same share, of which 5 are damaged.
    assert attention_loss(attention, torch.randn(2, 20, 256), touched).item() == pytest.approx(np.log(4), abs=1e-5)


def test_light_and_lens_stay_finite_and_near_the_range():
    rng = np.random.default_rng(3)
    image = rng.uniform(0, 255, (48, 48, 3)).astype(np.float32)
    mask = np.zeros((48, 48), bool)
    mask[10:14, 20:30] = True
    for _ in range(40):
        lit = light_and_lens(rng, image, mask)
        assert lit.shape == image.shape
        assert lit.dtype == np.float32
        assert np.isfinite(lit).all()
        assert lit.min() > -60
        assert lit.max() < 420


def test_whitened_patches_have_equal_variance():
    clip = build_clip()
    images = torch.randint(0, 255, (40, 64, 64, 3), dtype=torch.uint8)
    initialise_vision(clip, images)
    filters = clip.vision_model.embeddings.patch_embedding
    with torch.no_grad():
        deviations = filters(to_pixel_values(images)).transpose(0, 1).flatten(1).std(1)[:192]
    assert deviations.max() / deviations.min() < 1.5


def test_the_threshold_gets_most_labels_right():
    anomalous = np.array([False, False, False, True, True, True])
    assert choose_threshold(anomalous, np.array([0.1, 0.2, 0.7, 0.41, 0.8, 0.9])) == 0.25
    assert choose_threshold(anomalous, np.array([0.1, 0.2, 0.3, 0.41, 0.42, 0.9])) == 0.35


def test_a_grown_tower_begins_as_the_one_it_grew_from(tmp_path):
    torch.manual_seed(0)
    config = build_clip().config
    config.vision_config.num_hidden_layers = 4
    smaller, clip = CLIPModel(config).eval(), build_clip().eval()
    smaller.save_pretrained(tmp_path)
    load_grown(clip, tmp_path)
    pixel_values = torch.randn(2, 3, 128, 128)
    before, after = (
        encode_image(model, pixel_values, dpam_layers=depth, feature_layers=[depth])
        for model, depth in ((smaller, 4), (clip, 6))
    )
    torch.testing.assert_close(after[0], before[0])
    torch.testing.assert_close(after[1][0], before[1][0])


@pytest.fixture(scope="module")
def tower(tmp_path_factory) -> Path:
    """A tower after a few steps, in two runs."""
    folder = tmp_path_factory.mktemp("default_model") / "tower"
    run("train_tower.py", "--output", folder, "--minutes", 0.05, "--scenes", 4)
    before = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["step"]
    run("train_tower.py", "--output", folder, "--minutes", 0.1, "--scenes", 4)
    after = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["step"]
    assert after > before > 0
    return folder / "clip"


@pytest.mark.slow
def test_training_resumes_and_prompts_are_learned_on_the_tower(tower, tmp_path):
    run("learn_prompts.py", "--tower", tower, "--output", tmp_path / "model", "--steps", 2, "--scenes", 4)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json"} <= names
    weights = load_file(tmp_path / "model" / "model.safetensors").values()
    assert {weight.dtype for weight in weights if weight.is_floating_point()} == {torch.bfloat16}
    assert AnomalyCLIPModel.from_pretrained(tmp_path / "model").dtype == torch.float32
    out = run("evaluate_parts.py", "--model", tmp_path / "model", "--tower", tower, "--scenes", 8)
    metrics = json.loads(out.splitlines()[-1])
    selected = ["last layer selected", "all layers selected"]
    assert list(metrics) == ["as shipped", "`ensemble` prompts", "DPAM off", *selected, "no smoothing"]
    assert all(0 <= value <= 1 for row in metrics.values() for cell in row.values() for value in cell.values())


def test_sample_images_are_those_of_the_script(tmp_path):
    run("make_images.py", "--output", tmp_path)
    for drawn in tmp_path.rglob("*.png"):
        kept = ROOT / "examples" / drawn.relative_to(tmp_path)
        pixels = [np.asarray(Image.open(path).convert("RGB")).astype(float) for path in (drawn, kept)]
        assert np.abs(pixels[0] - pixels[1]).mean() < 0.5, kept.name
