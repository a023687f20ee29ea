"""A ResNet's first convolution over blocks of 2 x 2 pixels: 4 x 4 of 12 channels, for 7 x 7 of 3 channels with a stride of 2.

The sums are the same, and a third of their products is by zero; but onnxruntime's int8 kernels take channels four by four, and
with three gather each window beforehand, which costs more than the zeros do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray
from onnx.helper import get_attribute_value, make_attribute, make_node

_STEM = {"kernel_shape": [7, 7], "strides": [2, 2], "pads": [3, 3, 3, 3]}
_OF_BLOCKS = {"kernel_shape": [4, 4], "strides": [1, 1], "pads": [2, 2, 1, 1]}  # an eighth row and column come before


def merge_pixels(model: onnx.ModelProto, height: int, width: int) -> None:
    """Rewrite the first convolution, in place; a network that does not begin as a ResNet is left as it is.

    Args:
        model: takes pixels in the order [batch, height, width, channel], and turns them just before the convolution.
        height: of the pixels, px.
        width: the same.
    """
    weights = {each.name: each for each in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        turn = producers.get(node.input[0]) if _is_stem(node) else None
        if turn is not None and turn.op_type == "Transpose" and height % 2 == width % 2 == 0:
            weight = weights[node.input[1]]
            over_blocks = _over_blocks(onnx.numpy_helper.to_array(weight))
            weight.CopyFrom(onnx.numpy_helper.from_array(over_blocks, weight.name))
            kept = [each for each in node.attribute if each.name not in _OF_BLOCKS]
            del node.attribute[:]
            node.attribute.extend([*kept, *(make_attribute(*each) for each in _OF_BLOCKS.items())])
            _gather_blocks(model.graph, turn, height, width)
            return


def _is_stem(node: onnx.NodeProto) -> bool:
    found = {each.name: get_attribute_value(each) for each in node.attribute}
    return node.op_type == "Conv" and {name: found.get(name) for name in _STEM} == _STEM


def _over_blocks(weight: NDArray[Any]) -> NDArray[Any]:
    """[outputs, 3, 7, 7] → [outputs, 12, 4, 4], the channels of a block in the order row, column, colour."""
    even = np.pad(weight, ((0, 0), (0, 0), (1, 0), (1, 0)))
    blocks = even.reshape(len(weight), 3, 4, 2, 4, 2).transpose(0, 3, 5, 1, 2, 4)
    return np.ascontiguousarray(blocks.reshape(len(weight), 12, 4, 4))


def _gather_blocks(graph: onnx.GraphProto, turn: onnx.NodeProto, height: int, width: int) -> None:
    """Give to ``turn`` [batch, height / 2, width / 2, 12] in place of [batch, height, width, 3].

    Every second row is laid beside the one before it. One transposition of five axes says the same, at three times the cost.
    """
    shapes = {"rows_in_pairs": (-1, height // 2, 2, 3 * width), "pixels_in_pairs": (-1, height // 2, width // 2, 6)}
    graph.initializer.extend(onnx.numpy_helper.from_array(np.array(shape), name) for name, shape in shapes.items())
    nodes = [
        make_node("Reshape", [turn.input[0], "rows_in_pairs"], ["pairs_of_rows"]),
        make_node("Split", ["pairs_of_rows"], ["upper_rows", "lower_rows"], axis=2, num_outputs=2),
        make_node("Reshape", ["upper_rows", "pixels_in_pairs"], ["upper_pixels"]),
        make_node("Reshape", ["lower_rows", "pixels_in_pairs"], ["lower_pixels"]),
        make_node("Concat", ["upper_pixels", "lower_pixels"], ["blocks"], axis=3),
    ]
    place = list(graph.node).index(turn)
    turn.input[0] = "blocks"
    for node in reversed(nodes):
        graph.node.insert(place, node)
    del graph.value_info[:]  # of shapes that are others now
