"""Weights that are rounded to make up for each other: on their steps, nearer than each by itself, and never too large."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from onnx import TensorProto, helper
from torch.nn import functional

from export.onnx_file.gptq import round_weights
from export.onnx_file.int8 import pair_sums

GEOMETRY = {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2], "kernel_shape": [3, 2]}


def convolution(weights: np.ndarray, **attributes: object) -> onnx.ModelProto:
    """A network of one convolution over a photo's pixels, which a transpose and a cast bring to it."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "weight"], ["sums"], **attributes),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 12, 12, 3])
    sums = helper.make_tensor_value_info("sums", TensorProto.FLOAT, None)
    initializer = onnx.numpy_helper.from_array(weights.astype(np.float32), "weight")
    graph = helper.make_graph(nodes, "one", [image], [sums], [initializer])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def weight_of(model: onnx.ModelProto) -> np.ndarray:
    return onnx.numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)


@pytest.fixture
def photos() -> np.ndarray:
    """Smooth pictures: neighbouring pixels and colours go together, as they do in photos."""
    small = torch.rand(16, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    grey = functional.interpolate(small, (12, 12), mode="bilinear") * 200
    noise = torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(1)) * 20
    colours = grey * torch.tensor([1.0, 0.9, 0.7])[:, None, None] + noise
    return colours.permute(0, 2, 3, 1).byte().numpy()


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(8, 3, 3, 2))


def test_weights_come_to_lie_on_their_steps(photos: np.ndarray, weights: np.ndarray) -> None:
    steps = pair_sums(weights) / 127
    rounded = weight_of(round_weights(convolution(weights, **GEOMETRY), photos, {"weight": steps}))
    in_steps = rounded / steps[:, None, None, None]
    assert np.abs(in_steps - in_steps.round()).max() < 1e-4
    assert np.abs(in_steps).max() < 127.001


def test_answers_move_less_than_by_rounding_each_weight_alone(photos: np.ndarray, weights: np.ndarray) -> None:
    steps = np.full(8, np.abs(weights).max() / 7)  # coarse, for the difference to show
    rounded = weight_of(round_weights(convolution(weights, **GEOMETRY), photos, {"weight": steps}))
    nearest = (weights / steps[:, None, None, None]).round() * steps[:, None, None, None]
    pixels = functional.pad(torch.from_numpy(photos).permute(0, 3, 1, 2).double(), (0, 1, 1, 2))

    def error(other: np.ndarray) -> float:
        change = torch.from_numpy(other - weights)
        return functional.conv2d(pixels, change, stride=(2, 1), dilation=(1, 2)).square().mean().item()

    assert error(rounded) < 0.2 * error(nearest)


def test_no_two_neighbours_sum_to_what_saturates(photos: np.ndarray) -> None:
    """Steps that are too small by a tenth would let the largest pair be 140 of them."""
    weights = np.random.default_rng(0).uniform(0.9, 1.1, (8, 3, 3, 2))
    steps = pair_sums(weights) / 140
    rounded = weight_of(round_weights(convolution(weights, **GEOMETRY), photos, {"weight": steps}))
    assert pair_sums((rounded / steps[:, None, None, None]).round()).tolist() == [128] * 8


def test_odd_numbers_of_inputs_blocks_and_outputs_of_zeros_are_rounded(photos: np.ndarray) -> None:
    weights = np.random.default_rng(0).normal(size=(4, 3, 7, 7))  # 147 inputs
    weights[2] = 0
    steps = np.abs(weights).max((1, 2, 3)) / 7
    rounded = weight_of(round_weights(convolution(weights, kernel_shape=[7, 7]), photos, {"weight": steps}))
    assert np.array_equal(rounded[2], weights[2])
    nearest = (weights[:2] / steps[:2, None, None, None]).round() * steps[:2, None, None, None]
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2).double()
    moved, alone = (
        functional.conv2d(pixels, torch.from_numpy(other - weights[:2])).square().mean()
        for other in (rounded[:2], nearest)
    )
    assert moved < 0.2 * alone


@pytest.mark.parametrize("outputs_of_a_channel", [1, 4])
def test_grouped_convolutions_are_rounded_group_by_group(photos: np.ndarray, outputs_of_a_channel: int) -> None:
    weights = np.random.default_rng(0).normal(size=(3 * outputs_of_a_channel, 1, 3, 3))
    steps = np.full(len(weights), np.abs(weights).max() / 7)
    rounded = weight_of(round_weights(convolution(weights, group=3), photos, {"weight": steps}))
    nearest = (weights / steps[0]).round() * steps[0]
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2).double()

    def error(other: np.ndarray) -> float:
        return functional.conv2d(pixels, torch.from_numpy(other - weights), groups=3).square().mean().item()

    assert np.abs(rounded / steps[0] - (rounded / steps[0]).round()).max() < 1e-5
    assert 0 < error(rounded) < 0.7 * error(nearest)
