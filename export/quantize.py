"""int8 by onnxruntime's QDQ quantizer: weights by channel, calibrated on photos.

Processors without VNNI multiply uint8 by int8 with ``vpmaddubsw``, which adds two neighbouring products in 16 bits and
saturates: 2 · 255 · 127 does not fit. onnxruntime's ``reduce_range`` gives every weight 7 bits, as if the largest had the
largest for a neighbour. Here a channel's scale is as fine as its own neighbours allow: no two of one sign sum to over 128.

A block of a ResNet adds to what it was given. What it adds is rounded, the sum is not: its rounding would stay in all the
blocks after it.
``python -m benchmarks.quantization`` compares schemes.
"""

from __future__ import annotations

import tempfile
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

from .calibration import Progress, measure_ranges, quietly
from .rounding import round_weights
from .stem import space_to_depth

_QUANTIZED = ("Conv", "MaxPool", "Relu")  # the head, a thousandth of the work, stays in float
_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


@dataclass(frozen=True)
class Scheme:
    """How a network is brought to int8."""

    activations: str = "uint8"
    weights: str = "int8"
    weight_range: str = "pairs"  # pairs: no sum of two neighbours saturates; 7 bits, 8 bits: of each weight by itself
    calibration: str = "Percentile"  # how activations get their ranges: MinMax, Entropy or Percentile
    percentile: float = 99.999
    compensated: bool = True  # weights are rounded so that they make up for each other, with weight_range pairs
    float_sums: bool = True  # what a block adds to its input is rounded, their sum is not
    space_to_depth: bool = True  # a ResNet's first convolution goes over the channels of 2 x 2 pixels
    float_ends: bool = False  # the first and the last convolution stay in float


def quantize(
    model: onnx.ModelProto, images: NDArray[np.uint8], scheme: Scheme | None = None, progress: Progress = quietly
) -> onnx.ModelProto:
    """The model in int8.

    Args:
        model: the fp32 model.
        images: calibration photos through petinfer's own preprocessing, uint8 [photos, height, width, 3].
        scheme: None takes `Scheme`'s defaults.
        progress: shows how far the calibration is.
    """
    scheme = scheme or Scheme()
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / name for name in ("fp32.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save_model(model, str(source))
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        network = onnx.load_model(str(prepared))
        if scheme.space_to_depth:
            space_to_depth(network, *images.shape[1:3])
        in_float = _in_float(network, scheme)
        ranges = _ranges_by_pairs(network, in_float) if scheme.weight_range == "pairs" else {}
        if scheme.compensated:
            network = round_weights(
                network, images, {name: largest / 127 for name, largest in ranges.items()}, progress
            )
        onnx.save_model(network, str(prepared))
        operators = [*_QUANTIZED] if scheme.float_sums else [*_QUANTIZED, "Add"]
        measured = measure_ranges(prepared, operators, images, (scheme.calibration, scheme.percentile), progress)
        quantizer = QDQQuantizer(
            load_model_with_shape_infer(prepared),
            per_channel=True,
            reduce_range=scheme.weight_range == "7 bits",
            weight_qType=_TYPES[scheme.weights],
            activation_qType=_TYPES[scheme.activations],
            tensors_range=measured,
            nodes_to_quantize=[],
            nodes_to_exclude=in_float,
            op_types_to_quantize=operators,
            extra_options={"TensorQuantOverrides": {name: _overrides(largest) for name, largest in ranges.items()}},
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target))
        quantized = onnx.load_model(str(target))
    if scheme.float_sums:
        _add_in_float(quantized)
    return quantized


def _in_float(network: onnx.ModelProto, scheme: Scheme) -> list[str]:
    """The names of the nodes that are not quantized: the normalisation, and what the scheme says."""
    weights = {each.name for each in network.graph.initializer}
    names = [node.name for node in network.graph.node if node.op_type == "Add" and weights & set(node.input)]
    return names + (_ends(network) if scheme.float_ends else [])


def _add_in_float(model: onnx.ModelProto) -> None:
    """Let a sum take an earlier sum as it is, rather than as int8 gives it to the convolutions."""
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Add":
            node.input[:] = [_unrounded(name, producers) for name in node.input]


def _unrounded(name: str, producers: dict[str, onnx.NodeProto]) -> str:
    """The sum that int8 gives on by this name; any other tensor is itself."""
    given = producers.get(name)
    if given is None or given.op_type != "DequantizeLinear" or given.input[0] not in producers:
        return name
    source = producers[given.input[0]].input[0]
    return source if producers[source].op_type in ("Add", "Relu") else name


def _ranges_by_pairs(model: onnx.ModelProto, in_float: list[str]) -> dict[str, NDArray[np.float64]]:
    """For each convolution's weight the range of its channels, float64 [channels], so that 127 steps are their largest pair."""
    weights = {init.name: init for init in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "Conv" and node.name not in in_float]
    used = {node.input[1] for node in layers} & set(weights)
    return {name: pair_sums(onnx.numpy_helper.to_array(weights[name])) for name in used}


def _overrides(ranges: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The ranges of a weight's channels, as the quantizer takes them."""
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
    """Names of int8 weights with which two products of uint8 by int8 can leave 16 bits: 255 times over 128."""
    weights = [
        init for init in model.graph.initializer if init.data_type == onnx.TensorProto.INT8 and len(init.dims) > 1
    ]
    return [init.name for init in weights if pair_sums(onnx.numpy_helper.to_array(init)).max() > 128]
