"""Equalized channels: exact in float, finer in int8 (cross-layer equalization, arXiv 1906.04721).

int8 gives all channels of a tensor one step, which is the widest channel's, and most channels are far narrower. Between
convolutions stand only ReLU, sums and pooling, which let a positive factor through: so what writes a channel is divided by
a factor, and what reads it multiplied by the same. Factors are the square root of the channel's range over the range of
the weights that read it, which shares the gain between both (as SmoothQuant does, arXiv 2211.10438).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
from numpy.typing import NDArray

_PASSING = ("Relu", "Add", "MaxPool")  # f(s · x) = s · f(x) for s > 0
_LARGEST = 20.0  # factor: a channel that is zero on all photos would take any


@dataclass(frozen=True)
class Group:
    """Tensors whose channels must be scaled alike, and the convolutions that write and read them."""

    tensors: set[str]
    writers: list[onnx.NodeProto]
    readers: list[onnx.NodeProto]


def equalize(model: onnx.ModelProto, images: NDArray[np.uint8], batch_size: int = 16) -> onnx.ModelProto:
    """The model with its channels equalized.

    Args:
        model: in fp32, its batch norms folded into the convolutions.
        images: photos that show the channels' ranges, uint8 [photos, height, width, 3].
        batch_size: so many of them at once.
    """
    equalized = onnx.ModelProto()
    equalized.CopyFrom(model)
    groups = list(find_groups(equalized.graph))
    rounded = _rounded(equalized.graph)
    ranges = _channel_ranges(equalized, [sorted(group.tensors & rounded) for group in groups], images, batch_size)
    initializers = {each.name: each for each in equalized.graph.initializer}
    for group, channels in zip(groups, ranges, strict=True):
        weights = [onnx.numpy_helper.to_array(initializers[node.input[1]]) for node in group.readers]
        read = np.max([np.abs(each).max((0, 2, 3)) for each in weights], 0)
        factors = np.sqrt(np.maximum(channels, 1e-6) / np.maximum(read, 1e-6))
        factors = (factors / np.exp(np.log(factors).mean())).clip(1 / _LARGEST, _LARGEST)
        for node in group.writers:
            _scale(initializers[node.input[1]], 1 / factors[:, None, None, None])
            _scale(initializers[node.input[2]], 1 / factors)
        for node in group.readers:
            _scale(initializers[node.input[1]], factors[None, :, None, None])
    return equalized


def find_groups(graph: onnx.GraphProto) -> Iterator[Group]:
    """The groups that convolutions alone write and read, each with weights and, to write, a bias of its own."""
    weights = {each.name for each in graph.initializer}
    passing = [node for node in graph.node if node.op_type in _PASSING and not weights & set(node.input)]
    others = [node for node in graph.node if node not in passing]
    ends = {each.name for each in (*graph.input, *graph.output)}
    for tensors in _joined(passing):
        writers, readers = (
            [node for node in others if tensors & set(names(node))]
            for names in (attrgetter("output"), attrgetter("input"))
        )
        group = Group(tensors, writers, readers)
        if writers and readers and not tensors & ends and _scalable(group, weights):
            yield group


def _joined(passing: list[onnx.NodeProto]) -> list[set[str]]:
    """Tensors that nodes join, as sets of names."""
    joined: list[set[str]] = []
    for node in passing:
        names = {*node.input, *node.output}
        together = names.union(*(each for each in joined if each & names))
        joined = [each for each in joined if not each & names] + [together]
    return joined


def _scalable(group: Group, weights: set[str]) -> bool:
    return (
        all(node.op_type == "Conv" and node.input[1] in weights for node in (*group.writers, *group.readers))
        and all(_groups_of(node) == 1 for node in group.readers)
        and all(len(node.input) == 3 and node.input[2] in weights for node in group.writers)
    )


def _groups_of(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _rounded(graph: onnx.GraphProto) -> set[str]:
    """The tensors that int8 rounds: not those that go into a ReLU, which becomes the lower end of the range."""
    return {name for node in graph.node if node.op_type != "Relu" for name in node.input}


def _channel_ranges(
    model: onnx.ModelProto, groups: list[list[str]], images: NDArray[np.uint8], batch_size: int
) -> list[NDArray[Any]]:
    """For each group of tensors, the largest magnitude of each channel in any of them, float [channels]."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = [name for tensors in groups for name in tensors]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        Path(file.name).write_bytes(watched.SerializeToString())
        session = onnxruntime.InferenceSession(file.name, providers=["CPUExecutionProvider"])
    largest: dict[str, Any] = {}
    for batch in np.array_split(images, max(1, len(images) // batch_size)):
        for name, values in zip(names, session.run(names, {"image": batch}), strict=True):
            largest[name] = np.maximum(largest.get(name, 0), np.abs(values).max((0, 2, 3)))
    return [np.max([largest[name] for name in tensors], 0) for tensors in groups]


def _scale(initializer: onnx.TensorProto, factors: NDArray[Any]) -> None:
    scaled = onnx.numpy_helper.to_array(initializer) * factors.astype(np.float32)
    initializer.CopyFrom(onnx.numpy_helper.from_array(scaled, initializer.name))
