# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Quantise the linear layers of an exported graph to 8 bits.

They hold nearly all weights. The patch embedding, attention, the projection into CLIP's joint space and the
computation of scores and maps lose too much precision in 8 bits, and stay in floating point.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .quiet import quiet


LAYERS = "encoder.layers."  # part of the names of all nodes in the layers


def quantize_onnx(path: Path) -> None:
    """Quantise `model.onnx` in place; ONNX Runtime measures the ranges of activations as it runs.

    Args:
        path (`Path`): File of the float32 model; its external data, if any, is replaced too.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    layers = [node.name for node in model.graph.node if node.op_type == "MatMul" and LAYERS in node.name]
    path.unlink()
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
    with quiet():
        quantize_dynamic(
            model,
            path,
            nodes_to_quantize=layers,
            op_types_to_quantize=["MatMul"],
            weight_type=QuantType.QInt8,
            per_channel=True,
        )


def quantize_openvino(model: Any, inputs: Sequence[np.ndarray]) -> Any:
    """Quantise an OpenVINO model with NNCF.

    Args:
        model (`openvino.Model`): The float32 model.
        inputs (`Sequence[np.ndarray]`): Inputs on which the ranges of activations are measured.

    Returns:
        `openvino.Model`
    """
    import nncf

    kept = [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Convolution"
        or (node.get_type_name() == "MatMul" and LAYERS not in node.get_friendly_name())
    ]
    with quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=kept, types=["ScaledDotProductAttention"], validate=False),
        )
