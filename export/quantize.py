"""int8 by onnxruntime's static quantizer: QDQ, activations uint8, weights int8 by channel in 7 bits.

7 bits, since processors without VNNI multiply uint8 by int8 with ``vpmaddubsw``, which adds two products in 16 bits and
saturates: 2 · 255 · 127 does not fit, 2 · 255 · 64 does (onnxruntime's ``reduce_range``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class _Batches(CalibrationDataReader):
    """Calibration photos in batches, as the quantizer asks for them."""

    def __init__(self, images: NDArray[np.uint8], batch_size: int = 16) -> None:
        self.batches: Iterator[NDArray[np.uint8]] = iter(np.array_split(images, max(1, len(images) // batch_size)))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


def quantize(
    model: onnx.ModelProto,
    images: NDArray[np.uint8],
    keep: Sequence[str] = (),
    method: CalibrationMethod = CalibrationMethod.MinMax,
) -> onnx.ModelProto:
    """The model in int8.

    Args:
        model: the fp32 model.
        images: calibration photos through petinfer's own preprocessing, uint8 [photos, height, width, 3].
        keep: names of nodes that stay in float.
        method: how the ranges of activations are chosen.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / name for name in ("fp32.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save_model(model, str(source))
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Batches(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            calibrate_method=method,
            nodes_to_exclude=list(keep),
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "MaxPool", "Relu"],
        )
        return onnx.load_model(str(target))


def saturating_weights(model: onnx.ModelProto) -> list[str]:
    """Names of int8 weights with which two products of uint8 by int8 can leave 16 bits: |weight| over 64."""
    weights = {init.name: init for init in model.graph.initializer if init.data_type == onnx.TensorProto.INT8}
    return [
        name for name, init in weights.items() if np.abs(onnx.numpy_helper.to_array(init).astype(np.int32)).max() > 64
    ]
