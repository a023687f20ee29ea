"""A ResNet's first convolution from space to depth: the same network; every other kind is left as it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from export.onnx_file.space_to_depth import space_to_depth


class Network(nn.Module):
    """Convolutions, on pixels in the order [batch, height, width, channel]."""

    def __init__(self, *convolutions: nn.Module, order: tuple[int, ...] = (0, 3, 1, 2)) -> None:
        super().__init__()
        self.convolutions, self.order = nn.Sequential(*convolutions), order

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Transpose the pixels, and convolve."""
        answer: torch.Tensor = self.convolutions(image.permute(self.order))
        return answer


class Again(Network):
    """What the convolution takes is taken a second time."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Convolve, and add a number of the same pixels."""
        pixels = image.permute(self.order)
        return self.convolutions(pixels) + pixels.mean((1, 2, 3), keepdim=True)


def exported(network: nn.Module, height: int, width: int) -> onnx.ModelProto:
    """The network as a graph, for any number of photos."""
    example, batch = torch.zeros(2, height, width, 3), torch.export.Dim("batch")
    program = torch.onnx.export(
        network.eval(), (example,), input_names=["image"], dynamic_shapes=({0: batch},), dynamo=True, verbose=False
    )
    assert program is not None
    return program.model_proto


def answer(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    """What the network gives."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


@pytest.mark.parametrize(("height", "width"), [(224, 224), (30, 46)])
def test_the_sums_are_the_same_at_every_place(height: int, width: int) -> None:
    """At the border too, where the padding is wider by a pixel, and for several photos at once."""
    torch.manual_seed(0)
    model = exported(Network(nn.Conv2d(3, 8, 7, 2, 3)), height, width)
    image = np.random.default_rng(0).random((2, height, width, 3), np.float32)
    expected = answer(model, image)
    space_to_depth(model, height, width)
    onnx.checker.check_model(model, full_check=True)
    (convolution,) = (node for node in model.graph.node if node.op_type == "Conv")
    shapes = {each.name: list(each.dims) for each in model.graph.initializer}
    assert shapes[convolution.input[1]] == [8, 12, 4, 4]
    np.testing.assert_allclose(answer(model, image), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (Network(nn.Conv2d(3, 8, 3, 2, 1)), (32, 32)),
        (Network(nn.Conv2d(3, 8, 7, 1, 3)), (32, 32)),
        (Network(nn.Conv2d(3, 8, 7, 2, 2)), (32, 32)),
        (Network(nn.Conv2d(3, 8, 7, 2, 3, dilation=2)), (32, 32)),
        (Network(nn.Conv2d(3, 6, 7, 2, 3, groups=3)), (32, 32)),
        (Network(nn.Conv2d(3, 8, 7, 2, 3)), (33, 32)),
        (Network(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 7, 2, 3)), (32, 32)),
        (Network(nn.Conv2d(3, 8, 7, 2, 3), order=(0, 3, 2, 1)), (32, 32)),
        (Again(nn.Conv2d(3, 8, 7, 2, 3)), (32, 32)),
    ],
    ids=["3 x 3", "no stride", "padding", "dilation", "groups", "odd height", "second", "another order", "two takers"],
)
def test_another_network_is_left_as_it_is(network: nn.Module, size: tuple[int, int]) -> None:
    model = exported(network, *size)
    before = model.SerializeToString()
    space_to_depth(model, *size)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("name", ["strides", "pads"])
def test_a_setting_that_is_not_said_is_the_operators_own(name: str) -> None:
    """A stride of 1, and no padding."""
    model = exported(Network(nn.Conv2d(3, 8, 7, 2, 3)), 32, 32)
    (convolution,) = (node for node in model.graph.node if node.op_type == "Conv")
    kept = [each for each in convolution.attribute if each.name != name]
    del convolution.attribute[:]
    convolution.attribute.extend(kept)
    before = model.SerializeToString()
    space_to_depth(model, 32, 32)
    assert model.SerializeToString() == before
