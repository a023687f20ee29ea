"""The network as an ONNX graph, whose input is a photo's pixels after the resize."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from fastai.layers import AdaptiveConcatPool2d
from fastai.layers import Flatten as FastaiFlatten
from torch import Tensor, nn

from petinfer.spec import CHANNELS

from ..errors import ExportError, one_line
from ..source.preprocessing import Crop, Statistics
from ..source.resampling import Resampling
from ..source.source_model import SourceModel
from .parts import ConcatPool, LinearNetwork, PooledNetwork, divide

OPSET = 18


class PixelsToAnswers(nn.Module):
    """``image`` uint8 [batch, height, width, channels] → ``probabilities`` and ``logits``, float32 [batch, classes].

    And ``features`` [batch, features] and ``heat`` [batch, rows, columns], where the network gives them.
    """

    scale: Tensor
    shift: Tensor
    rows: Tensor | None
    columns: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        width: int,
        statistics: Statistics,
        resampling: Resampling | None = None,
        crop: Crop | None = None,
        several_labels: bool = False,
    ) -> None:
        super().__init__()
        self.several_labels = several_labels
        self.crop = crop
        rows, columns = resampling or (None, None)
        self.register_buffer("rows", None if rows is None else torch.from_numpy(rows))
        self.register_buffer("columns", None if columns is None else torch.from_numpy(columns.T.copy()))
        self.model = model
        mean, std = statistics
        self.channels = len(mean)
        # fastai divides by 255, subtracts and divides again; one multiplication and one addition do the same. They hold a
        # whole line: onnxruntime takes many times as long to broadcast three values
        self.register_buffer("scale", torch.tensor([1 / (255 * s) for s in std]).repeat(width))
        self.register_buffer("shift", torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).repeat(width))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Crop, normalise, resample where the Learner does, classify, softmax (sigmoid for several labels).

        The Learner resamples before it normalises, which is the same: each result's weights sum to 1.
        """
        if self.crop is not None:
            top, left = self.crop.top, self.crop.left
            image = image[:, top : top + self.crop.height, left : left + self.crop.width]
        if image.shape[3] != self.channels:  # grey photos for a network of colours
            image = image.expand(-1, -1, -1, self.channels)
        lines = image.flatten(2).float() * self.scale + self.shift
        pixels = lines.unflatten(2, (-1, self.channels)).permute(0, 3, 1, 2)
        if self.rows is not None and self.columns is not None:
            pixels = self.rows @ pixels @ self.columns
        given = self.model(pixels)
        logits, *others = given if isinstance(given, tuple) else (given,)
        return logits.sigmoid() if self.several_labels else logits.softmax(1), logits, *others


def _with_plain_pooling(model: nn.Module) -> nn.Module:
    """Replace fastai's adaptive pooling, which would become a dozen nodes of arithmetic on shapes."""
    for name, child in model.named_children():
        if isinstance(child, AdaptiveConcatPool2d) and child.size == 1:
            setattr(model, name, ConcatPool())
        elif isinstance(child, FastaiFlatten):
            setattr(model, name, nn.Flatten())
        else:
            _with_plain_pooling(child)
    return model


def export_graph(source: SourceModel) -> onnx.ModelProto:
    """The fp32 model, checked, without its description.

    Raises:
        ExportError: torch cannot export the network.
    """
    try:
        model = _export(source)
        _remove_traces(model)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # torch's exporter raises anything
        problem = f"torch cannot export it to ONNX: {one_line(error, 200)}"
        raise ExportError(f"network: {problem} (use operators that torch.onnx supports)") from error
    return model


def _export(source: SourceModel) -> onnx.ModelProto:
    height, width, channels = source.resize.height, source.resize.width, CHANNELS[source.mode]
    model = _divided(source)
    network = PixelsToAnswers(
        model,
        source.crop.width if source.crop else width,
        source.statistics or ((0.0,) * channels, (1.0,) * channels),
        source.resampling,
        source.crop,
        several_labels=source.threshold is not None,
    )
    return as_onnx(network, (height, width, channels), _OUTPUTS.get(type(model), ()))


def as_onnx(network: PixelsToAnswers, shape: tuple[int, int, int], further: Sequence[str] = ()) -> onnx.ModelProto:
    """The network over photos of a shape, [height, width, channels], as a graph for batches of any size.

    ``further`` names the outputs besides probabilities and logits. Raises what torch raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(),
            (torch.zeros(2, *shape, dtype=torch.uint8),),
            input_names=["image"],
            output_names=["probabilities", "logits", *further],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


_OUTPUTS = {PooledNetwork: ("features", "heat"), LinearNetwork: ("features",)}


def _divided(source: SourceModel) -> nn.Module:
    """A copy of the network, which also gives features and heat where it can."""
    model = _with_plain_pooling(copy.deepcopy(source.learn.model)).eval()
    height, width = (
        (source.crop.height, source.crop.width) if source.crop else (source.resize.height, source.resize.width)
    )
    if source.resampling is not None:
        height, width = (len(matrix) for matrix in source.resampling)
    channels = len(source.statistics[0]) if source.statistics else CHANNELS[source.mode]
    return divide(model, torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0)))


def macs(model: onnx.ModelProto) -> int | None:
    """Multiply-accumulates for one photo, in convolutions and matrix products: nearly all of the work. None if unknown."""
    counts = macs_by_node(model)
    return None if counts is None else sum(count for _, count in counts)


def macs_by_node(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, int]] | None:
    """The convolutions and matrix products with their multiply-accumulates for one photo; None if a shape is unknown."""
    shapes = shapes_of(model)
    counts = []
    try:
        for node in model.graph.node:
            if node.op_type == "Conv":
                counts.append((node, math.prod(shapes[node.input[1]]) * math.prod(shapes[node.output[0]][2:])))
            elif node.op_type in ("Gemm", "MatMul"):
                counts.append((node, math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]))
    except (KeyError, IndexError):
        return None
    return counts


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Every tensor's shape, with 1 for the symbolic batch; a dequantized weight has that of its int8 values."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    shapes |= {each.name: list(each.dims) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in shapes:
            shapes.setdefault(node.output[0], shapes[node.input[0]])
    return shapes


def side_nodes(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that only other outputs need than ``probabilities`` and ``logits``; all have names."""
    needed = {"probabilities", "logits"}
    side = []
    for node in reversed(model.graph.node):  # in an order in which they can be computed
        if needed & set(node.output):
            needed |= set(node.input)
        else:
            side.append(node.name)
    return side


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """A node's attribute; the operator's ``default`` where the node does not set it."""
    return next((onnx.helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def is_depthwise(groups: int, weight_shape: Sequence[int]) -> bool:
    """Whether each output of a convolution reads one channel, and each channel has one output."""
    return groups > 1 and weight_shape[0] == groups and weight_shape[1] == 1


def _remove_traces(model: onnx.ModelProto) -> None:
    """Remove torch's notes on each node: stack traces with this machine's paths, a tenth of a megabyte."""
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
