"""A ResNet's first convolution over blocks of pixels: the same network, of which every other kind is left as it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from export.stem import merge_pixels


def network(convolution: nn.Conv2d, height: int, width: int) -> onnx.ModelProto:
    """The convolution, on pixels in the order [batch, height, width, channel]."""
    torch.manual_seed(0)

    class Network(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            """Turn the pixels, and convolve."""
            turned: torch.Tensor = convolution(image.permute(0, 3, 1, 2))
            return turned

    example, batch = torch.zeros(2, height, width, 3), torch.export.Dim("batch")
    program = torch.onnx.export(
        Network(), (example,), input_names=["image"], dynamic_shapes=({0: batch},), dynamo=True, verbose=False
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
    model = network(nn.Conv2d(3, 8, 7, 2, 3), height, width)
    image = np.random.default_rng(0).random((2, height, width, 3), np.float32)
    expected = answer(model, image)
    merge_pixels(model, height, width)
    onnx.checker.check_model(model, full_check=True)
    (convolution,) = (node for node in model.graph.node if node.op_type == "Conv")
    shapes = {each.name: list(each.dims) for each in model.graph.initializer}
    assert shapes[convolution.input[1]] == [8, 12, 4, 4]
    np.testing.assert_allclose(answer(model, image), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("convolution", "size"),
    [
        (nn.Conv2d(3, 8, 3, 2, 1), (32, 32)),
        (nn.Conv2d(3, 8, 7, 1, 3), (32, 32)),
        (nn.Conv2d(3, 8, 7, 2, 2), (32, 32)),
        (nn.Conv2d(3, 8, 7, 2, 3), (33, 32)),
    ],
    ids=["3 x 3", "no stride", "another padding", "an odd height"],
)
def test_another_network_is_left_as_it_is(convolution: nn.Conv2d, size: tuple[int, int]) -> None:
    model = network(convolution, *size)
    before = model.SerializeToString()
    merge_pixels(model, *size)
    assert model.SerializeToString() == before
