"""Channels with even ranges: the same network; maps that others than convolutions write or read are left as they are."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from export.onnx_file.equalization import _groups, _ranges, equalize
from export.onnx_file.graph import OPSET
from export.onnx_file.parts import MeanPool


class Block(nn.Module):
    """Two convolutions and a sum, as in a ResNet."""

    def __init__(self, channels: int, further: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, further, 3, stride, 1)
        self.second = nn.Conv2d(further, further, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, further, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Add to the maps."""
        return nn.functional.relu(self.second(nn.functional.relu(self.first(maps))) + self.shortcut(maps))


class FromPixels(nn.Module):
    """Layers over [batch, height, width, channel]."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Transpose and apply the layers."""
        maps: torch.Tensor = self.layers(image.permute(0, 3, 1, 2).float() / 255)
        return maps


def exported(*layers: nn.Module) -> onnx.ModelProto:
    network = FromPixels(*layers).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):  # channels of widely different ranges
            nn.init.normal_(layer.weight, std=1 / layer.weight[0].numel() ** 0.5)
            layer.weight.data *= torch.logspace(-1, 0.5, len(layer.weight))[:, None, None, None]
    program = torch.onnx.export(
        network, (torch.zeros(2, 32, 32, 3, dtype=torch.uint8),), input_names=["image"], output_names=["answer"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), opset_version=OPSET, dynamo=True, verbose=False,
    )  # fmt: skip
    assert program is not None
    return program.model_proto


IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


def answer(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": IMAGES})[0]


def evenness(model: onnx.ModelProto) -> list[float]:
    """The mean range of the channels of each map that can be scaled, of its widest channel's."""
    names = [name for group in _groups(model) if not group.fixed for name in sorted(group.maps)]
    return [float(each.mean() / each.max()) for each in _ranges(model, IMAGES, names).values()]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def resnet() -> onnx.ModelProto:
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 16, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    return exported(*stem, Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1), MeanPool())


def test_the_network_computes_the_same() -> None:
    model = resnet()
    expected = answer(model)
    equalize(model, IMAGES, 0.75)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(answer(model), expected, rtol=1e-4, atol=1e-6)


def test_ranges_are_more_even_the_stronger_it_is() -> None:
    found = []
    for strength in (0.0, 0.5, 1.0):
        model = resnet()
        equalize(model, IMAGES, strength)
        found.append(evenness(model))
    assert np.mean(found[0]) < np.mean(found[1]) < np.mean(found[2])
    assert np.mean(found[2]) > 2 * np.mean(found[0])


def test_a_stage_has_one_factor_for_its_input_and_its_sums() -> None:
    """The last stage's sums go to the head, and so does what the shortcut adds to them."""
    sizes = sorted((len(group.writers), len(group.readers)) for group in _groups(resnet()) if not group.fixed)
    assert sizes == [(1, 1), (1, 1), (1, 1), (2, 3)]


def test_maps_of_depthwise_convolutions_or_without_bias_stay_as_they_are() -> None:
    depthwise = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 8, 1), MeanPool()]
    bare = [nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 4, 1), MeanPool()]
    for layers in (depthwise, bare):
        model = exported(*layers)
        before = model.SerializeToString()
        equalize(model, IMAGES, 0.75)
        assert model.SerializeToString() == before


class Sum(nn.Module):
    """The sum of two convolutions of the same maps."""

    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(8, each, 1) for each in channels)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Add."""
        return self.first(maps) + self.second(maps)


def test_a_sum_of_one_channel_and_several_is_left_as_it_is() -> None:
    model = exported(nn.Conv2d(3, 8, 3), nn.ReLU(), Sum(5, 1), nn.ReLU(), nn.Conv2d(5, 4, 1), MeanPool())
    expected = answer(model)
    equalize(model, IMAGES, 0.75)
    np.testing.assert_allclose(answer(model), expected, rtol=1e-4, atol=1e-6)


def test_convolutions_over_one_dimension_are_left_as_they_are() -> None:
    over_lines = [nn.Flatten(2), nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 4, 3), nn.Flatten(1)]
    model = exported(*over_lines)
    before = model.SerializeToString()
    equalize(model, IMAGES, 0.75)
    assert model.SerializeToString() == before
