"""Scales the channels of a network's maps so that they use int8's steps evenly; the network computes the same.

A map is rounded with one step for all of its channels, which its widest channel needs. ReLU, max pooling and sums keep a
positive factor, so a channel can be multiplied by one where convolutions write it and divided by it where convolutions read it.
That is cross-layer equalization (arXiv 1906.04721), but of the maps, not of the weights: weights have a step for each channel.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.numpy_helper import from_array, to_array
from onnxruntime import InferenceSession, SessionOptions

from .calibration import in_batches
from .graph import attribute

_KEEPING = ("Relu", "MaxPool", "Add")  # a factor of all inputs is one of the output
_LARGEST = 8.0  # factor, for channels that are nearly 0
_IMAGES = 64  # that show the ranges


@dataclass
class _Group:
    """Maps whose channels have the same factors."""

    maps: set[str] = field(default_factory=set)
    writers: list[onnx.NodeProto] = field(default_factory=list)
    readers: list[onnx.NodeProto] = field(default_factory=list)
    fixed: bool = False
    """Whether something else writes or reads them."""


def equalize(model: onnx.ModelProto, images: NDArray[np.uint8], strength: float) -> None:
    """Scale the channels of the maps that only convolutions write and read, in place.

    Args:
        model: in fp32, its batch norms folded into the convolutions.
        images: photos, uint8 [photos, height, width, channels]; the first 64 show the ranges.
        strength: 1 makes the ranges of a map's channels equal, 0 changes nothing. The more equal they are, the less are the
            weights that read them.
    """
    groups = [group for group in _groups(model) if not group.fixed and group.writers and group.readers]
    ranges = _ranges(model, images[:_IMAGES], [name for group in groups for name in sorted(group.maps)])
    weights = {each.name: each for each in model.graph.initializer}
    for group in groups:
        if len({len(ranges[name]) for name in group.maps}) > 1:  # a sum of one channel and several
            continue
        factors = _factors([ranges[name] for name in sorted(group.maps)], strength)
        for node in group.writers:
            _multiply(weights[node.input[1]], factors[:, None, None, None])
            _multiply(weights[node.input[2]], factors)
        for node in group.readers:
            _multiply(weights[node.input[1]], np.reciprocal(factors)[:, None, None])


def _factors(ranges: list[NDArray[np.float32]], strength: float) -> NDArray[np.float32]:
    """A factor for each channel, 1 to `_LARGEST`, by its share of the widest channel's range, the mean of the maps' shares."""
    shares = np.mean([each / max(each.max(), 1e-12) for each in ranges], axis=0)
    factors: NDArray[np.float32] = np.minimum(np.maximum(shares, 1e-12) ** -strength, _LARGEST).astype(np.float32)
    return factors


def _multiply(tensor: onnx.TensorProto, factors: NDArray[np.float32]) -> None:
    tensor.CopyFrom(from_array(to_array(tensor) * factors, tensor.name))


def _groups(model: onnx.ModelProto) -> list[_Group]:
    weights = {each.name: each for each in model.graph.initializer}
    if any(node.op_type == "If" for node in model.graph.node):  # its branches read maps that are not among its inputs
        return []
    taken = Counter(name for node in model.graph.node for name in node.input)
    groups: dict[str, _Group] = {}
    for node in model.graph.node:
        own = [name for name in node.input[1:] if name in weights and taken[name] == 1]
        if node.op_type == "Conv" and len(own) == 2 and _is_plain(node, weights[own[0]]):
            _joined(groups, [node.input[0]]).readers.append(node)
            _joined(groups, [node.output[0]]).writers.append(node)
        elif node.op_type in _KEEPING and weights.keys().isdisjoint(node.input):
            _joined(groups, [*node.input, node.output[0]])
        else:
            for name in (*node.input, *node.output):
                _joined(groups, [name]).fixed = True
    for value in (*model.graph.input, *model.graph.output):
        _joined(groups, [value.name]).fixed = True
    return list({id(each): each for each in groups.values()}.values())


def _is_plain(node: onnx.NodeProto, weight: onnx.TensorProto) -> bool:
    """Whether each output channel reads all input channels, of maps with rows and columns."""
    return attribute(node, "group", 1) == 1 and len(weight.dims) == 4


def _joined(groups: dict[str, _Group], names: list[str]) -> _Group:
    """The group of these maps, which may have been several until now."""
    found = _Group({*names})
    for each in {id(groups[name]): groups[name] for name in names if name in groups}.values():
        found.maps |= each.maps
        found.writers += each.writers
        found.readers += each.readers
        found.fixed |= each.fixed
    groups.update(dict.fromkeys(found.maps, found))
    return found


def _ranges(model: onnx.ModelProto, images: NDArray[np.uint8], names: list[str]) -> dict[str, NDArray[np.float32]]:
    """The largest absolute value of each channel of these maps, float32 [channels]."""
    if not names:
        return {}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = SessionOptions()
    options.enable_cpu_mem_arena = False  # which would keep what the largest batch took
    session = InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    largest: dict[str, NDArray[np.float32]] = {}
    for batch in in_batches(images, session, names):
        for name, values in zip(names, session.run(names, {"image": batch}), strict=True):
            found = np.abs(values).max((0, 2, 3))
            largest[name] = np.maximum(largest.get(name, found), found)
    return largest
