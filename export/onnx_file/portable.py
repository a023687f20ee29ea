"""Leaves out what a model file does not need and other runtimes refuse.

onnxruntime's quantizer gives each int32 bias a zero point of 0, which WebNN and the WebGPU of onnxruntime-web before 1.29
refuse ("in the case of dequantizing int32 there is no zero point"), and its tools declare operator sets that no node uses.
Without either, onnxruntime's CPU kernels compute the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx.numpy_helper


def make_portable(model: onnx.ModelProto) -> None:
    """Remove, in place, the zero points of int32 tensors where they are 0, and the operator sets that no node uses."""
    _remove_zero_points(model.graph)
    used = {node.domain or "" for graph in (model.graph, *model.functions) for node in _nodes(graph)}
    kept = [each for each in model.opset_import if (each.domain or "") in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _remove_zero_points(graph: onnx.GraphProto) -> None:
    constants = {each.name: each for each in graph.initializer}
    removed = set()
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3:
            continue
        zero_point = constants.get(node.input[2])
        if zero_point is not None and zero_point.data_type == onnx.TensorProto.INT32 and _is_zero(zero_point):
            removed.add(node.input.pop())
    _remove_unused(graph, removed)


def _is_zero(tensor: onnx.TensorProto) -> bool:
    return not onnx.numpy_helper.to_array(tensor).any()


def _remove_unused(graph: onnx.GraphProto, names: set[str]) -> None:
    """Remove those constants that no node reads any more: a zero point may belong to several."""
    read = {name for node in _nodes(graph) for name in node.input} | {each.name for each in graph.output}
    kept = [each for each in graph.initializer if each.name not in names - read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those inside If and Loop too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
