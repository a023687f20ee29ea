"""int8 by onnxruntime's static quantizer: QDQ, weights by channel, calibrated on photos.

Weights have 7 bits: processors without VNNI multiply uint8 by int8 with ``vpmaddubsw``, which adds two products in 16 bits
and saturates. 2 · 255 · 127 does not fit, 2 · 255 · 64 does (onnxruntime's ``reduce_range``). ``python -m
benchmarks.quantization`` compares schemes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


@dataclass(frozen=True)
class Scheme:
    """How a network is brought to int8."""

    activations: str = "uint8"
    weights: str = "int8"
    seven_bits: bool = True  # of the weights, so that no processor saturates
    calibration: str = "Percentile"  # how activations get their ranges: MinMax, Entropy or Percentile
    percentile: float = 99.999
    float_ends: bool = False  # the first and the last convolution stay in float


class _Batches(CalibrationDataReader):
    """Calibration photos in batches, as the quantizer asks for them."""

    def __init__(self, images: NDArray[np.uint8], batch_size: int = 16) -> None:
        self.batches: Iterator[NDArray[np.uint8]] = iter(np.array_split(images, max(1, len(images) // batch_size)))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


def quantize(model: onnx.ModelProto, images: NDArray[np.uint8], scheme: Scheme | None = None) -> onnx.ModelProto:
    """The model in int8.

    Args:
        model: the fp32 model.
        images: calibration photos through petinfer's own preprocessing, uint8 [photos, height, width, 3].
        scheme: None takes `Scheme`'s defaults.
    """
    scheme = scheme or Scheme()
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / name for name in ("fp32.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save_model(model, str(source))
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Batches(images),
            quant_format=QuantFormat.QDQ,
            activation_type=_TYPES[scheme.activations],
            weight_type=_TYPES[scheme.weights],
            per_channel=True,
            reduce_range=scheme.seven_bits,
            calibrate_method=CalibrationMethod[scheme.calibration],
            nodes_to_exclude=_ends(onnx.load_model(str(prepared))) if scheme.float_ends else [],
            op_types_to_quantize=[
                "Conv",
                "Add",
                "MaxPool",
                "Relu",
            ],  # the head, a thousandth of the work, stays in float
            extra_options={"CalibPercentile": scheme.percentile},
        )
        return onnx.load_model(str(target))


def _ends(model: onnx.ModelProto) -> list[str]:
    """The names of the first and the last convolution."""
    layers = [node.name for node in model.graph.node if node.op_type == "Conv"]
    return [layers[0], layers[-1]]


def saturating_weights(model: onnx.ModelProto) -> list[str]:
    """Names of int8 weights with which two products of uint8 by int8 can leave 16 bits: |weight| over 64."""
    weights = [init for init in model.graph.initializer if init.data_type == onnx.TensorProto.INT8]
    return [init.name for init in weights if np.abs(onnx.numpy_helper.to_array(init).astype(np.int32)).max() > 64]
