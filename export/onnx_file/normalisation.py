"""Normalises pixels in int8: one addition of bytes, in place of a conversion, a multiplication, an addition and a rounding.

The normalisation is ``pixel · scale + shift``. The first convolution's weights take the scale of each colour, which leaves an
addition in units of pixels. What moves pixels on their way to the convolution moves bytes then, not floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto
from onnx.helper import make_node
from onnx.numpy_helper import from_array, to_array

from .graph import attribute

_ZERO = 255  # the zero point of the shift, which is negative
_MOVING = ("Reshape", "Transpose", "Split", "Concat")  # they compute nothing


@dataclass(frozen=True)
class Normalisation:
    """The names of the tensors that `fold_scale` left: pixels as float, and their sum with the shift."""

    pixels: str
    sum: str


def fold_scale(model: onnx.ModelProto) -> Normalisation | None:
    """Let the first convolution multiply as the normalisation would, in place; None if the graph begins otherwise.

    The shift is rounded to steps that int8 has, by at most half a level of a pixel. The convolution's bias makes up for that,
    except where padding has no shift.
    """
    graph = model.graph
    users = {name: [node for node in graph.node if name in node.input] for node in graph.node for name in node.output}
    values = {each.name: each for each in graph.initializer}
    chain = _chain(graph, users)
    if chain is None:
        return None
    cast, product, total, convolution = chain
    named = [product.input[1], total.input[1], *convolution.input[1:]]
    taken = [name for node in graph.node for name in node.input]
    if len(named) < 4 or any(name not in values or taken.count(name) != 1 for name in named):
        return None
    scale, shift, weight, bias = (to_array(values[name]) for name in named)
    if weight.ndim != 4:
        return None
    colours = weight.shape[1]
    if scale.shape != shift.shape or scale.ndim != 1 or len(scale) % colours or attribute(convolution, "group", 1) != 1:
        return None
    if not scale.all() or any((each.reshape(-1, colours) != each[:colours]).any() for each in (scale, shift)):
        return None
    exact = shift / scale
    if exact.max() > 0:
        return None
    rounded = (_in_bytes(exact) - _ZERO) * _step(exact)
    missing = (exact - rounded)[:colours]
    scaled = weight * scale[:colours, None, None]
    _set(values[convolution.input[1]], scaled)
    _set(values[convolution.input[2]], bias + np.einsum("ocyx,c->o", scaled, missing))
    _set(values[total.input[1]], rounded)
    total.input[0] = cast.output[0]
    graph.node.remove(product)
    graph.initializer.remove(values[product.input[1]])
    return Normalisation(cast.output[0], total.output[0])


def _chain(graph: GraphProto, users: dict[str, list[NodeProto]]) -> list[NodeProto] | None:
    """Cast, Mul, Add and the convolution, if each alone takes what the one before gives, and the channels are the colours."""
    node = next((node for node in graph.node if node.op_type == "Cast"), None)
    found = []
    for wanted in ("Cast", "Mul", "Add", "Reshape", "Transpose", "Conv"):
        if node is None or node.op_type != wanted:
            return None
        if wanted == "Transpose" and attribute(node, "perm", None) != [0, 3, 1, 2]:
            return None
        found.append(node)
        node = _only(users[node.output[0]])
    if any(each.op_type == "If" for each in graph.node):  # its branches read tensors that are not among its inputs
        return None
    return [*found[:3], found[-1]]


def _only(nodes: list[NodeProto]) -> NodeProto | None:
    return nodes[0] if len(nodes) == 1 else None


def _step(shift: NDArray[Any]) -> float:
    """The step of the shift in int8: the largest takes 255."""
    return float(-shift.min()) / _ZERO or 1.0


def _in_bytes(shift: NDArray[Any]) -> NDArray[Any]:
    """The shift, none of it positive, in steps, 255 for none."""
    return np.round(shift / _step(shift)) + _ZERO


def _set(tensor: TensorProto, values: NDArray[Any]) -> None:
    tensor.CopyFrom(from_array(values.astype(np.float32), tensor.name))


def add_in_int8(model: onnx.ModelProto, found: Normalisation) -> None:
    """Let a quantized graph round the sum that `fold_scale` left, not what the convolution reads, in place."""
    graph = model.graph
    quantize = _after_moves(graph, found.sum)
    if quantize is None:
        return
    nodes = {name: node for node in graph.node for name in node.output}
    cast, total = nodes[found.pixels], nodes[found.sum]
    shift = next(each for each in graph.initializer if each.name == total.input[1])
    values = to_array(shift)
    constants = {
        "pixel_step": np.float32(1),
        "pixel_zero": np.uint8(0),
        "shift_in_int8": _in_bytes(values).astype(np.uint8),
        "shift_step": np.float32(_step(values)),
        "shift_zero": np.uint8(_ZERO),
    }
    graph.initializer.remove(shift)
    graph.initializer.extend(from_array(np.asarray(value), name) for name, value in constants.items())
    for node in graph.node:
        if node.op_type in _MOVING:
            node.input[:] = ["sum_in_int8" if name == found.sum else name for name in node.input]
        elif quantize.output[0] in node.input:
            node.input[0] = quantize.input[0]
    quantize.input[0], quantize.output[0] = found.sum, "sum_in_int8"
    _replace(graph, cast, [make_node("DequantizeLinear", [cast.input[0], "pixel_step", "pixel_zero"], [found.pixels])])
    shifted = make_node("DequantizeLinear", ["shift_in_int8", "shift_step", "shift_zero"], [shift.name])
    graph.node.remove(quantize)
    _replace(graph, total, [shifted, total, quantize])
    del graph.value_info[:]  # the recorded types are stale now


def _replace(graph: GraphProto, node: NodeProto, others: list[NodeProto]) -> None:
    place = list(graph.node).index(node)
    copies = [NodeProto.FromString(each.SerializeToString()) for each in others]
    graph.node.remove(node)
    for each in reversed(copies):
        graph.node.insert(place, each)


def _after_moves(graph: GraphProto, name: str) -> NodeProto | None:
    """The QuantizeLinear that alone reads a tensor, however it was moved before."""
    pending, found = [name], {}
    while pending:
        moved = pending.pop()
        for node in graph.node:
            if moved in node.input and node.op_type in _MOVING:
                pending.extend(node.output)
            elif moved in node.input:
                found[node.output[0]] = node
    quantize = next(iter(found.values()), None)
    return quantize if quantize and len(found) == 1 and quantize.op_type == "QuantizeLinear" else None
