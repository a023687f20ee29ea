"""The network as an ONNX graph that takes a photo's pixels as the resize left them."""

from __future__ import annotations

import copy
import hashlib
import math
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import torch
from fastai.layers import AdaptiveConcatPool2d
from fastai.layers import Flatten as FastaiFlatten
from torch import Tensor, nn

from petinfer.spec import METADATA_KEY, Spec

from .learner import Original, Resampling, Statistics

OPSET = 18


class PixelsToAnswers(nn.Module):
    """``image`` uint8 [batch, height, width, 3] → ``probabilities`` and ``logits``, float32 [batch, classes]."""

    scale: Tensor
    shift: Tensor
    rows: Tensor | None
    columns: Tensor | None

    def __init__(
        self, model: nn.Module, width: int, statistics: Statistics | None, resampling: Resampling | None = None
    ) -> None:
        super().__init__()
        rows, columns = resampling or (None, None)
        self.register_buffer("rows", None if rows is None else torch.from_numpy(rows))
        self.register_buffer("columns", None if columns is None else torch.from_numpy(columns.T.copy()))
        self.model = _with_plain_pooling(model)
        mean, std = statistics or ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        # fastai divides by 255, subtracts and divides again; one multiplication and one addition do the same, of whole lines:
        # onnxruntime takes many times as long to repeat three values as to take as many as it needs
        self.register_buffer("scale", torch.tensor([1 / (255 * s) for s in std]).repeat(width))
        self.register_buffer("shift", torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).repeat(width))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise, resample where the Learner does, classify, softmax.

        The Learner resamples first, which is the same: each result's weights sum to 1.
        """
        lines = image.flatten(2).float() * self.scale + self.shift
        pixels = lines.unflatten(2, (-1, 3)).permute(0, 3, 1, 2)
        if self.rows is not None and self.columns is not None:
            pixels = self.rows @ pixels @ self.columns
        logits = self.model(pixels)
        return logits.softmax(1), logits


class _GlobalConcatPool(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], 1)


def _with_plain_pooling(model: nn.Module) -> nn.Module:
    """fastai's head pools adaptively, whatever the size of the maps, which becomes a dozen nodes of arithmetic on shapes."""
    for name, child in model.named_children():
        if isinstance(child, AdaptiveConcatPool2d) and child.size == 1:
            setattr(model, name, _GlobalConcatPool())
        elif isinstance(child, FastaiFlatten):
            setattr(model, name, nn.Flatten())
        else:
            _with_plain_pooling(child)
    return model


def export_graph(original: Original) -> onnx.ModelProto:
    """The fp32 model, checked, without its description."""
    height, width = original.resize.height, original.resize.width
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            PixelsToAnswers(copy.deepcopy(original.model), width, original.statistics, original.resampling).eval(),
            (example,),
            input_names=["image"],
            output_names=["probabilities", "logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_where_it_came_from(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def macs(model: onnx.ModelProto) -> int | None:
    """Multiply-accumulates for one photo, in convolutions and matrix products: nearly all of the work. None if unknown."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {each.name: list(each.dims) for each in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]  # the batch is symbolic
    count = 0
    try:
        for node in graph.node:
            if node.op_type == "Conv":
                count += math.prod(shapes[node.input[1]]) * math.prod(shapes[node.output[0]][2:])
            elif node.op_type in ("Gemm", "MatMul"):
                count += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    except (KeyError, IndexError):  # a shape that cannot be inferred
        return None
    return count


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """What a node says of itself by that name; ``default``, which is the operator's, where it says nothing."""
    return next((onnx.helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def _forget_where_it_came_from(model: onnx.ModelProto) -> None:
    """Drop torch's notes on each node: stack traces with this machine's paths, a tenth of a megabyte."""
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
        *model.graph.initializer,
    ):
        del part.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""


def seal(model: onnx.ModelProto, spec: Spec, path: Path) -> None:
    """Write the model with its description and the sha256 of both: one file, no external data."""
    describe(model, replace(spec, sha256="0" * 64))
    unsealed = model.SerializeToString()
    describe(model, replace(spec, sha256=hashlib.sha256(unsealed).hexdigest()))
    beside = path.with_suffix(".part")
    beside.write_bytes(model.SerializeToString())
    os.replace(beside, path)  # a session that has the file's weights mapped keeps those that it has


def describe(model: onnx.ModelProto, spec: Spec) -> None:
    """Put the description into the model, in place of one that it had."""
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend([*kept, onnx.StringStringEntryProto(key=METADATA_KEY, value=spec.to_json())])
