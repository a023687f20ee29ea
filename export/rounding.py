"""Weights rounded to int8 so that they make up for each other on photos (GPTQ, arXiv 2210.17323).

To the nearest step is best for each weight and not for the sum. For one output of a convolution the error is
``d · H · d``, where ``d`` holds each weight's rounding and ``H`` how its inputs go together on photos: weights are rounded
one after the other, and those that are still to come move by what undoes the most of the error so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .graph import attribute

_MOST = 127  # steps of one weight
_PAIR = 128  # steps of two neighbours of one sign: 255 times more leaves 16 bits
_DAMPING = 0.01  # of the mean diagonal, so that the inverse exists
_BLOCK = 128  # weights whose corrections are applied to the rest together
_PLACES = 64  # of each photo, drawn at random, that show what goes together


def round_weights(
    model: onnx.ModelProto, images: NDArray[np.uint8], steps: dict[str, NDArray[np.float64]], batch_size: int = 16
) -> onnx.ModelProto:
    """The model with the weights of its convolutions on int8's steps; grouped convolutions are left as they are.

    Args:
        model: in fp32, its batch norms folded into the convolutions.
        images: photos that show what goes together, uint8 [photos, height, width, 3].
        steps: the size of a step for each output channel of a weight, float64 [channels], by the weight's name.
        batch_size: so many photos at once.
    """
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    initializers = {each.name: each for each in rounded.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in steps]
    layers = [node for node in layers if attribute(node, "group", 1) == 1]
    if not layers:
        return rounded
    for name, together in _inputs_together(model, layers, images, batch_size).items():
        weight = initializers[name]
        values = torch.from_numpy(onnx.numpy_helper.to_array(weight).astype(np.float64))
        values = _rounded(values, together, torch.from_numpy(steps[name]))
        weight.CopyFrom(onnx.numpy_helper.from_array(values.numpy().astype(np.float32), name))
    return rounded


def _inputs_together(
    model: onnx.ModelProto, layers: list[onnx.NodeProto], images: NDArray[np.uint8], batch_size: int
) -> dict[str, Tensor]:
    """By each layer's weight: H, the sum over places and photos of its inputs' outer product, float32 [inputs, inputs]."""
    names = sorted({node.input[0] for node in layers})
    session = _watching(model, names)
    kernels = {each.name: tuple(each.dims[2:]) for each in model.graph.initializer}
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    for batch in np.array_split(images, max(1, len(images) // batch_size)):
        maps = dict(zip(names, session.run(names, {"image": batch}), strict=True))
        for node in layers:
            rows = _windows(torch.from_numpy(maps[node.input[0]]), node, kernels[node.input[1]], generator)
            found[node.input[1]] = found.get(node.input[1], 0) + rows.T @ rows
    return found


def _watching(model: onnx.ModelProto, tensors: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session of the model that gives these tensors too, after the model's own outputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])


def _windows(maps: Tensor, node: onnx.NodeProto, kernel: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """What a convolution multiplies with its weights, at some places of each photo: float32 [places, inputs], the inputs in
    the order in which onnxruntime multiplies, place in the kernel, then channel.
    """
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    stride, dilation = (attribute(node, name, [1, 1]) for name in ("strides", "dilations"))
    rows = []
    for each in functional.pad(maps, (left, right, top, bottom)):
        windows = functional.unfold(each[None], kernel, dilation, 0, stride)[0]  # [channels x kernel, places]
        places = torch.randperm(windows.shape[-1], generator=generator)[:_PLACES]
        rows.append(windows[:, places].unflatten(0, (len(each), -1)).permute(2, 1, 0).flatten(1))
    return torch.cat(rows)


def _rounded(weights: Tensor, together: Tensor, steps: Tensor) -> Tensor:
    """One convolution's weights, float64 [outputs, inputs, height, width], each a multiple of its output's step."""
    shape = weights.movedim(1, -1).shape
    steps = torch.where(steps > 0, steps, 1.0)  # an output whose weights are all zero has no step
    values = (weights.movedim(1, -1).flatten(1).T / steps).contiguous()  # [inputs, outputs]
    upper = _factor(together.double())
    for start in range(0, len(values), _BLOCK):
        stop = min(start + _BLOCK, len(values))
        errors = torch.zeros_like(values[start:stop])
        for i in range(start, stop):
            kept = _allowed(values[i].round(), values[i - 1] if i % 2 else torch.zeros_like(values[i]))
            errors[i - start] = (values[i] - kept) / upper[i, i]
            values[i:stop] -= torch.outer(upper[i, i:stop], errors[i - start])
            values[i] = kept
        values[stop:] -= upper[start:stop, stop:].T @ errors
    return (values * steps).T.reshape(shape).movedim(-1, 1)


def _allowed(steps: Tensor, neighbour: Tensor) -> Tensor:
    """The nearest that a weight may have beside its neighbour, both in steps."""
    return steps.clamp((-_PAIR - neighbour).clamp(-_MOST, 0), (_PAIR - neighbour).clamp(0, _MOST))


def _factor(together: Tensor) -> Tensor:
    """U, upper triangular, with ``U.T @ U`` H's inverse: its row i says how the weights after i make up for the error of i.

    H is ``R @ R.T`` with R upper triangular, the Cholesky factor of H turned by half, turned back; and U is R's inverse.
    """
    diagonal = together.diagonal()
    diagonal += _DAMPING * diagonal.mean() + 1e-6
    upper = torch.linalg.cholesky(together.flip(0, 1)).flip(0, 1)
    inverse: Tensor = torch.linalg.solve_triangular(upper, torch.eye(len(upper), dtype=upper.dtype), upper=True)
    return inverse
