# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from fixtures.reference_weights import clip_state_dict, prompt_state_dict
from safetensors.torch import save_file
from torch import nn

from anomalyclip_hf import AnomalyCLIPModel, convert_original_checkpoint
from anomalyclip_hf.conversion import original as conversion


SIZES = {"vw": 128, "vl": 3, "patch": 8, "res": 32, "tw": 64, "tl": 4, "embed": 24, "vocab": 49408, "ctx": 77}


@pytest.fixture(scope="module")
def clip() -> dict[str, torch.Tensor]:
    return clip_state_dict(**SIZES)


@pytest.fixture
def prompts() -> dict[str, torch.Tensor]:
    """A published file with everything in it that carries nothing to learn."""
    state = prompt_state_dict(SIZES["tw"], 6, 4, 3)
    for index in range(3):
        state[f"compound_prompt_projections.{index}.weight"] = torch.zeros(896, SIZES["tw"])
        state[f"compound_prompt_projections.{index}.bias"] = torch.zeros(896)
    for side in ("pos", "neg"):
        state[f"token_prefix_{side}"] = torch.zeros(1, 1, 1, SIZES["tw"])
        state[f"token_suffix_{side}"] = torch.zeros(1, 1, 70, SIZES["tw"])
        state[f"tokenized_prompts_{side}"] = torch.zeros(1, 1, 77, dtype=torch.long)
    return state


class Archive(nn.Module):
    """A module whose TorchScript archive has OpenAI's names."""

    def __init__(self, state: dict[str, torch.Tensor]):
        super().__init__()
        for name, tensor in state.items():
            *path, leaf = name.split(".")
            module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]
            module.register_parameter(leaf, nn.Parameter(tensor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture(scope="module")
def archive(clip, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("openai") / "ViT-tiny.pt"
    extra = {name: torch.tensor(1.0) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.jit.script(Archive({k: v.half() for k, v in clip.items()} | extra)).save(str(path))
    return path


def scores(model: AnomalyCLIPModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.ones(1, 3, 32, 32)).anomaly_maps


def test_shapes_decide_the_sizes(clip, prompts):
    model = convert_original_checkpoint(clip, {"prompt_learner": prompts}, image_size=48, dpam_layers=2)
    config = model.config
    vision, text = config.vision_config, config.text_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (128, 3, 2)
    assert (vision.patch_size, vision.image_size, vision.hidden_act) == (8, 32, "quick_gelu")
    assert (text.hidden_size, text.num_hidden_layers, text.num_attention_heads, text.vocab_size) == (64, 4, 1, 49408)
    assert (config.projection_dim, config.image_size, config.dpam_layers) == (24, 48, 2)
    assert (config.num_prompt_tokens, config.deep_prompt_depth, config.num_deep_prompt_tokens) == (6, 4, 3)
    assert model.dtype == torch.float32
    assert torch.equal(model.prompt_learner.deep_prompts[1].data, prompts["compound_prompts_text.1"])
    assert not model.training


def test_a_published_checkpoint_with_shallow_prompts_converts(clip):
    state = prompt_state_dict(SIZES["tw"], 6, 1, 0)
    model = convert_original_checkpoint(clip, state)
    assert model.config.deep_prompt_depth == 1
    assert model.num_parameters(only_trainable=True) == 2 * 6 * 64


def test_every_form_of_the_clip_gives_the_same_model(clip, archive, prompts, tmp_path):
    expected = scores(convert_original_checkpoint(clip, prompts))
    torch.save(clip, tmp_path / "plain.pt")
    torch.save({"state_dict": clip}, tmp_path / "nested.pt")
    save_file(clip, tmp_path / "clip.safetensors")
    torch.save({"prompt_learner": prompts}, tmp_path / "epoch_15.pth")
    whole = convert_original_checkpoint(clip, prompts)
    whole.clip.save_pretrained(tmp_path / "folder")
    for source in ("plain.pt", "nested.pt", "clip.safetensors", "folder"):
        model = convert_original_checkpoint(tmp_path / source, str(tmp_path / "epoch_15.pth"))
        torch.testing.assert_close(scores(model), expected)
    rounded = convert_original_checkpoint(archive, prompts, trust_torchscript=True)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(scores(rounded), expected, atol=2e-2, rtol=0)  # OpenAI's files are float16


def test_round_trip_through_a_folder(clip, prompts, tmp_path):
    model = convert_original_checkpoint(clip, prompts, feature_layers=[1, 3])
    model.save_pretrained(tmp_path)
    loaded = AnomalyCLIPModel.from_pretrained(tmp_path)
    torch.testing.assert_close(scores(loaded), scores(model))
    assert loaded.config.feature_layers == [1, 3]


def test_without_prompts_they_are_fresh_and_no_deeper_than_the_text_tower(clip):
    model = convert_original_checkpoint(clip, None, image_size=32)
    assert (model.config.num_prompt_tokens, model.config.deep_prompt_depth) == (12, 4)
    assert model.prompt_learner.normal_prompt.std().item() == pytest.approx(0.02, rel=0.2)


# ------------------------------------------------------------------------------------------------- what is not trusted


class Bomb:
    """Leaves a file behind when an unpickler that can run code reads it."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("place", ["clip", "prompts"])
@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_that_run_code_are_refused_and_not_run(clip, tmp_path, place, legacy):
    trap, target = tmp_path / "trap.pth", tmp_path / "ran"
    torch.save({"prompt_learner": {"ctx_pos": Bomb(target)}}, trap, _use_new_zipfile_serialization=not legacy)
    arguments = (trap, None) if place == "clip" else (clip, trap)
    with pytest.raises(OSError, match=r"trap\.pth .* holds more than tensors"):
        convert_original_checkpoint(*arguments)
    assert not target.exists()
    with trap.open("rb") as file:
        if legacy:  # the trap itself works
            for _ in range(4):
                pickle.load(file)
            assert target.exists()


def test_unknown_torchscript_is_refused(archive, prompts):
    with pytest.raises(OSError, match=r"ViT-tiny\.pt is a TorchScript archive.*--trust-torchscript"):
        convert_original_checkpoint(archive, prompts)


def test_damaged_torchscript_is_named(archive, prompts, tmp_path):
    import zipfile

    damaged = tmp_path / "damaged.pt"
    with zipfile.ZipFile(archive) as good, zipfile.ZipFile(damaged, "w") as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name) if not name.endswith("data.pkl") else b"no pickle")
    with pytest.raises(OSError, match=r"damaged\.pt is a damaged TorchScript archive"):
        convert_original_checkpoint(damaged, prompts, trust_torchscript=True)


def test_published_torchscript_is_known_by_its_hash(archive, prompts, monkeypatch, caplog):
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(conversion.OPENAI_CLIP_FILES, digest, "openai/clip-vit-tiny")
    model = convert_original_checkpoint(archive, prompts)
    assert model.config.base_model_name_or_path == "openai/clip-vit-tiny"
    assert "OpenCLIP" not in caplog.text


@pytest.mark.parametrize("ending", ["pt", "safetensors", "pth"])
@pytest.mark.parametrize("keep", [0, 10, 0.6])
def test_files_cut_short(clip, prompts, tmp_path, ending, keep):
    path = tmp_path / f"cut.{ending}"
    save_file(clip, path) if ending == "safetensors" else torch.save(prompts if ending == "pth" else clip, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    arguments = (clip, path) if ending == "pth" else (path, prompts)
    with pytest.raises(OSError, match=rf"cut\.{ending}.*damaged") as caught:
        convert_original_checkpoint(*arguments)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("visual.conv1.weight"), "lacks visual.conv1.weight"),
        (lambda s: s.pop("ln_final.bias"), "lacks 1 tensors, the first is text_model.final_layer_norm.bias"),
        (lambda s: s.update({"visual.layer1.0.conv": torch.ones(2)}), "unexpected tensor visual.layer1.0.conv"),
        (
            lambda s: s.update({"visual.transformer.resblocks.1.mlp.gate.weight": torch.ones(2)}),
            "unexpected 1 tensors, the first is vision_model.encoder.layers.1.mlp.gate.weight of shape (2,)",
        ),
        (
            lambda s: s.update({"transformer.resblocks.0.mlp.c_fc.weight": torch.ones(7, 64)}),
            "transformer.resblocks.0.mlp.c_fc.weight gives text_model.encoder.layers.0.mlp.fc1.weight of shape "
            "(7, 64), expected (256, 64)",
        ),
        (lambda s: s.update({"text_projection": torch.ones(3)}), "text_projection has shape (3,), expected 2 dimen"),
        (lambda s: s.update({"ln_final.bias": 3}), "ln_final.bias is a int"),
        (
            lambda s: s.update({"ln_final.bias": torch.full((64,), float("nan"))}),
            "ln_final.bias of shape (64,) holds NaN",
        ),
        (
            lambda s: [s.pop(name) for name in list(s) if name.startswith("transformer.")],
            "lacks transformer.resblocks.0",
        ),
        (lambda s: s.update({"visual.conv1.weight": torch.ones(32, 3, 8, 8)}), "width 32; expected a multiple"),
        (lambda s: s.update({"x\ny" * 900: torch.ones(3)}), r"unexpected tensor 'x\nyx"),
        (lambda s: s.update({"text_model.embeddings.x": torch.ones(3)}), "converted from its folder"),
        (
            lambda s: (s.pop("visual.conv1.weight"), s.update({"text_model.embeddings.x": torch.ones(3)})),
            "is in transformers' layout; name the folder",
        ),
        (lambda s: s.update({"visual.positional_embedding": torch.ones(0, 128)}), "positional_embedding has 0 rows"),
        (lambda s: s.update({"visual.conv1.weight": torch.ones(1280, 3, 8, 8)}), "width 1280, wider than OpenAI's"),
        (lambda s: s.update({"visual.conv1.weight": torch.ones(128, 3, 8, 2000)}), "visual.conv1.weight"),
    ],
)
def test_clips_that_do_not_fit(clip, prompts, change, words):
    state = dict(clip)
    change(state)
    with pytest.raises(ValueError) as caught:
        convert_original_checkpoint(state, prompts)
    assert words.replace("'", "") in str(caught.value).replace("'", "")
    assert str(caught.value).startswith("the state dict")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("ctx_neg"), "lacks ctx_neg"),
        (lambda s: s.update(surplus=torch.ones(2)), "unexpected tensor surplus of shape (2,)"),
        (
            lambda s: s.update(ctx_neg=torch.ones(1, 1, 5, 64)),
            "ctx_neg has shape (1, 1, 5, 64), expected (1, 1, 6, 64)",
        ),
        (lambda s: s.update({"compound_prompts_text.1": torch.ones(3, 9)}), "has shape (3, 9), expected (3, 64)"),
        (
            lambda s: s.update(ctx_pos=torch.ones(2, 1, 6, 64)),
            "ctx_pos has shape (2, 1, 6, 64), expected (1, 1, tokens",
        ),
        (lambda s: s.update(ctx_pos=torch.tensor(1.0)), "ctx_pos has shape ()"),
        (lambda s: s.update(ctx_pos=5), "ctx_pos is a int"),
        (lambda s: s.update(ctx_pos=torch.full((1, 1, 6, 64), float("inf"))), "infinite"),
        (lambda s: s.update(prompt_learner=None), "prompt_learner is a NoneType"),
        (lambda s: s.pop("compound_prompts_text.1"), "numbered [0, 2]"),
        (lambda s: s.pop("compound_prompts_text.0"), "numbered [1, 2]"),
        (
            lambda s: s.update({"compound_prompts_text.0": torch.tensor(1.0)}),
            "compound_prompts_text.0 has shape (), e",
        ),
        (
            lambda s: s.update({"compound_prompts_text.0": torch.ones(64)}),
            "compound_prompts_text.0 has shape (64,), e",
        ),
        (
            lambda s: s.update({f"compound_prompts_text.{n}": torch.ones(3, 64) for n in range(8)}),
            "the prompts, on this CLIP: deep_prompt_depth is 9",
        ),
        (lambda s: s.update({"a\nb": torch.ones(2)}), r"unexpected tensor 'a\nb' of shape"),
        (lambda s: s.update({"a\nb": 5}), r"'a\nb' is a int"),
    ],
)
def test_prompts_that_do_not_fit(clip, prompts, change, words):
    change(prompts)
    with pytest.raises(ValueError) as caught:
        convert_original_checkpoint(clip, prompts)
    assert words.replace("'", "") in str(caught.value).replace("'", "")
    assert "\n" not in str(caught.value)


def test_other_clips_than_openais_are_warned_of(clip, tmp_path, caplog):
    torch.save(clip, tmp_path / "clip.pt")
    convert_original_checkpoint(tmp_path / "clip.pt", None)
    assert f"{tmp_path / 'clip.pt'} is not a file that OpenAI publishes; its activation (quick_gelu)" in caplog.text


def test_prompts_of_another_clip(clip):
    with pytest.raises(ValueError, match=r"ctx_pos has shape \(1, 1, 6, 96\), expected \(1, 1, tokens, 64\)"):
        convert_original_checkpoint(clip, prompt_state_dict(96, 6, 4, 3))


@pytest.mark.parametrize("missing", ["clip.pt", "prompts.pth"])
def test_missing_files(clip, missing, tmp_path):
    path = tmp_path / missing
    arguments = (path, None) if missing == "clip.pt" else (clip, path)
    with pytest.raises(FileNotFoundError, match=missing):
        convert_original_checkpoint(*arguments)
    with pytest.raises(FileNotFoundError, match="is a folder; expected a file"):
        convert_original_checkpoint(clip, tmp_path)
