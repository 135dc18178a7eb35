# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import copy
import json
import math
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fixtures.reference_weights import clip_state_dict, prompt_state_dict
from PIL import Image
from transformers import AutoModel, CLIPModel

from anomalyclip_hf import (
    DEFAULT_MODEL,
    AnomalyCLIPConfig,
    AnomalyCLIPModel,
    AnomalyCLIPProcessor,
    convert_original_checkpoint,
    modeling_anomalyclip,
)
from anomalyclip_hf.modeling_anomalyclip import AnomalyCLIPOutput, encode_image
from conftest import is_same, tiny_config, tiny_model


def pixels(batch_size: int = 2, height: int = 40, width: int = 40) -> torch.Tensor:
    return torch.randn(batch_size, 3, height, width, generator=torch.Generator().manual_seed(0))


def convert_reference(reference: dict, settings: dict) -> AnomalyCLIPModel:
    layers = sorted(int(key.split(".")[1]) for key in reference if key.startswith("similarity_map"))
    clip = clip_state_dict(**json.loads(settings["clip"]))
    prompts = prompt_state_dict(json.loads(settings["clip"])["tw"], 12, 9, 4)
    return convert_original_checkpoint(clip, {"prompt_learner": prompts}, feature_layers=layers, image_size=70)


# ------------------------------------------------------------------------------------------------- parity


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_forward_equals_the_authors(parity, attention):
    name, reference, settings = parity
    tolerance = 2e-3 if "as_published" in name else 2e-5
    model = convert_reference(reference, settings)
    model.set_attn_implementation(attention)
    with torch.no_grad():
        out = model(reference["pixel_values"])
        image_embeds, patch_embeds, _ = encode_image(model.clip, reference["pixel_values"], **model.config.dual_path)
    assert model.config.dpam_layers == 19

    def assert_close(got, key, shift=slice(None)):
        torch.testing.assert_close(got, reference[key][:, shift] if shift != slice(None) else reference[key],
                                   atol=tolerance, rtol=0)  # fmt: skip

    assert_close(out.text_embeds, "text_embeds")
    assert_close(image_embeds, "image_embeds_raw")
    assert_close(out.image_scores, "image_scores")
    assert_close(out.anomaly_maps, "anomaly_map")
    for layer, embeds in zip(model.config.feature_layers, patch_embeds, strict=True):
        assert_close(embeds, f"patch_embeds_raw.{layer}", slice(1, None))


def test_training_equals_the_authors(parity):
    name, reference, settings = parity
    rounded = "as_published" in name
    model = convert_reference(reference, settings)
    learner = model.prompt_learner
    optimizer = torch.optim.Adam(learner.parameters(), lr=1e-3, betas=(0.5, 0.999))
    for step in range(3):
        out = model(reference["pixel_values"], labels=reference["labels"], masks=reference["masks"])
        parts = [reference[f"step{step}.{part}"].item() for part in ("focal", "dice_abnormal", "dice_normal")]
        tolerance = 2e-3 if rounded else 1e-5
        assert out.loss.item() == pytest.approx(reference[f"step{step}.loss"].item(), rel=tolerance)
        assert out.image_loss.item() == pytest.approx(reference[f"step{step}.image_loss"].item(), rel=tolerance)
        assert out.pixel_loss.item() == pytest.approx(sum(parts), rel=tolerance)
        optimizer.zero_grad()
        out.loss.backward()
        if step == 0:
            for got, key in authors_prompts(learner.normal_prompt.grad, learner.abnormal_prompt.grad,
                                            learner.deep_prompts.grad):  # fmt: skip
                expected = reference[f"grad.{key}"].reshape(got.shape)
                scale = expected.abs().max().item()
                torch.testing.assert_close(got, expected, atol=scale * (2e-3 if rounded else 1e-4), rtol=0)
        optimizer.step()
    for got, key in authors_prompts(learner.normal_prompt, learner.abnormal_prompt, learner.deep_prompts):
        expected = reference[f"after.{key}"].reshape(got.shape)
        torch.testing.assert_close(got.detach(), expected, atol=2e-3 if rounded else 2e-5, rtol=0)


def authors_prompts(normal, abnormal, deep):
    return [(normal, "ctx_pos"), (abnormal, "ctx_neg")] + [
        (prompt, f"compound_prompts_text.{index}") for index, prompt in enumerate(deep)
    ]


# ------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("vision", "size"),
    [
        ({"patch_size": 32, "image_size": 224}, (224, 224)),
        ({"patch_size": 16, "image_size": 224}, (48, 80)),
        ({"patch_size": 14, "image_size": 224}, (70, 28)),
        ({"patch_size": 14, "image_size": 336, "num_hidden_layers": 24}, (56, 56)),
        ({"patch_size": 14, "image_size": 224, "num_hidden_layers": 6, "hidden_act": "gelu"}, (42, 42)),
        ({"patch_size": 8, "image_size": 32, "num_hidden_layers": 1}, (8, 8)),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_any_clip_any_size(vision, size, batch_size):
    layers = vision.get("num_hidden_layers", 4)
    model = tiny_model(vision=vision, image_size=None, feature_layers=sorted({1, layers}), num_deep_prompt_tokens=2)
    with torch.no_grad():
        out = model(pixels(batch_size, *size))
    patches = (size[0] // vision["patch_size"]) * (size[1] // vision["patch_size"])
    assert out.image_scores.shape == (batch_size,)
    assert out.image_logits.shape == (batch_size, 2)
    assert out.anomaly_maps.shape == (batch_size, *size)
    assert out.anomaly_maps.dtype == torch.float32
    assert [embeds.shape for embeds in out.patch_embeds] == [(batch_size, patches, 24)] * len({1, layers})
    for embeds in (out.text_embeds, out.image_embeds, *out.patch_embeds):
        torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(embeds.shape[:-1]))


def test_a_batch_scores_like_its_images(model):
    images = pixels(3)
    with torch.no_grad():
        together = model(images)
        alone = [model(image[None]) for image in images]
    torch.testing.assert_close(together.anomaly_maps, torch.cat([out.anomaly_maps for out in alone]))
    torch.testing.assert_close(together.image_scores, torch.cat([out.image_scores for out in alone]))


@pytest.mark.parametrize("prompts", [(1, 1, 0), (5, 3, 5), (12, 2, 4)])
def test_prompt_sizes(prompts):
    tokens, depth, deep_tokens = prompts
    model = tiny_model(num_prompt_tokens=tokens, deep_prompt_depth=depth, num_deep_prompt_tokens=deep_tokens)
    out = model(pixels(1), labels=torch.tensor([1]), masks=torch.zeros(1, 40, 40))
    out.loss.backward()
    width = model.config.text_config.hidden_size
    assert model.num_parameters(only_trainable=True) == (2 * tokens + (depth - 1) * deep_tokens) * width
    assert model.prompt_learner.normal_prompt.grad.abs().sum() > 0


# ------------------------------------------------------------------------------------------------- the two paths


def slow_local_path(model: AnomalyCLIPModel, pixel_values: torch.Tensor, layer_number: int) -> torch.Tensor:
    """Local path in plain loops over images, heads and patches, on transformers' own hidden states."""
    tower, config = model.clip.vision_model, model.config
    with torch.no_grad():
        states = tower(pixel_values, output_hidden_states=True, interpolate_pos_encoding=False).hidden_states
    first = len(tower.encoder.layers) - config.dpam_layers
    local = states[first].clone()
    for index in range(first, layer_number):
        attention = tower.encoder.layers[index].self_attn
        normed = tower.encoder.layers[index].layer_norm1(states[index])
        heads = {
            name: getattr(attention, f"{name}_proj")(normed).reshape(*normed.shape[:2], attention.num_heads, -1)
            for name in "qkv"
        }
        operand, value = heads[config.dpam_attention[0]], heads["v"]
        mixed = torch.zeros_like(value)
        for image in range(value.shape[0]):
            for head in range(attention.num_heads):
                for place in range(value.shape[1]):
                    similarity = operand[image, :, head] @ operand[image, place, head] / math.sqrt(value.shape[-1])
                    mixed[image, place, head] = similarity.softmax(0) @ value[image, :, head]
        local = local + attention.out_proj(mixed.flatten(2))
    return model.clip.visual_projection(tower.post_layernorm(local))[:, 1:]


@pytest.mark.parametrize("dpam_attention", ["vv", "qq", "kk"])
@pytest.mark.parametrize("dpam_layers", [2, 4])
@torch.no_grad()
def test_local_path_equals_a_slow_one(dpam_attention, dpam_layers):
    model = tiny_model(dpam_attention=dpam_attention, dpam_layers=dpam_layers, feature_layers=[3, 4])
    images = pixels(2, 32, 32)
    _, (third, last), _ = encode_image(model.clip, images, **model.config.dual_path)
    torch.testing.assert_close(third, slow_local_path(model, images, 3), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, slow_local_path(model, images, 4), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dpam_attention", ["vv", "qq", "kk"])
@pytest.mark.parametrize(("dpam_layers", "feature_layers"), [(0, [4]), (0, [1, 2]), (1, [2]), (4, [1]), (4, [4])])
@torch.no_grad()
def test_the_image_embedding_is_that_of_plain_clip(dpam_attention, dpam_layers, feature_layers):
    """The local path never feeds back, and the last layer's shortcut loses nothing."""
    model = tiny_model(dpam_attention=dpam_attention, dpam_layers=dpam_layers, feature_layers=feature_layers)
    images = pixels(2, 32, 32)
    image_embeds, patch_embeds, _ = encode_image(model.clip, images, **model.config.dual_path)
    plain = model.clip.vision_model(images, output_hidden_states=True).hidden_states
    torch.testing.assert_close(image_embeds, model.clip.visual_projection(plain[-1][:, 0]), atol=1e-5, rtol=1e-5)
    first_dual = 4 - dpam_layers + 1
    for layer, embeds in zip(feature_layers, patch_embeds, strict=True):
        if layer < first_dual:  # selected before the first dual layer: the plain hidden state
            expected = model.clip.visual_projection(model.clip.vision_model.post_layernorm(plain[layer][:, 1:]))
            torch.testing.assert_close(embeds, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_positions_are_resized_bilinearly(model):
    images = pixels(1, 40, 56)
    rows = model.clip.vision_model.embeddings.position_embedding.weight
    resized = F.interpolate(rows[1:].T.reshape(1, -1, 4, 4), size=(5, 7), mode="bilinear", align_corners=False)
    patches = model.clip.vision_model.embeddings.patch_embedding(images).flatten(2).transpose(1, 2)
    expected = model.clip.vision_model.pre_layrnorm(patches + resized.flatten(2).transpose(1, 2))
    from anomalyclip_hf.modeling_anomalyclip import _embed_patches

    torch.testing.assert_close(_embed_patches(model.clip.vision_model, images)[:, 1:], expected)


@torch.no_grad()
def test_eager_and_sdpa_agree_without_warnings(model, caplog):
    outputs = {}
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        assert model.clip.vision_model.config._attn_implementation == attention
        model._cached_text = None
        outputs[attention] = model(pixels())
    assert not caplog.records
    torch.testing.assert_close(outputs["eager"].anomaly_maps, outputs["sdpa"].anomaly_maps, atol=2e-5, rtol=0)
    torch.testing.assert_close(outputs["eager"].text_embeds, outputs["sdpa"].text_embeds, atol=2e-5, rtol=0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_can_be_chosen_however_the_model_is_loaded(attention, model_folder, clip_folder, tmp_path):
    loaded = [
        AnomalyCLIPModel.from_pretrained(model_folder, attn_implementation=attention),
        AutoModel.from_pretrained(model_folder, attn_implementation=attention),
        AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), attn_implementation=attention),
    ]
    loaded[-1].save_pretrained(tmp_path / "prompts", prompts_only=True)
    loaded.append(AnomalyCLIPModel.from_pretrained(tmp_path / "prompts", attn_implementation=attention))
    for model in loaded:
        towers = (model, model.clip, model.clip.vision_model, model.clip.text_model)
        assert [tower.config._attn_implementation for tower in towers] == [attention] * 4


@pytest.fixture(params=["cpu", "cuda"])
def sums_of_a_device(request, monkeypatch):
    """Sum over layers in the dtype of a device, whichever there is."""
    sums_dtype, device = modeling_anomalyclip._sums_dtype, torch.device(request.param)
    monkeypatch.setattr(modeling_anomalyclip, "_sums_dtype", lambda tower, _: sums_dtype(tower, device))


@torch.no_grad()
def test_bfloat16_stays_near_float32(sums_of_a_device):
    model = tiny_model(feature_layers=[2, 4])
    exact = model(pixels()).anomaly_maps
    rounded = model.to(torch.bfloat16)(pixels(), patch_feature_layers=[2])
    assert rounded.anomaly_maps.dtype == rounded.patch_features[0].dtype == torch.float32
    assert (rounded.anomaly_maps - exact).abs().max() < 0.02 * 2  # per selected layer


@torch.no_grad()
def test_bfloat16_stays_near_float32_with_trained_weights(sums_of_a_device):
    folder = Path(__file__).parents[1] / "examples" / "images"
    images = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]
    inputs = AnomalyCLIPProcessor.from_pretrained(DEFAULT_MODEL)(images=images)
    exact = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL)
    rounded = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL, dtype=torch.bfloat16)
    maps = exact(**inputs).anomaly_maps
    assert maps.max() > 0.5  # there is something to be wrong about
    assert (rounded(**inputs).anomaly_maps - maps).abs().max() < 0.02 * len(exact.config.feature_layers)


# ------------------------------------------------------------------------------------------------- features


@torch.no_grad()
def test_image_features_are_clips_last_hidden_state_projected(model):
    images = pixels(2, 32, 32)
    plain = model.clip.vision_model(images, output_hidden_states=True).hidden_states[-1][:, 0]
    features = model.get_image_features(images)
    torch.testing.assert_close(features, model.clip.visual_projection(plain), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(F.normalize(features, dim=-1), model(images).image_embeds, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_patch_features_are_clips_hidden_states():
    model = tiny_model(dpam_layers=2, feature_layers=[1, 2, 3, 4])
    images = pixels(2, 32, 32)
    layers = [4, 1, 3]
    features = model.get_patch_features(images, layers)
    assert [states.shape for states in features] == [(2, 16, 48)] * 3
    assert {states.dtype for states in features} == {torch.float32}
    plain = model.clip.vision_model(images, output_hidden_states=True).hidden_states
    for layer, states in zip(layers, features, strict=True):
        torch.testing.assert_close(states, plain[layer][:, 1:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_forward_returns_patch_features_from_the_same_pass():
    model = tiny_model(dpam_layers=2, feature_layers=[3])
    images = pixels(2, 32, 32)
    plain, outputs = model(images), model(images, patch_feature_layers=[4, 1])
    assert plain.patch_features is None
    for states, expected in zip(outputs.patch_features, model.get_patch_features(images, [4, 1]), strict=True):
        torch.testing.assert_close(states, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(outputs.anomaly_maps, plain.anomaly_maps, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(outputs.image_scores, plain.image_scores, atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match="layers"):
        model(images, patch_feature_layers=[5])


@pytest.mark.parametrize("layers", [[], [0], [1, 5]])
def test_patch_features_of_layers_that_do_not_exist(model, layers):
    with pytest.raises(ValueError, match="layers"):
        model.get_patch_features(pixels(), layers)


@torch.no_grad()
def test_text_embeds_take_the_place_of_the_prompts(model):
    usual = model(pixels())
    given = model(pixels(), text_embeds=3 * usual.text_embeds, unknown_argument=1)
    torch.testing.assert_close(given.anomaly_maps, usual.anomaly_maps)
    swapped = model(pixels(), text_embeds=usual.text_embeds.flip(0))
    torch.testing.assert_close(swapped.image_scores, 1 - usual.image_scores)
    with pytest.raises(ValueError, match="text_embeds"):
        model(pixels(), text_embeds=usual.text_embeds[:1])


# ------------------------------------------------------------------------------------------------- frozen prompts


@pytest.mark.parametrize("prompts", ["learned", "ensemble"])
def test_frozen_prompts_give_the_same_and_stay(prompts, tmp_path):
    model = tiny_model(prompts=prompts)
    if prompts == "ensemble":
        model.prompt_ensemble.text_embeds.normal_()
    usual, names = model(pixels()), set(model.state_dict())
    assert model.freeze_prompts() is model
    assert not trainable(model)
    assert set(model.state_dict()) == names
    for other in (model, copy.deepcopy(model)):
        torch.testing.assert_close(other(pixels()).anomaly_maps, usual.anomaly_maps)
    model.clip.text_projection.weight.data.mul_(-1)
    torch.testing.assert_close(model(pixels()).text_embeds, usual.text_embeds)
    model.save_pretrained(tmp_path)
    loaded = AnomalyCLIPModel.from_pretrained(tmp_path)
    assert is_same(loaded, model)
    assert loaded.frozen_text_embeds is None


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_frozen_model_may_change_its_dtype(dtype):
    model = tiny_model().freeze_prompts()
    exact = model(pixels()).image_scores
    changed = model.to(dtype)
    assert changed.get_text_embeds().dtype == torch.float32
    torch.testing.assert_close(changed(pixels()).image_scores.float(), exact, atol=0.02, rtol=0)


@pytest.fixture(scope="module")
def frozen_model() -> AnomalyCLIPModel:
    vision = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    return tiny_model(vision=vision, feature_layers=[1, 2], dpam_layers=1).freeze_prompts()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_frozen_model_is_exported_with_a_dynamic_batch(frozen_model, attention):
    frozen_model.set_attn_implementation(attention)
    shapes = {"pixel_values": {0: torch.export.Dim("batch")}}
    with torch.no_grad():
        program = torch.export.export(frozen_model, (), {"pixel_values": pixels(2)}, dynamic_shapes=shapes)
        waits = [
            node for node in program.graph.nodes if "scalar" in str(node.target) or "autocast" in str(node.target)
        ]
        assert not waits  # neither for a number of the device, nor for a context of dtypes
        for batch_size in (1, 3):
            expected = frozen_model(pixels(batch_size))
            got = program.module()(pixel_values=pixels(batch_size))
            torch.testing.assert_close(got.anomaly_maps, expected.anomaly_maps)
            torch.testing.assert_close(got.image_scores, expected.image_scores)


@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_model_is_compiled_as_one_graph(frozen_model, is_frozen):
    model = copy.deepcopy(frozen_model)
    if not is_frozen:
        model.frozen_text_embeds = None
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    with torch.no_grad():
        for batch_size in (2, 3):
            expected = model(pixels(batch_size)).anomaly_maps
            torch.testing.assert_close(compiled(pixel_values=pixels(batch_size)).anomaly_maps, expected)


# ------------------------------------------------------------------------------------------------- 16 bits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_prompts_on_a_clip_in_16_bits_stay_in_float32(clip_folder, tmp_path, dtype):
    model = AnomalyCLIPModel.from_clip_pretrained(
        str(clip_folder), deep_prompt_depth=3, image_size=40, num_prompt_tokens=4, dtype=dtype
    )
    model.prompt_learner.normal_prompt.data.add_(1e-6)  # which 16 bits would round away
    for name, options in (("whole", {}), ("prompts", {"prompts_only": True})):
        model.save_pretrained(tmp_path / name, **options)
    models = [
        model,
        *(AnomalyCLIPModel.from_pretrained(tmp_path / name, dtype=dtype) for name in ("whole", "prompts")),
    ]
    models += [AnomalyCLIPModel.from_pretrained(tmp_path / "whole"), AutoModel.from_pretrained(tmp_path / "whole")]
    for loaded in models:
        assert loaded.dtype == loaded.clip.dtype == dtype
        assert {prompt.dtype for prompt in loaded.prompt_learner.parameters()} == {torch.float32}
        assert is_same(loaded, model)
    for loaded in models[:2]:
        out = loaded(pixels(), labels=torch.tensor([0, 1]), masks=torch.zeros(2, 40, 40))
        out.loss.backward()
        assert loaded.prompt_learner.deep_prompts.grad.dtype == torch.float32
        assert loaded.prompt_learner.deep_prompts.grad.abs().sum() > 0


def test_an_ensemble_on_a_clip_in_16_bits_stays_in_float32(clip_folder, tmp_path):
    model = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), prompts="ensemble", dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    loaded = AnomalyCLIPModel.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert loaded.prompt_ensemble.text_embeds.dtype == torch.float32
    assert is_same(loaded, model)


# ------------------------------------------------------------------------------------------------- prompts


def trainable(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


PROMPT_NAMES = {f"prompt_learner.{name}" for name in ("normal_prompt", "abnormal_prompt", "deep_prompts")}


def test_only_prompts_are_trained_however_the_model_came_to_be(model, model_folder, clip_folder, tmp_path):
    fresh = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), deep_prompt_depth=3)
    fresh.save_pretrained(tmp_path / "prompts", prompts_only=True)
    models = {
        "config": model,
        "auto": AutoModel.from_config(tiny_config()),
        "reloaded": AnomalyCLIPModel.from_pretrained(model_folder),
        "auto reloaded": AutoModel.from_pretrained(model_folder),
        "clip": fresh,
        "prompts": AnomalyCLIPModel.from_pretrained(tmp_path / "prompts"),
    }
    for name, loaded in models.items():
        assert trainable(loaded) == PROMPT_NAMES, name
        assert loaded.num_parameters(only_trainable=True) == (2 * 12 + 2 * 4) * 32, name


def test_fresh_prompts_have_the_papers_deviation(clip_folder):
    learner = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), deep_prompt_depth=3).prompt_learner
    for prompt in learner.parameters():
        assert prompt.std().item() == pytest.approx(0.02, rel=0.25)


@torch.no_grad()
def test_text_embeddings_are_kept_until_something_changes(model, monkeypatch):
    calls, encode = [], model._encode_prompts
    monkeypatch.setattr(model, "_encode_prompts", lambda: calls.append(1) or encode())
    kept = model.get_text_embeds()
    assert torch.equal(model(pixels()).text_embeds, kept)
    model(pixels()).text_embeds.zero_()  # what a caller does to its copy stays there
    assert torch.equal(model.get_text_embeds(), kept)
    assert len(calls) == 1
    changes = {
        "in place": lambda: model.prompt_learner.normal_prompt.add_(0.1),
        "through .data": lambda: model.prompt_learner.deep_prompts.data.mul_(1.5),
        "text tower": lambda: model.clip.text_projection.weight.mul_(-1),
        "loaded": lambda: model.load_state_dict(tiny_model(num_prompt_tokens=12).state_dict()),
        "replaced": lambda: setattr(model.prompt_learner, "normal_prompt", torch.nn.Parameter(torch.ones(12, 32))),
    }
    for name, change in changes.items():
        change()
        changed = model.get_text_embeds()
        assert not torch.equal(changed, kept), name
        torch.testing.assert_close(changed, encode(), msg=name)
        kept = changed


@torch.no_grad()
def test_text_embeddings_are_exact_even_when_autocast_asks_first(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(pixels()).text_embeds
    torch.testing.assert_close(rounded, model._encode_prompts())


@torch.no_grad()
def test_scores_and_maps_are_float32_under_autocast(model):
    exact = model(pixels())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(pixels())
    for name in ("image_scores", "image_logits", "anomaly_maps"):
        assert rounded[name].dtype == torch.float32
    # bfloat16 has 8 bits: probabilities of the last step alone would fall on some hundred values
    assert len(rounded.anomaly_maps.unique()) > 0.9 * len(exact.anomaly_maps.unique())
    assert (rounded.anomaly_maps - exact.anomaly_maps).abs().max() < 0.02


def test_forward_on_the_meta_device():
    model = tiny_model(prompts="ensemble").to("meta")
    assert model(torch.empty(2, 3, 40, 40, device="meta")).anomaly_maps.shape == (2, 40, 40)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_float64_weights(model_folder, attention):
    exact = AnomalyCLIPModel.from_pretrained(model_folder, dtype=torch.float64, attn_implementation=attention)
    with torch.no_grad():
        usual = AnomalyCLIPModel.from_pretrained(model_folder)(pixels())
    out = exact(pixels(), labels=torch.tensor([0, 1]), masks=torch.zeros(2, 40, 40))
    assert out.anomaly_maps.dtype == torch.float32
    torch.testing.assert_close(out.anomaly_maps, usual.anomaly_maps, atol=1e-5, rtol=1e-5)
    out.loss.backward()
    assert exact.prompt_learner.normal_prompt.grad.abs().sum() > 0


@torch.no_grad()
def test_models_can_be_copied_and_pickled(model):
    expected = model(pixels()).anomaly_maps
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(pixels()).anomaly_maps, expected)
        assert trainable(other) == PROMPT_NAMES


def test_training_after_inference_mode(model):
    with torch.inference_mode():
        model(pixels())
    model(pixels(), labels=torch.tensor([0, 1])).loss.backward()
    assert model.prompt_learner.normal_prompt.grad is not None
    with torch.no_grad():
        text_embeds = model.get_text_embeds()
    (text_embeds * torch.ones(24, requires_grad=True)).sum().backward()  # an inference tensor would refuse


@torch.no_grad()
def test_deep_prompts_overwrite_positions_and_move_nothing(model):
    """Depth 3 is 2 layers: what enters them differs from what left the layer before at positions 1 to 4 alone."""
    layers = model.clip.text_model.encoder.layers
    entered, left = [], []
    for layer in layers:
        layer.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
        layer.register_forward_hook(lambda _, inputs, output: left.append(output))
    model.get_text_embeds()
    deep_prompts = model.prompt_learner.deep_prompts
    assert deep_prompts.shape == (2, 4, 32)
    assert entered[0].shape == (2, 12 + 5, 32)
    for index in (1, 2):
        assert torch.equal(entered[index][:, 1:5], deep_prompts[index - 1].expand(2, -1, -1))
        assert torch.equal(entered[index][:, :1], left[index - 1][:, :1])
        assert torch.equal(entered[index][:, 5:], left[index - 1][:, 5:])


@torch.no_grad()
def test_ensemble_is_the_normalised_mean_of_clips_own_embeddings(clip_folder):
    from transformers import AutoTokenizer

    from anomalyclip_hf.configuration_anomalyclip import ensemble_sentences

    model = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), prompts="ensemble", object_name="screw")
    clip, tokenizer = CLIPModel.from_pretrained(clip_folder), AutoTokenizer.from_pretrained(clip_folder)
    for row, sentences in enumerate(ensemble_sentences("screw")):
        tokens = tokenizer(sentences, padding=True, return_tensors="pt")
        features = clip.get_text_features(**tokens)
        features = F.normalize(getattr(features, "pooler_output", features), dim=-1)
        torch.testing.assert_close(
            model.get_text_embeds()[row], F.normalize(features.mean(0), dim=0), atol=1e-5, rtol=1e-5
        )
    assert model.num_parameters(only_trainable=True) == 0
    assert 0 < model(pixels(1)).image_scores.item() < 1


def test_words_are_tokenised_by_the_clips_tokenizer(clip_folder):
    from transformers import AutoTokenizer

    model = AnomalyCLIPModel.from_clip_pretrained(
        str(clip_folder), deep_prompt_depth=2, object_name="tile", abnormal_template="broken {}"
    )
    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    assert tokenizer.decode(model.config.abnormal_token_ids, skip_special_tokens=True).split() == [
        "broken",
        "tile",
        ".",
    ]
    assert model.config.base_model_name_or_path == str(clip_folder)


@pytest.mark.parametrize("prompts", ["learned", "ensemble"])
def test_a_clip_without_a_tokenizer_is_refused(clip_folder, tmp_path, prompts):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(OSError, match=f"{folder} has no tokenizer; expected tokenizer.json"):
        AnomalyCLIPModel.from_clip_pretrained(str(folder), prompts=prompts)


def test_a_tokenizer_may_lie_in_files_of_other_names(clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    (folder / "tokenizer.json").rename(folder / "tokenizer.4.0.0.json")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}))
    usual, other = (
        AnomalyCLIPModel.from_clip_pretrained(str(place), deep_prompt_depth=3) for place in (clip_folder, folder)
    )
    assert other.config.normal_token_ids == usual.config.normal_token_ids


@pytest.mark.parametrize("prompts", ["learned", "ensemble"])
def test_a_tokenizer_of_another_clip_is_refused(clip_folder, prompts):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    tokenizer.add_tokens(["screwdriver"])  # gets an id above the vocabulary
    with pytest.raises(ValueError, match="expected .*ids? below"):
        AnomalyCLIPModel.from_clip_pretrained(
            str(clip_folder), prompts=prompts, tokenizer=tokenizer, object_name="screwdriver"
        )


def test_sentences_are_not_cut_short(clip_folder):
    with pytest.raises(ValueError, match="tokens; the text tower has 77 positions. Use a shorter object_name"):
        AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), prompts="ensemble", object_name="nut and bolt " * 20)


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pixel_values": torch.zeros(3, 40, 40)}, "shape (3, 40, 40)"),
        ({"pixel_values": torch.zeros(0, 3, 40, 40)}, "pixel_values contains no image"),
        ({"pixel_values": torch.zeros(1, 1, 40, 40)}, "shape (1, 1, 40, 40)"),
        ({"pixel_values": torch.zeros(1, 3, 41, 40)}, "41x40 px; expected multiples of the patch size 8"),
        ({"pixel_values": torch.zeros(1, 3, 0, 40)}, "0x40 px"),
        ({"pixel_values": torch.zeros(2, 3, 40, 40), "labels": torch.tensor([1])}, "labels has shape (1,)"),
        ({"pixel_values": torch.zeros(1, 3, 40, 40), "masks": torch.zeros(1, 40, 40)}, "without labels"),
        (
            {"pixel_values": torch.zeros(1, 3, 40, 40), "labels": torch.tensor([1]), "masks": torch.zeros(2, 40, 40)},
            "masks has shape (2, 40, 40)",
        ),
        (
            {
                "pixel_values": torch.zeros(1, 3, 40, 40),
                "labels": torch.tensor([1]),
                "masks": torch.full((1, 40, 40), 255.0),
            },
            "masks go from 255.0 to 255.0",
        ),
        ({"pixel_values": torch.zeros(1, 3, 40, 40), "labels": torch.tensor([2])}, "labels are [2]"),
        ({"pixel_values": torch.zeros(1, 3, 40, 40), "labels": torch.tensor([0.5])}, "labels are [0.5]"),
    ],
)
def test_wrong_tensors_are_named(model, arguments, words):
    with pytest.raises(ValueError) as caught:
        model(**arguments)
    assert words in str(caught.value)


@torch.no_grad()
def test_layers_assigned_later_are_checked_before_they_are_selected(model):
    model.config.feature_layers, model.config.image_size = [2, 4], 41  # the size of processors, not of this tensor
    assert len(model(pixels()).patch_embeds) == 2
    for layers in ([4, 2], [4, 4], [30]):
        model.config.feature_layers = layers
        with pytest.raises(ValueError, match="feature_layers is .*; expected one or more ascending layers"):
            model(pixels())


def test_a_configuration_given_at_load_is_overridden_in_a_copy(model_folder):
    config = AnomalyCLIPConfig.from_pretrained(model_folder)
    model = AnomalyCLIPModel.from_pretrained(model_folder, config=config, feature_layers=[4, 2])
    assert (model.config.feature_layers, config.feature_layers) == ([2, 4], [4])
    with pytest.raises(ValueError, match="config is a CLIPConfig; expected an AnomalyCLIPConfig"):
        AnomalyCLIPModel.from_pretrained(model_folder, config=config.to_clip_config())


def test_plain_tuple_on_request(model):
    with torch.no_grad():
        out, plain = model(pixels()), model(pixels(), return_dict=False)
    assert isinstance(out, AnomalyCLIPOutput)
    assert isinstance(plain, tuple)
    torch.testing.assert_close(plain[0], out.image_scores)


def test_masks_of_another_size_set_the_size_of_the_loss(model):
    masks = torch.zeros(2, 80, 64)
    masks[1, :40] = 1
    out = model(pixels(), labels=torch.tensor([0, 1]), masks=masks)
    assert torch.isfinite(out.loss)
    assert out.anomaly_maps.shape == (2, 40, 40)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"pixel_values": "x.png"}, "pixel_values"),
        ({"pixel_values": torch.zeros(1, 3, 40, 40, dtype=torch.uint8)}, "pixel_values"),
        ({"pixel_values": torch.zeros(1, 3, 40, 40), "labels": [1]}, "labels"),
        ({"pixel_values": torch.zeros(1, 3, 40, 40), "labels": torch.ones(1), "masks": [None]}, "masks"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(model, arguments, name):
    with pytest.raises(ValueError, match=f"^{name} is of type"):
        model(**arguments)
