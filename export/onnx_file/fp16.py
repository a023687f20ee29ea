"""fp16 by onnxruntime's own converter; pixels are normalised in fp32."""

from __future__ import annotations

import copy
import warnings

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from .graph import side_nodes


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in fp16, from the first convolution up to the logits; outputs stay float32, and so do heat and familiarity.

    Squares of features, and products of gradients, can be out of fp16's range.
    """
    nodes = list(model.graph.node)
    first = next((i for i, node in enumerate(nodes) if node.op_type == "Conv"), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights that fp16 rounds to 0
        fp16: onnx.ModelProto = convert_float_to_float16(
            copy.deepcopy(model),
            keep_io_types=True,
            op_block_list=["Softmax"],
            node_block_list=[
                *(node.name for i, node in enumerate(nodes) if i < first or "probabilities" in node.output),
                *side_nodes(model),
            ],
        )
    return fp16
