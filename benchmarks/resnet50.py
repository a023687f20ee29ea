"""Writes MLPerf's ResNet-50 as an int8 model file, for `petinfer bench`: its published times are of this network.

usage: python -m benchmarks.resnet50 FILE

The weights are random, because the time does not depend on them; so are the answers. As in MLPerf's rules, there are 1,000
classes and 224 x 224 px.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
import torchvision
from fastai.vision.core import imagenet_stats

from export.onnx_file.graph import PixelsToAnswers, as_onnx, macs
from export.onnx_file.int8 import quantize
from export.onnx_file.portable import make_portable
from export.onnx_file.seal import seal
from export.progress import progress_bar
from petinfer.spec import Resize, Spec

from .question import HELP

_SIDE, _CLASSES = 224, 1000
_CALIBRATION = 16  # random images: the ranges do not matter either


@click.command(context_settings=HELP)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def main(file: Path) -> None:
    """Write a ResNet-50 with random weights in int8 to FILE."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None, num_classes=_CLASSES)
    fp32 = as_onnx(PixelsToAnswers(network, _SIDE, imagenet_stats), (_SIDE, _SIDE, 3))
    images = np.random.default_rng(0).integers(0, 256, (_CALIBRATION, _SIDE, _SIDE, 3), np.uint8)
    model = quantize(fp32, images, progress=progress_bar)
    make_portable(model)
    labels = tuple(f"class {i}" for i in range(_CLASSES))
    origin = {"macs": macs(fp32)}
    seal(model, Spec(labels, Resize(_SIDE, _SIDE), precision="int8", origin=origin), file)


if __name__ == "__main__":
    main()
