"""Weights rounded to int8 so that they make up for each other on photos (GPTQ, arXiv 2210.17323).

The nearest step is best for each weight, but not for their sum. The error of one output of a convolution is
``d · H · d``, where ``d`` is each weight's rounding error and ``H`` how its inputs are correlated on photos. Weights are
rounded one after the other, and the remaining ones move to undo as much of the error as they can.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .calibration import Progress, in_batches, quietly
from .graph import attribute, is_depthwise

_MOST = 127  # steps of one weight
_PAIR = 128  # steps of two neighbours of one sign: 255 times more leaves 16 bits
_DAMPING = 0.01  # of the mean diagonal, so that the inverse exists
_BLOCK = 128  # weights whose corrections are applied to the rest together
_WIDEST = 5000  # inputs; for more, the matrices do not fit into memory
_MEMORY = 256_000_000  # bytes of matrices at a time
_PLACES = 64  # of each photo, drawn at random, that show how inputs are correlated


def round_weights(
    model: onnx.ModelProto,
    images: NDArray[np.uint8],
    steps: dict[str, NDArray[np.float64]],
    progress: Progress = quietly,
) -> onnx.ModelProto:
    """The model with its convolutions' weights on int8's steps. Very wide convolutions are left as they are.

    Args:
        model: in fp32, its batch norms folded into the convolutions.
        images: calibration photos, uint8 [photos, height, width, 3].
        steps: the size of a step for each output channel of a weight, float64 [channels], by the weight's name.
        progress: shows the progress.
    """
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    initializers = {each.name: each for each in rounded.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in steps]
    layers = [node for node in layers if _inputs(initializers[node.input[1]]) <= _WIDEST]
    for some in _in_turns(layers, initializers):
        together = _inputs_together(model, some, images, progress)
        for name in list(together):
            values = torch.from_numpy(onnx.numpy_helper.to_array(initializers[name]).astype(np.float64))
            values = _rounded(values, together.pop(name).double(), torch.from_numpy(steps[name]))
            initializers[name].CopyFrom(onnx.numpy_helper.from_array(values.numpy().astype(np.float32), name))
    return rounded


def _in_turns(layers: list[onnx.NodeProto], weights: dict[str, onnx.TensorProto]) -> list[list[onnx.NodeProto]]:
    """The layers in order, so many at a time that their matrices H stay below `_MEMORY` bytes, but at least one."""
    turns: list[list[onnx.NodeProto]] = []
    free = 0
    for node in layers:
        needed = 4 * attribute(node, "group", 1) * _inputs(weights[node.input[1]]) ** 2
        if needed > free or not turns:
            turns.append([])
            free = _MEMORY
        turns[-1].append(node)
        free -= needed
    return turns


def _inputs(weight: onnx.TensorProto) -> int:
    """How many numbers one output of a convolution is the sum of."""
    return math.prod(weight.dims[1:])


def _inputs_together(
    model: onnx.ModelProto, layers: list[onnx.NodeProto], images: NDArray[np.uint8], progress: Progress
) -> dict[str, Tensor]:
    """By each layer's weight: H, the sum over places and photos of its inputs' outer product, float32 [groups, inputs,
    inputs].
    """
    names = sorted({node.input[0] for node in layers})
    session = _watching(model, names)
    kernels = {each.name: tuple(each.dims[2:]) for each in model.graph.initializer}
    inputs = {each.name: _inputs(each) for each in model.graph.initializer}
    found = {node.input[1]: _no_products(node, inputs[node.input[1]]) for node in layers}
    generators = {node.name: torch.Generator().manual_seed(0) for node in layers}
    for batch in progress(in_batches(images, session, names), "rounding weights"):
        maps = dict(zip(names, session.run(names, {"image": batch}), strict=True))
        for node in layers:
            rows = _windows(torch.from_numpy(maps[node.input[0]]), node, kernels[node.input[1]], generators[node.name])
            found[node.input[1]].baddbmm_(rows.mT, rows)
    return found


def _no_products(node: onnx.NodeProto, inputs: int) -> Tensor:
    return torch.zeros(attribute(node, "group", 1), inputs, inputs)


def _watching(model: onnx.ModelProto, tensors: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session of the model that also outputs these tensors."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False  # which would keep what the largest batch took
    return onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _windows(maps: Tensor, node: onnx.NodeProto, kernel: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A convolution's inputs at some places of each photo, float32 [groups, places, inputs], in the order in which
    onnxruntime multiplies them: place in the kernel, then channel of the group.
    """
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    stride, dilation = (attribute(node, name, [1, 1]) for name in ("strides", "dilations"))
    rows = []
    for each in functional.pad(maps, (left, right, top, bottom)):
        windows = functional.unfold(each[None], kernel, dilation, 0, stride)[0]  # [channels x kernel, places]
        places = torch.randperm(windows.shape[-1], generator=generator)[:_PLACES]
        by_channel = windows[:, places].unflatten(0, (attribute(node, "group", 1), -1, math.prod(kernel)))
        rows.append(by_channel.permute(0, 3, 2, 1).flatten(2))
    return torch.cat(rows, dim=1)


def _rounded(weights: Tensor, together: Tensor, steps: Tensor) -> Tensor:
    """One convolution's weights, float64 [outputs, inputs, height, width], each a multiple of its output's step."""
    shape = weights.movedim(1, -1).shape
    steps = torch.where(steps > 0, steps, 1.0)[:, None]  # an output whose weights are all zero has no step
    rows = weights.movedim(1, -1).flatten(1) / steps
    values = rows.unflatten(0, (len(together), -1)).mT.contiguous()  # [groups, inputs, outputs of the group]
    upper = _factor(together.double())
    with _one_thread():
        _round_in_turn(values, upper, in_pairs=not is_depthwise(len(together), weights.shape))
    rounded: Tensor = values.mT.flatten(0, 1) * steps
    return rounded.reshape(shape).movedim(-1, 1)


def _round_in_turn(values: Tensor, upper: Tensor, in_pairs: bool) -> None:
    """Round ``values`` [groups, inputs, outputs] in place, input by input; those after it move by what makes up for it."""
    inputs = values.shape[1]
    for start in range(0, inputs, _BLOCK):
        stop = min(start + _BLOCK, inputs)
        errors = torch.zeros_like(values[:, start:stop])
        for i in range(start, stop):
            neighbour = values[:, i - 1] if in_pairs and i % 2 else torch.zeros_like(values[:, i])
            kept = _allowed(values[:, i].round(), neighbour)
            error = errors[:, i - start] = (values[:, i] - kept) / upper[:, i, i, None]
            values[:, i:stop] -= upper[:, i, i:stop, None] * error[:, None]
            values[:, i] = kept
        values[:, stop:] -= upper[:, start:stop, stop:].mT @ errors


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """For thousands of small steps: with two threads on a busy machine they took thirty times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _allowed(steps: Tensor, neighbour: Tensor) -> Tensor:
    """The nearest value that a weight may have next to its neighbour, both in steps."""
    return steps.clamp((-_PAIR - neighbour).clamp(-_MOST, 0), (_PAIR - neighbour).clamp(0, _MOST))


def _factor(together: Tensor) -> Tensor:
    """Upper triangular U such that ``U.T @ U`` is the inverse of H: row i says how later weights compensate for i's error.

    U is the inverse of the Cholesky factor of H turned by half, turned back. Overwrites ``together`` [groups, inputs, inputs],
    and holds one copy: for 4,608 inputs each is 170 MB.
    """
    diagonal = together.diagonal(dim1=1, dim2=2)
    diagonal += _DAMPING * diagonal.mean(1, keepdim=True) + 1e-6
    together.copy_(together.flip(1, 2))
    lower = torch.linalg.cholesky(together)
    inverse = together.zero_()
    inverse.diagonal(dim1=1, dim2=2).fill_(1)
    torch.linalg.solve_triangular(lower, inverse, upper=False, out=inverse)
    del lower
    return inverse.flip(1, 2)
