"""The normalisation as one addition of bytes: the same network; graphs that begin otherwise are left as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from export.onnx_file.graph import PixelsToAnswers, as_onnx
from export.onnx_file.int8 import Scheme, quantize
from export.onnx_file.normalisation import fold_scale
from export.onnx_file.parts import MeanPool

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
WIDTH = 32


def exported(convolution: nn.Conv2d, statistics: Any = IMAGENET) -> onnx.ModelProto:
    """A convolution and a ReLU over normalised pixels, [batch, 32, 32, channels], as `export_graph` writes one."""
    torch.manual_seed(0)
    nn.init.normal_(convolution.weight, std=2 / convolution.weight[0].numel() ** 0.5)
    return as_graph(convolution, statistics)


def as_graph(first: nn.Module, statistics: Any) -> onnx.ModelProto:
    layers = nn.Sequential(first, nn.ReLU(), MeanPool())
    return as_onnx(PixelsToAnswers(layers, WIDTH, statistics), (WIDTH, WIDTH, len(statistics[0])))


def images(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, WIDTH, WIDTH, channels), np.uint8)


def logits(model: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": batch})[0]


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("statistics", [IMAGENET, ((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3)])
def test_without_padding_the_answers_are_the_same(statistics: Any) -> None:
    model = exported(nn.Conv2d(3, 8, 3), statistics)
    expected = logits(model, images())
    assert fold_scale(model) is not None
    onnx.checker.check_model(model, full_check=True)
    assert "Mul" not in operators(model)
    np.testing.assert_allclose(logits(model, images()), expected, atol=2e-5)


def test_padding_differs_by_less_than_half_a_level_of_a_pixel() -> None:
    """The bias makes up for the rounded shift, which the padding does not have."""
    model = exported(nn.Conv2d(3, 8, 3, padding=1))
    expected = logits(model, images())
    fold_scale(model)
    difference = np.abs(logits(model, images()) - expected).max()
    assert 0 < difference < 0.5 / 255 / 0.224


@pytest.mark.parametrize(
    ("convolution", "statistics"),
    [
        (nn.Conv2d(3, 6, 3, groups=3), IMAGENET),
        (nn.Conv2d(3, 8, 3, bias=False), IMAGENET),
        (nn.Conv2d(3, 8, 3), ((-0.1, 0.4, 0.4), (0.2, 0.2, 0.2))),
    ],
    ids=["groups", "no bias", "a negative mean"],
)
def test_other_graphs_are_left_as_they_are(convolution: nn.Conv2d, statistics: Any) -> None:
    model = exported(convolution, statistics)
    before = model.SerializeToString()
    assert fold_scale(model) is None
    assert model.SerializeToString() == before


def test_channels_that_are_not_the_colours_are_left_as_they_are() -> None:
    """Four pixels of a colour side by side, then those of the next."""
    layers = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 8, 3))
    model = as_graph(layers, IMAGENET)
    before = model.SerializeToString()
    assert fold_scale(model) is None
    assert model.SerializeToString() == before


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("stem", ["7 x 7", "3 x 3"])
def test_pixels_stay_bytes_up_to_the_first_convolution(stem: str, channels: int) -> None:
    statistics = tuple(values[:channels] for values in IMAGENET)
    convolution = nn.Conv2d(channels, 8, 7, 2, 3) if stem == "7 x 7" else nn.Conv2d(channels, 8, 3)
    model = exported(convolution, statistics)
    batch = images(channels)
    expected = logits(model, batch)
    rounded = quantize(model, batch)
    onnx.checker.check_model(rounded, full_check=True)
    found = operators(rounded)
    assert not {"Cast", "Mul"} & set(found) and found.count("QuantizeLinear") == 2  # the sum, and the ReLU
    error, plain = (
        np.square(logits(each, batch) - expected).mean()
        for each in (rounded, quantize(model, batch, Scheme(int8_pixels=False)))
    )
    assert error < 1e-4 * np.square(expected).mean() and plain < 1e-4 * np.square(expected).mean()


def test_a_first_convolution_in_float_reads_floats() -> None:
    model = exported(nn.Conv2d(3, 8, 3))
    rounded = quantize(model, images(), Scheme(float_ends=True))
    assert "Cast" in operators(rounded) and "Mul" in operators(rounded)
    np.testing.assert_allclose(logits(rounded, images()), logits(model, images()), rtol=0.01, atol=0.01)
