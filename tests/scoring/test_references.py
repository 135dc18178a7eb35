# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file

from anomalyclip_hf import (
    AnomalyCLIPModel,
    AnomalyDetectionPipeline,
    AnomalyScorer,
    ReferenceMemory,
)
from anomalyclip_hf.scoring.backends import Outputs
from anomalyclip_hf.scoring.evidence import ReferenceEvidence
from anomalyclip_hf.scoring.opening import open_detector
from anomalyclip_hf.scoring.reference_backend import ReferenceBackend
from anomalyclip_hf.scoring.reference_images import image_digest
from anomalyclip_hf.scoring.references import FILE_NAME, METADATA_KEY
from conftest import tiny_model


pytest_plugins = ["export.exports"]


def part(seed: int, is_damaged: bool = False) -> Image.Image:
    """A dark plate with two bright holes on grey, with a little grain; damaged, a third hole."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (80, 80), (120, 120, 125))
    draw = ImageDraw.Draw(image)
    draw.rectangle((10, 20, 70, 60), fill=(40, 42, 60))
    for centre in ((25, 40), (55, 40)) + (((40, 52),) if is_damaged else ()):
        draw.circle(centre, 6, fill=(220, 210, 90))
    grain = np.asarray(image) + rng.normal(0, 3, (80, 80, 3))
    return Image.fromarray(grain.clip(0, 255).astype(np.uint8))


@pytest.fixture
def good() -> list[Image.Image]:
    return [part(seed) for seed in range(6)]


@pytest.fixture
def memory(model, good) -> ReferenceMemory:
    return ReferenceMemory.from_images(model, None, good, layers=[1, 2])


def features_of(model, images, layers) -> list[torch.Tensor]:
    detector = open_detector(model)
    pixels = np.stack([detector.preprocessing(image) for image in images])
    return list(detector.backend.run(pixels, layers).patch_features)


def test_distances_are_those_of_the_definition(model, memory, good):
    layers = memory.settings.layers
    queries = features_of(model, [part(99, is_damaged=True)], layers)
    expected = 0
    for query, reference, typical in zip(
        queries, features_of(model, good, layers), memory.settings.typical, strict=True
    ):
        query, reference = (torch.nn.functional.normalize(x, dim=-1) for x in (query, reference))
        nearest = 1 - (query[0] @ reference.flatten(0, 1).T).max(1).values
        expected = expected + nearest / typical / len(layers)
    np.testing.assert_allclose(memory.distances(queries)[0], expected, atol=2e-3)
    of_numpy = memory.distances([query.numpy() for query in queries])
    np.testing.assert_allclose(memory.distances(queries), of_numpy, atol=1e-4)
    assert memory.distances(features_of(model, good[:1], layers)).max() < 1e-3


def test_a_damaged_image_scores_higher_and_where_it_is_damaged(model, memory):
    plain, scorer = AnomalyScorer(model), AnomalyScorer(model, references=memory)
    images = [part(50), part(51, is_damaged=True)]
    (good, bad), (plain_good, plain_bad) = scorer.score(images), plain.score(images)
    assert bad.score - good.score > plain_bad.score - plain_good.score
    change = bad.anomaly_map - plain_bad.anomaly_map
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert abs(row - 52) < 12
    assert abs(column - 40) < 12
    for result in (good, bad):
        assert 0 <= result.score <= 1
        assert result.anomaly_map.min() >= 0
        assert result.anomaly_map.max() <= scorer.map_maximum
    assert scorer.backend.name == "references(torch)"
    assert scorer.score_key != plain.score_key
    assert scorer.settings["references"]["images"] == 6
    assert plain.settings["references"] is None


def test_references_that_differ_as_much_as_anomalies_change_nothing(model, good, memory):
    memory.evidence = ReferenceEvidence.from_held_out([0.6, 0.8, 0.7])
    with_references = list(AnomalyScorer(model, references=memory).score(good))
    for result, expected in zip(with_references, AnomalyScorer(model).score(good), strict=True):
        assert result.score == expected.score
        np.testing.assert_array_equal(result.anomaly_map, expected.anomaly_map)


def test_saved_and_loaded_memories_score_alike(model, memory, tmp_path):
    memory.save_pretrained(tmp_path / "memory")
    loaded = ReferenceMemory.from_pretrained(tmp_path / "memory")
    assert loaded.settings == memory.settings
    assert loaded.digest == memory.digest
    scores = [
        next(AnomalyScorer(model, references=references).score([part(7)])).score
        for references in (memory, loaded, tmp_path / "memory", tmp_path / "memory" / FILE_NAME)
    ]
    assert scores == pytest.approx([scores[0]] * 4, abs=1e-5)


def test_a_folder_of_images_a_list_and_the_pipeline_agree(model, good, tmp_path):
    for number, image in enumerate(good):
        image.save(tmp_path / f"{number}.png")
    of_folder, of_list = (AnomalyScorer(model, references=given) for given in (tmp_path, good))
    assert of_folder.references.settings.held_out == of_list.references.settings.held_out
    expected = next(of_folder.score([part(3, is_damaged=True)]))
    pipe = AnomalyDetectionPipeline(model=model)
    result = pipe(part(3, is_damaged=True), references=of_folder.references)
    assert result["score"] == pytest.approx(expected.score, abs=1e-5)
    np.testing.assert_allclose(np.asarray(result["anomaly_map"]), expected.anomaly_map, atol=1e-5)
    assert pipe(part(3))["score"] == pytest.approx(next(AnomalyScorer(model).score([part(3)])).score, abs=1e-6)


def test_exported_runtimes_without_torch_features_work_too(model, memory, good):
    class NumpyBackend:
        """Give the features as NumPy arrays, as ONNX Runtime does."""

        def __init__(self, base):
            self.base = base

        def __getattr__(self, name):
            return getattr(self.base, name)

        def run(self, pixel_values, feature_layers=()):
            outputs = self.base.run(pixel_values, feature_layers)
            return outputs._replace(patch_features=tuple(states.numpy() for states in outputs.patch_features))

    base = open_detector(model).backend
    pixels = np.stack([open_detector(model).preprocessing(image) for image in good])
    expected = ReferenceBackend(base, memory).run(pixels, [3])
    found = ReferenceBackend(NumpyBackend(base), memory).run(pixels, [3])
    np.testing.assert_allclose(found.image_scores, expected.image_scores, atol=1e-5)
    assert len(found.patch_features) == 1  # what was asked for, and no more
    assert found.image_embeds is not None
    assert isinstance(expected, Outputs)


@pytest.mark.parametrize(("kind", "tolerance"), [("onnxruntime", 1e-4), ("onnxruntime int8", 0.1)])
def test_exported_models_in_each_precision_take_the_same_memory(model, good, exports, kind, tolerance):
    memory = ReferenceMemory.from_images(model, None, good, layers=[2])
    expected = list(AnomalyScorer(model, references=memory).score(good))
    found = list(AnomalyScorer(exports(kind), references=memory).score(good))
    for result, other in zip(found, expected, strict=True):
        assert result.score == pytest.approx(other.score, abs=tolerance)
    own = AnomalyScorer(exports(kind), references=good, tile=40)  # references, tiles and a runtime together
    assert own.references.settings.layers == [2, 3, 4]
    assert next(own.score([part(30, is_damaged=True)])).error is None


def test_mutual_scoring_of_images_with_references(model, memory, good):
    scorer = AnomalyScorer(model, references=memory, mutual=True)
    results = list(scorer.score([*good[:3], part(8, is_damaged=True)]))
    assert max(results, key=lambda result: result.score).index == 3
    assert all(0 <= result.score <= 1 for result in results)


def test_coreset_keeps_the_patches_that_differ(model, good):
    whole = ReferenceMemory.from_images(model, None, good, layers=[2])
    for coreset, count in ((0.2, 30), (40, 40), (10_000, 150)):
        thin = ReferenceMemory.from_images(model, None, good, layers=[2], coreset=coreset)
        assert thin._indices[0].features.shape[:2] == ((1, count) if count < 150 else (6, 25))
        assert thin.settings.held_out == whole.settings.held_out
    thin = ReferenceMemory.from_images(model, None, good, layers=[2], coreset=0.2)
    queries = features_of(model, good, [2])
    assert thin.distances(queries).mean() < 0.2  # of the distance between patches picked at random


def test_radius_and_tiles(model, good):
    near = ReferenceMemory.from_images(model, None, good, radius=1)
    everywhere = ReferenceMemory.from_images(model, None, good)
    queries = features_of(model, [part(9).transpose(Image.Transpose.ROTATE_90)], near.settings.layers)
    assert (near.distances(queries) >= everywhere.distances(queries) - 1e-5).all()
    assert near.distances(queries).mean() > everywhere.distances(queries).mean()
    tiled = AnomalyScorer(model, references=good, tile=40)
    assert len(tiled.references._indices[0].features) > len(good)
    assert len(tiled.references.settings.held_out) == len(good)
    assert next(tiled.score([part(3)])).error is None
    with pytest.raises(ValueError, match="tile"):
        AnomalyScorer(model, references=tiled.references)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"coreset": 0}, "coreset"),
        ({"coreset": True}, "coreset"),
        ({"radius": -1}, "radius"),
        ({"radius": 1.5}, "radius"),
        ({"radius": 1, "coreset": 5}, "radius"),
        ({"radius": 1, "tile": 40}, "radius"),
        ({"layers": [9]}, "layers"),
    ],
)
def test_arguments_out_of_range(model, good, arguments, word):
    with pytest.raises(ValueError, match=word):
        ReferenceMemory.from_images(model, None, good, **arguments)


def test_another_model_or_size_is_refused(memory, good):
    other = tiny_model()
    with torch.no_grad():
        other.clip.vision_model.post_layernorm.weight += 0.1
    with pytest.raises(ValueError, match="model"):
        AnomalyScorer(other, references=memory)
    with pytest.raises(ValueError, match="40x40"):
        AnomalyScorer(tiny_model(image_size=48), references=memory)
    with pytest.raises(ValueError, match="model"):
        AnomalyDetectionPipeline(model=other)(good[0], references=memory)


def test_one_reference(model, good):
    memory = ReferenceMemory.from_images(model, None, good[:1])
    assert memory.settings.held_out == []
    assert 0 < memory.evidence.weight < ReferenceMemory.from_images(model, None, good).evidence.weight


def test_repeated_and_unreadable_images_are_passed_over(model, good, tmp_path, caplog):
    (tmp_path / "broken.png").write_bytes(b"no image")
    good[0].save(tmp_path / "again.png")
    images = [*good[:3], good[1], str(tmp_path / "broken.png"), str(tmp_path / "again.png")]
    with caplog.at_level(logging.WARNING):
        memory = ReferenceMemory.from_images(model, None, images)
    assert len(memory) == 3
    assert memory.settings.digests == [image_digest(image) for image in good[:3]]
    assert all(name in caplog.text for name in ("broken.png", "again.png", "image 3"))


def test_no_reference_at_all(model, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="reference"):
        ReferenceMemory.from_images(model, None, [str(tmp_path / "broken.png")])
    with pytest.raises(ValueError, match="reference"):
        ReferenceMemory.from_images(model, None, [])
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        with pytest.raises(FileNotFoundError, match=folder):
            AnomalyScorer(model, references=tmp_path / folder)


def test_a_reference_unlike_the_others_is_named(model, good, caplog, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(tmp_path / "odd.png")
    with caplog.at_level(logging.WARNING):
        ReferenceMemory.from_images(model, None, good)
        assert not caplog.records
        ReferenceMemory.from_images(model, None, [*good, str(tmp_path / "odd.png")])
    assert "odd.png" in caplog.text


def test_nan_in_the_weights_or_the_image_is_named(model, good, memory):
    queries = [states.clone() for states in features_of(model, good[:1], memory.settings.layers)]
    queries[0][0, 3] = torch.nan
    scores, _ = memory.combine(np.array([0.5], np.float32), np.zeros((1, 40, 40), np.float32), queries, 1.0)
    assert np.isnan(scores).all()
    with torch.no_grad():
        model.clip.vision_model.encoder.layers[0].mlp.fc1.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="image 0"):
        ReferenceMemory.from_images(model, None, good)


def test_damaged_files_are_refused(memory, tmp_path):
    memory.save_pretrained(tmp_path)
    path = tmp_path / FILE_NAME
    tensors, settings = load_file(path), {METADATA_KEY: json.dumps(vars(memory.settings))}
    tensors["layer_1"][0, 0, 0] = np.nan
    for content, metadata in ((tensors, settings), ({"layer_1": tensors["layer_1"]}, settings), (tensors, {})):
        save_file(content, path, metadata)
        with pytest.raises(OSError, match=FILE_NAME):
            ReferenceMemory.from_pretrained(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OSError, match=FILE_NAME):
        ReferenceMemory.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        ReferenceMemory.from_pretrained(tmp_path / "elsewhere")


def test_memory_of_the_demonstration_model_recognises_its_own_weights(tmp_path, model, good, memory):
    model.save_pretrained(tmp_path)
    reloaded = AnomalyCLIPModel.from_pretrained(tmp_path).eval()
    assert next(AnomalyScorer(reloaded, references=memory).score(good[:1])).error is None
