"""EfficientNet-Lite2 as `python -m train --arch efficientnet-lite2` takes it apart, with random weights."""

from __future__ import annotations

from typing import Any

from fastai.vision.all import model_meta
from fastai.vision.learner import _default_meta
from torch import nn

from ..errors import ExportError

NAME = "efficientnet-lite2"


def efficientnet_lite2(**ignored: Any) -> nn.Sequential:
    """The network as one Sequential without its last layer.

    Raises:
        ExportError: its package is not installed.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ExportError(f"{NAME}: {error} (pip install efficientnet-lite-pytorch)") from error
    network = EfficientNet.from_name(NAME)
    conv = network._conv_stem
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, bias=conv.bias is not None)
    stem = conv.static_padding, plain, network._bn0, nn.ReLU6(inplace=True)
    return nn.Sequential(*stem, *network._blocks, network._conv_head, network._bn1, nn.ReLU6(inplace=True))


def _whole(model: nn.Sequential) -> nn.Sequential:
    return model


model_meta[efficientnet_lite2] = {**_default_meta, "cut": _whole}  # vision_learner ignores its own argument `cut`
