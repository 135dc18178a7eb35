# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Trace the graph to an ONNX program, from which every export is made."""

import ast
import sys
from typing import Any

import torch

from ..modeling_anomalyclip import AnomalyCLIPModel
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..scoring.exported import ExportedModel
from .graph import AnomalyGraph, ImageGraph
from .quiet import quiet


OPSET = 20  # the Attention node of opset 23 is hardly faster, and quantisation makes it invalid


def trace_graph(model: AnomalyCLIPModel, processor: AnomalyCLIPProcessor, exported: ExportedModel) -> Any:
    """Trace a model with the settings of its description.

    Args:
        model ([`AnomalyCLIPModel`]): The model.
        processor ([`AnomalyCLIPProcessor`]): Has image size, smoothing and normalisation.
        exported ([`ExportedModel`]): Has input, precision and patch features; receives the names of the outputs.

    Returns:
        `torch.onnx.ONNXProgram`: with nodes named after their layers.

    Raises:
        ImportError: If onnx or onnxscript is not installed.
    """
    import onnxscript  # noqa: F401  # a missing package is named before any work

    dtype = torch.float16 if exported.precision == "float16" else torch.float32
    graph = AnomalyGraph(model, processor.size, processor.smoothing_sigma, dtype, exported.feature_layers)
    exported.outputs = graph.output_names
    module: torch.nn.Module = graph
    example = torch.zeros(2 if exported.dynamic_batch else 1, 3, *processor.size)
    shapes = {0: torch.export.Dim("batch", min=1)} if exported.dynamic_batch else {}
    if exported.input == "image":
        settings = processor.image_processor
        module = ImageGraph(graph, settings.image_mean, settings.image_std)
        example = torch.zeros(1, 300, 400, 3, dtype=torch.uint8)
        shapes = {1: torch.export.Dim("height", min=1), 2: torch.export.Dim("width", min=1)}
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes={exported.input: shapes},
            input_names=[exported.input],
            output_names=exported.outputs,
            opset_version=OPSET,
            optimize=False,  # `_tidy` does so, with larger limits
            verbose=False,
        )
        _tidy(program.model)  # type: ignore[union-attr]
    return program


def _tidy(graph_model: Any) -> None:
    """Fold constants such as transposed weights, and name nodes after their layers.

    Traces of the source code are removed, since they contain paths of this machine.
    """
    from onnxscript.optimizer import optimize_ir

    optimize_ir(graph_model, input_size_limit=sys.maxsize, output_size_limit=sys.maxsize)
    graph_model.metadata_props.clear()
    graph_model.graph.metadata_props.clear()
    values = [*graph_model.graph.initializers.values(), *graph_model.graph.inputs]
    for node in graph_model.graph.all_nodes():
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
        if len(scopes) > 1 and scopes[-2]:
            node.name = f"{scopes[-2]}/{node.name}"
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
