# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Exported ONNX files against their models, in both runtimes."""

import json
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from anomalyclip_hf import DEFAULT_MODEL, AnomalyCLIPConfig, AnomalyCLIPModel, AnomalyCLIPProcessor, export_onnx
from anomalyclip_hf.assets import EXAMPLE_IMAGES
from anomalyclip_hf.scoring.exported import read_exported
from anomalyclip_hf.scoring.runtimes import OnnxRuntimeBackend, OpenVinoBackend
from anomalyclip_hf.scoring.torch_backends import TorchBackend
from conftest import tiny_model


RUNTIMES = [OnnxRuntimeBackend, OpenVinoBackend]


def demonstration() -> tuple[AnomalyCLIPModel, AnomalyCLIPProcessor]:
    return AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL), AnomalyCLIPProcessor.from_pretrained(DEFAULT_MODEL)


def base_16() -> tuple[AnomalyCLIPModel, AnomalyCLIPProcessor]:
    """Layers of ViT-B/16's shape; three of them, since all twelve are alike."""
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 3}
    vision |= {"image_size": 224, "patch_size": 16}
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = AnomalyCLIPConfig(
        vision_config=vision, text_config=text, projection_dim=512, deep_prompt_depth=3, image_size=160, dpam_layers=2,
        feature_layers=[2, 3],
    )  # fmt: skip
    return AnomalyCLIPModel(config).eval(), AnomalyCLIPProcessor.from_config(config)


def pixels(processor: AnomalyCLIPProcessor, count: int) -> np.ndarray:
    paths = sorted(EXAMPLE_IMAGES.glob("*.png"))[:count]
    return processor(images=[str(path) for path in paths])["pixel_values"].numpy()


def check_backend(backend, model, processor, counts, score=1e-5, maps=1e-4) -> None:
    expected = TorchBackend(model, processor.smoothing_sigma).run(pixels(processor, max(counts)))
    for count in counts:
        found = backend.run(pixels(processor, count))
        np.testing.assert_allclose(found.image_scores, expected.image_scores[:count], atol=score)
        np.testing.assert_allclose(found.anomaly_maps, expected.anomaly_maps[:count], atol=maps)


@pytest.fixture(scope="module", params=[demonstration, base_16])
def exported(request, tmp_path_factory):
    model, processor = request.param()
    folder = tmp_path_factory.mktemp("onnx") / "exported"
    differences = export_onnx(model, folder, processor=processor)
    assert differences.batch_sizes == (1, 2)
    return folder, model, processor


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_scores_and_maps_are_those_of_the_model_at_any_batch_size(exported, runtime):
    folder, model, processor = exported
    backend = runtime(folder)
    assert backend.fingerprint == TorchBackend(model).fingerprint
    check_backend(backend, model, processor, [1, 2, 5])


def test_everything_needed_to_run_it_is_in_the_file_and_beside(exported):
    folder, model, processor = exported
    description = json.loads((folder / "anomalyclip.json").read_text())
    stored = {entry.key: entry.value for entry in onnx.load(folder / "model.onnx").metadata_props}
    for name in ("threshold", "labels", "calibration", "preprocessing", "map_maximum", "smoothing_sigma", "versions"):
        assert json.loads(stored[name]) == description[name]
    assert stored["fingerprint"] == description["fingerprint"]
    assert description["threshold"] == processor.threshold
    assert description["map_maximum"] == len(model.config.feature_layers)
    assert AnomalyCLIPProcessor.from_pretrained(folder).to_dict() == processor.to_dict()


def test_the_file_holds_no_paths_of_this_machine(exported):
    folder, _, _ = exported
    content = (folder / "model.onnx").read_bytes()
    assert b"graph.py" not in content
    assert str(folder.parent).encode() not in content


@pytest.fixture(scope="module")
def with_preprocessing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image") / "exported"
    export_onnx(tiny_model(), folder, preprocessing=True)
    return folder


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_image_of_any_size_goes_in_where_the_graph_resizes(with_preprocessing, runtime, photo):
    model = tiny_model()
    processor = AnomalyCLIPProcessor.from_config(model.config)
    backend, torch_backend = runtime(with_preprocessing), TorchBackend(model, processor.smoothing_sigma)
    for image in (photo, photo.resize((33, 20)), photo.resize((300, 200), Image.Resampling.NEAREST)):
        expected = torch_backend.run(processor(images=image)["pixel_values"].numpy())
        found = backend.run_image(np.asarray(image))
        np.testing.assert_allclose(found.image_scores, expected.image_scores, atol=0.01)
        np.testing.assert_allclose(found.anomaly_maps, expected.anomaly_maps, atol=0.01)
    with pytest.raises(ValueError, match="preprocessing"):
        backend.run(np.zeros((1, 3, 40, 40), np.float32))


def test_float16_halves_the_file(tmp_path):
    model = tiny_model()
    processor = AnomalyCLIPProcessor.from_config(model.config)
    export_onnx(model, tmp_path / "half", processor=processor, precision="float16")
    weights = [
        tensor for tensor in onnx.load(tmp_path / "half" / "model.onnx").graph.initializer if len(tensor.dims) > 1
    ]
    assert sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in weights) > 0.8 * len(weights)
    check_backend(OnnxRuntimeBackend(tmp_path / "half"), model, processor, [2], 0.02, 0.02)


def test_int8_changes_maps_little_and_concerns_the_layers_alone(tmp_path):
    model, processor = demonstration()
    export_onnx(model, tmp_path / "int8", processor=processor, precision="int8")
    counted = Counter(node.op_type for node in onnx.load(tmp_path / "int8" / "model.onnx").graph.node)
    layers = model.config.vision_config.num_hidden_layers
    assert counted["MatMulInteger"] >= 6 * layers  # query, key, value, output and two of the MLP; output twice
    assert counted["Conv"] == 1  # patch embedding
    assert counted["MatMul"] >= 2 * layers + 3  # attention, similarity, smoothing
    expected = TorchBackend(model, processor.smoothing_sigma).run(pixels(processor, 2))
    for runtime in RUNTIMES:
        found = runtime(tmp_path / "int8").run(pixels(processor, 2))
        assert np.abs(found.anomaly_maps - expected.anomaly_maps).mean() < 0.01


def test_a_graph_for_one_image_at_once_and_another_size(tmp_path):
    export_onnx(tiny_model(), tmp_path / "single", image_size=(24, 48), dynamic_batch=False)
    assert read_exported(tmp_path / "single").grid == [3, 6]
    for runtime in RUNTIMES:
        found = runtime(tmp_path / "single").run(np.zeros((3, 3, 24, 48), np.float32))
        assert found.anomaly_maps.shape == (3, 24, 48)
        np.testing.assert_allclose(found.image_scores, found.image_scores[0], atol=1e-6)
