"""int8 by onnxruntime's QDQ quantizer: weights by channel, calibrated on photos.

Processors without VNNI multiply uint8 by int8 with ``vpmaddubsw``, which adds two neighbouring products in 16 bits and
saturates: 2 · 255 · 127 does not fit. onnxruntime's ``reduce_range`` gives every weight 7 bits, which is
enough for any two neighbours. Instead, each channel gets the finest scale at which no two neighbouring weights of the same
sign sum to more than 128. Depthwise convolutions are multiplied in 32 bits, and their weights use all 8 bits.

A clip whose lower bound is 0 (ReLU6) needs no operation of its own: int8 saturates where it would clip.

A ResNet block adds to its input. With `Scheme.float_sums`, what it adds is rounded but the sum is not, because its rounding
error remains in all later blocks.
``python -m benchmarks.quantization`` compares the schemes.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..errors import ExportError, one_line
from .calibration import Progress, logged_output, measure_ranges, quietly
from .equalization import equalize
from .gptq import round_weights
from .graph import attribute, is_depthwise, macs_by_node, shapes_of, side_nodes
from .normalisation import Normalisation, add_in_int8, fold_scale
from .space_to_depth import space_to_depth

_QUANTIZED = ("Conv", "MaxPool", "Relu", "Clip")  # the head, a thousandth of the work, stays in float
_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


@dataclass(frozen=True)
class Scheme:
    """How a network is quantized."""

    activations: str = "uint8"
    weights: str = "int8"
    weight_range: str = "pairs"  # pairs: no two neighbours saturate; 7 bits, 8 bits: each weight by itself
    calibration: str = "Percentile"  # how activations get their ranges: MinMax, Entropy or Percentile
    percentile: float = 99.999
    compensated: bool = True  # weights make up for each other's rounding; needs weight_range pairs
    float_sums: bool = False  # sums of a block and its input stay in float
    space_to_depth: bool = True  # a ResNet's first convolution goes over the channels of 2 x 2 pixels
    equalized: float = 0.75  # how evenly the channels of maps use their range, 0 to 1
    int8_pixels: bool = True  # the normalisation is an addition of bytes
    float_ends: bool = False  # the first and the last convolution stay in float


@dataclass(frozen=True)
class Prepared:
    """A network in fp32 whose weights are rounded, which takes most of the time of `quantize`; activations are not."""

    network: onnx.ModelProto
    ranges: dict[str, NDArray[np.float64]]
    """The range of each channel of a weight, by the weight's name."""
    normalisation: Normalisation | None
    scheme: Scheme


def quantize(
    model: onnx.ModelProto, images: NDArray[np.uint8], scheme: Scheme | None = None, progress: Progress = quietly
) -> onnx.ModelProto:
    """The model in int8.

    Args:
        model: the fp32 model.
        images: calibration photos through petinfer's own preprocessing, uint8 [photos, height, width, 3].
        scheme: None takes `Scheme`'s defaults.
        progress: shows the progress of the calibration.

    Raises:
        ExportError: onnxruntime cannot quantize the network.
    """
    return quantize_prepared(prepare(model, images, scheme, progress), images, progress)


def prepare(
    model: onnx.ModelProto, images: NDArray[np.uint8], scheme: Scheme | None = None, progress: Progress = quietly
) -> Prepared:
    """The first part of `quantize`, which takes the same arguments; ``float_sums`` does not matter to it."""
    scheme = scheme or Scheme()
    with _one_line_errors(), tempfile.TemporaryDirectory() as folder:
        network = _fold(model, Path(folder))
        normalisation = fold_scale(network) if scheme.int8_pixels and _starts_in_int8(network, scheme) else None
        if scheme.equalized:
            equalize(network, images, scheme.equalized)
        if scheme.space_to_depth:
            space_to_depth(network, *_pixel_size(network, images))
        ranges = _ranges_by_pairs(network, _in_float(network, scheme)) if scheme.weight_range == "pairs" else {}
        if scheme.compensated:
            steps = {name: largest / 127 for name, largest in ranges.items()}
            network = round_weights(network, images, steps, progress)
    return Prepared(network, ranges, normalisation, scheme)


def quantize_prepared(prepared: Prepared, images: NDArray[np.uint8], progress: Progress = quietly) -> onnx.ModelProto:
    """The second part of `quantize`."""
    with _one_line_errors(), tempfile.TemporaryDirectory() as folder:
        quantized = _quantize(prepared, images, progress, Path(folder))
    if prepared.scheme.float_sums:
        _add_in_float(quantized)
    if prepared.normalisation:
        add_in_int8(quantized, prepared.normalisation)
    return quantized


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # onnxruntime's quantizer raises anything
        problem = f"onnxruntime cannot quantize the network: {one_line(error, 200)}"
        raise ExportError(f"int8: {problem} (give --precision fp32 --precision fp16)") from error


def _fold(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The fp32 model with its batch norms folded into the convolutions."""
    source, folded = folder / "fp32.onnx", folder / "folded.onnx"
    onnx.save_model(model, str(source))
    quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
    return onnx.load_model(str(folded))


def _pixel_size(network: onnx.ModelProto, images: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of the pixels that the network transposes: those of the images, or of a crop."""
    transpose = next((node for node in network.graph.node if node.op_type == "Transpose"), None)
    shape = shapes_of(network).get(transpose.input[0]) if transpose else None
    height, width = shape[1:3] if shape and len(shape) == 4 else images.shape[1:3]
    return height, width


def _quantize(prepared: Prepared, images: NDArray[np.uint8], progress: Progress, folder: Path) -> onnx.ModelProto:
    scheme, source, target = prepared.scheme, folder / "prepared.onnx", folder / "int8.onnx"
    onnx.save_model(prepared.network, str(source))
    operators = [*_QUANTIZED] if scheme.float_sums else [*_QUANTIZED, "Add"]  # measuring more would take longer
    quantizer = QDQQuantizer(
        load_model_with_shape_infer(source),
        per_channel=True,
        reduce_range=scheme.weight_range == "7 bits",
        weight_qType=_TYPES[scheme.weights],
        activation_qType=_TYPES[scheme.activations],
        tensors_range=measure_ranges(source, operators, images, (scheme.calibration, scheme.percentile), progress),
        nodes_to_quantize=[],
        nodes_to_exclude=_in_float(prepared.network, scheme),
        op_types_to_quantize=operators,
        extra_options={
            "TensorQuantOverrides": {name: _overrides(largest) for name, largest in prepared.ranges.items()}
        },
    )
    with logged_output():
        quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(target))
    return onnx.load_model(str(target))


def int8_share(model: onnx.ModelProto) -> float | None:
    """The share of the multiplications that a quantized model does in int8, 0 to 1; None if a shape is unknown."""
    counts = macs_by_node(model)
    if not counts:
        return None
    dequantized = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    in_int8 = sum(count for node, count in counts if set(node.input[:2]) <= dequantized)
    return in_int8 / max(1, sum(count for _, count in counts))


def _in_float(network: onnx.ModelProto, scheme: Scheme) -> list[str]:
    """The names of the nodes that stay in float: the normalisation, heat, familiarity, and the ends if the scheme says so."""
    names = side_nodes(network) + _sensitive_start(network) + (_ends(network) if scheme.float_ends else [])
    return names + _float_additions(network, names)


def _starts_in_int8(network: onnx.ModelProto, scheme: Scheme) -> bool:
    first = next((node.name for node in network.graph.node if node.op_type == "Conv"), None)
    return first is not None and first not in _in_float(network, scheme)


def _float_additions(network: onnx.ModelProto, in_float: list[str]) -> list[str]:
    """The names of the additions that do not add two results of int8 operators, such as the normalisation's."""
    in_int8: set[str] = set()
    names = []
    for node in network.graph.node:
        if node.op_type == "Add" and not in_int8.issuperset(node.input):
            names.append(node.name)
        elif node.op_type in (*_QUANTIZED, "Add") and node.name not in in_float:
            in_int8.update(node.output)
    return names


def has_int8_sums(model: onnx.ModelProto) -> bool:
    """Whether a quantized model rounds a sum of a block and its input."""
    nodes = {name: node for node in model.graph.node for name in node.output}
    rounded = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    read = {name for name, node in nodes.items() if node.op_type == "DequantizeLinear" and node.input[0] in nodes}
    sums = [node for node in model.graph.node if node.op_type == "Add" and read.issuperset(node.input)]
    return any(node.output[0] in rounded for node in sums)


def _sensitive_start(network: onnx.ModelProto) -> list[str]:
    """The names of the first convolutions where the second one is depthwise, as in MobileNets and EfficientNets.

    Some of their maps are nearly zero, depthwise convolutions enlarge these and int8's error with them, and all later
    layers inherit it. They stay in float up to the block that makes the maps an eighth as wide as the photo: in
    EfficientNet-Lite2 twelve layers with 16 % of the multiplications.
    """
    shapes = {each.name: each.dims for each in network.graph.initializer}
    layers = [node for node in network.graph.node if node.op_type == "Conv"]
    groups = [attribute(node, "group", 1) for node in layers]
    if len(layers) < 2 or any(node.input[1] not in shapes for node in layers):
        return []
    if not is_depthwise(groups[1], shapes[layers[1].input[1]]):
        return []
    narrowing = itertools.accumulate((attribute(node, "strides", [1, 1])[1] for node in layers), operator.mul)
    first_in_int8 = next((i - 1 for i, factor in enumerate(narrowing) if factor >= 8), 2)  # layer i is depthwise
    return [node.name for node in layers[:first_in_int8]]


def _add_in_float(model: onnx.ModelProto) -> None:
    """Let a sum read an earlier sum in float, rather than as the convolutions read it, in int8."""
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Add":
            node.input[:] = [_unrounded(name, producers) for name in node.input]


def _unrounded(name: str, producers: dict[str, onnx.NodeProto]) -> str:
    """The float sum behind a dequantized tensor; any other tensor is itself."""
    given = producers.get(name)
    if given is None or given.op_type != "DequantizeLinear" or given.input[0] not in producers:
        return name
    source = producers[given.input[0]].input[0]
    return source if producers[source].op_type in ("Add", "Relu") else name


def _ranges_by_pairs(model: onnx.ModelProto, in_float: list[str]) -> dict[str, NDArray[np.float64]]:
    """The range of each convolution's channels, float64 [channels], so that their largest pair sums to 127 steps."""
    weights = {init.name: init for init in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "Conv" and node.name not in in_float]
    layers = [node for node in layers if node.input[1] in weights]
    return {node.input[1]: _range(node, onnx.numpy_helper.to_array(weights[node.input[1]])) for node in layers}


def _range(node: onnx.NodeProto, weights: NDArray[Any]) -> NDArray[np.float64]:
    """The range of each channel of a convolution, float64 [channels]."""
    if not is_depthwise(attribute(node, "group", 1), weights.shape):
        return pair_sums(weights)
    largest: NDArray[np.float64] = np.abs(weights).reshape(len(weights), -1).max(1).astype(np.float64)
    return largest


def _overrides(ranges: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The ranges of a weight's channels in the quantizer's format."""
    return [{"axis": 0, "rmin": np.float32(-largest), "rmax": np.float32(largest)} for largest in ranges]


def pair_sums(weights: NDArray[Any]) -> NDArray[np.float64]:
    """The largest sum of two neighbours of one sign in each output channel of a convolution, float64 [channels].

    Neighbours are those in the order in which onnxruntime multiplies: place in the kernel, then input channel.
    """
    rows = np.moveaxis(weights, 1, -1).reshape(len(weights), -1).astype(np.float64)
    pairs = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
    sums: NDArray[np.float64] = np.maximum(pairs.clip(min=0).sum(2), -pairs.clip(max=0).sum(2)).max(1)
    return sums


def _ends(model: onnx.ModelProto) -> list[str]:
    """The names of the first and the last convolution."""
    layers = [node.name for node in model.graph.node if node.op_type == "Conv"]
    return [layers[0], layers[-1]]


def saturating_weights(model: onnx.ModelProto) -> list[str]:
    """Names of the int8 weights whose paired products can overflow 16 bits: 255 times more than 128."""
    weights = {each.name: each for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8}
    sources = {name: node.input[0] for node in model.graph.node for name in node.output}
    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    used = {sources[node.input[1]]: node for node in layers if sources.get(node.input[1]) in weights}
    paired = [name for name, node in used.items() if not is_depthwise(attribute(node, "group", 1), weights[name].dims)]
    return [name for name in paired if pair_sums(onnx.numpy_helper.to_array(weights[name])).max() > 128]
