"""What onnxruntime's other way to compute an int8 convolution costs or gains: im2col and an integer matrix product.

usage: python -m benchmarks.matrix_product [--model FILE] [--threads 1] [--rounds 100]

Weights plus 1 with zero point 1 select it, instead of MLAS's ConvSym kernels. Only the matrix product uses AMX tiles.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import numpy_helper

from petinfer.session.opening import BUNDLED_MODEL

from .contenders.network import onnx_file
from .outputs import compare_files
from .question import HELP

QUESTION = "int8 convolution"
_LARGEST = 126  # of a weight: 127 plus 1 is no int8


@click.command(context_settings=HELP)
@click.option("--model", type=click.Path(path_type=Path), default=BUNDLED_MODEL, help="Default: the bundled model.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=100, show_default=True, help="Turns of each file.")
def main(model: Path, threads: int, rounds: int) -> None:
    """Time an int8 model file as it is, again, and with convolutions as matrix products, each in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        shifted = Path(folder) / "shifted.onnx"
        onnx.save(with_shifted_weights(onnx.load(model)), shifted)
        files = {"as it is": model, "again": model, "as matrix products": shifted}
        compare_files(QUESTION, model, files, onnx_file, threads, rounds)


def with_shifted_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, changed in place: each int8 weight of 3 or more dimensions, at most 126, plus 1, with zero point 1."""
    tensors = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or not {*node.input}.issubset(tensors):
            continue
        weight, zero_point = tensors[node.input[0]], tensors.get(node.input[2] if len(node.input) == 3 else "")
        if weight.data_type == onnx.TensorProto.INT8 and len(weight.dims) > 2 and zero_point is not None:
            shifted = np.minimum(numpy_helper.to_array(weight), _LARGEST) + np.int8(1)
            weight.CopyFrom(numpy_helper.from_array(shifted, weight.name))
            ones = np.ones_like(numpy_helper.to_array(zero_point))
            zero_point.CopyFrom(numpy_helper.from_array(ones, zero_point.name))
    return model


if __name__ == "__main__":
    main()
