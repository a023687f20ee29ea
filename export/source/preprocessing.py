"""What a Learner does to a photo at validation, read off the Learner; what petinfer cannot reproduce is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from fastai.vision.all import (
    AffineCoordTfm,
    IntToFloatTensor,
    Learner,
    Normalize,
    PILImage,
    RandomCrop,
    RandomResizedCrop,
    ToTensor,
    compose_tfms,
)
from fastai.vision.all import Resize as FastaiResize
from PIL import Image

from petinfer.spec import CHANNELS, Resize
from petinfer.verify import GOLDEN_PHOTOS

from ..errors import ExportError
from .resampling import Resampling, measure_resampling

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Crop:
    """A window of the resized pixels, px."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Preprocessing:
    """All that happens to a photo between its file and the network."""

    resize: Resize
    crop: Crop | None
    item_transform: Any
    resampling: Resampling | None
    statistics: Statistics | None
    mode: str


def read_preprocessing(learn: Learner) -> Preprocessing:
    """What validation photos go through.

    Raises:
        ExportError: something that petinfer cannot reproduce.
    """
    mode = read_mode(learn)
    transform = _item_transform_of(learn)
    resize, crop = describe_item_transform(transform)
    size = (crop.height, crop.width) if crop else (resize.height, resize.width)
    return Preprocessing(resize, crop, transform, *_batch_transforms_of(learn, (CHANNELS[mode], *size)), mode)


def read_mode(learn: Learner) -> str:
    """``RGB``, or ``L`` for grey; a Learner of RGBA or other images is refused: no model file has such a mode."""
    photo = learn.dls.test_dl([GOLDEN_PHOTOS / "cat.jpg"], num_workers=0).dataset[0][0]
    name, remedy = type(photo).__name__, "train with PILImage or PILImageBW"
    if not isinstance(photo, PILImage):
        raise ExportError(f"learner: it opens a photo as {name}, not PILImage (train with ImageBlock)")
    if photo.mode not in CHANNELS:
        raise ExportError(f"learner: it opens photos as {name} in mode {photo.mode}, not RGB or L ({remedy})")
    return str(photo.mode)


def _item_transform_of(learn: Learner) -> Any:
    """The one transform that resizes, or with a RandomCrop after it both as one function."""
    found: list[Any] = []
    crops: list[Any] = []
    for transform in learn.dls.valid.after_item.fs:
        if transform.split_idx == 0:  # of training alone
            continue
        if type(transform) is RandomCrop and len(found) == 1 and not crops:
            crops.append(transform)
        elif isinstance(transform, (RandomResizedCrop, FastaiResize)):
            found.append(transform)
        elif not isinstance(transform, ToTensor):
            name = type(transform).__name__
            raise ExportError(f"learner: its item transform {name} cannot be reproduced (train with Resize alone)")
    if len(found) != 1:
        raise ExportError(f"learner: {len(found)} Resize transforms, one is needed (train with item_tfms=Resize(224))")
    return partial(compose_tfms, tfms=[*found, *crops]) if crops else found[0]


def describe_item_transform(transform: Any) -> tuple[Resize, Crop | None]:
    """fastai's ``Resize`` or ``RandomResizedCrop`` at validation, or a composition with ``RandomCrop``, as in a model file.

    fastai's sizes are (width, height).
    """
    if isinstance(transform, partial):
        first, second = transform.keywords["tfms"]
        return _cropped_again(*describe_item_transform(first), second)
    width, height = transform.size
    resample = Image.Resampling(transform.mode).name.lower()
    if isinstance(transform, FastaiResize):
        return Resize(height, width, str(transform.method), str(transform.pad_mode), resample), None
    transform.before_call(Image.new("RGB", (8, 8)), 1)
    across, down = transform.final_size  # of the whole photo, a margin wider than what is kept
    crop = Crop((down - height) // 2, (across - width) // 2, height, width)
    return Resize(down, across, "squish", "zeros", resample), crop if (across, down) != (width, height) else None


def _cropped_again(resize: Resize, crop: Crop | None, transform: Any) -> tuple[Resize, Crop]:
    """``RandomCrop`` crops the centre at validation."""
    width, height = transform.size
    if crop or width > resize.width or height > resize.height:
        raise ExportError("learner: its item transform RandomCrop pads or crops a crop (train with Resize alone)")
    return resize, Crop((resize.height - height) // 2, (resize.width - width) // 2, height, width)


def _batch_transforms_of(learn: Learner, shape: tuple[int, int, int]) -> tuple[Resampling | None, Statistics | None]:
    """``shape`` is that of a photo: channels, height, width."""
    statistics: Statistics | None = None
    resampling: Resampling | None = None
    for transform in learn.dls.valid.after_batch.fs:
        name = type(transform).__name__
        if isinstance(transform, Normalize):
            if statistics is not None:
                raise ExportError("learner: it normalizes twice, by two Normalize transforms (train with one)")
            statistics = _statistics_of(transform, shape[0])
        elif not _is_for_training(transform) and (matrices := measure_resampling(transform, *shape)) is not None:
            if statistics is not None:
                raise ExportError(f"learner: its batch transform {name} resamples after Normalize (move it before)")
            if resampling is not None:
                raise ExportError(f"learner: its batch transform {name} is a second resampling (train with one)")
            resampling = matrices
    return resampling, statistics


def _statistics_of(transform: Any, channels: int) -> Statistics:
    """Of each channel; one value is for all of them, and three make three channels of grey photos, as in torch."""
    mean, std = (tuple(each.flatten().tolist()) for each in (transform.mean, transform.std))
    return (mean, std) if len(mean) > 1 else (mean * channels, std * channels)


def _is_for_training(transform: Any) -> bool:
    """Whether validation skips a transform. An AffineCoordTfm's ``split_idx`` is that of the last batch it saw."""
    return isinstance(transform, IntToFloatTensor) or (
        transform.split_idx == 0 and not isinstance(transform, AffineCoordTfm)
    )
