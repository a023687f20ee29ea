"""The Learner that every contender's answers are compared with, and its preprocessing."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.vision.all import Learner, Normalize, PILImage, ProgressCallback, Resize, load_learner

from .contenders.normalisation import Statistics


def load(run: Path) -> Learner:
    """The Learner of a run, on the CPU, without a progress bar."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # load_learner warns that a pickle runs code
        learn = load_learner(run / "learner.pkl", cpu=True)
    learn.model.eval()
    learn.remove_cb(ProgressCallback)
    return learn


def decisions(learn: Learner, photos: Sequence[Path | bytes]) -> list[int]:
    """The class index of each photo, by ``learn.predict``."""
    return [int(learn.predict(photo)[1]) for photo in photos]


def statistics_of(learn: Learner) -> Statistics:
    """Mean and standard deviation per channel, float32 [3], of pixels in 0 to 1; zeros and ones without Normalize."""
    for transform in learn.dls.valid.after_batch.fs:
        if isinstance(transform, Normalize):
            return transform.mean.numpy().reshape(3), transform.std.numpy().reshape(3)
    return np.zeros(3, np.float32), np.ones(3, np.float32)


def torch_with_fastai_pixels(learn: Learner) -> Callable[[bytes], Any]:
    """torch without ``learn.predict``: the Learner's own Resize, then its network."""
    resize = next(each for each in learn.dls.valid.after_item.fs if isinstance(each, Resize))
    mean, deviation = (torch.from_numpy(each).view(1, 3, 1, 1) for each in statistics_of(learn))

    def run(photo: bytes) -> Any:
        pixels = np.asarray(resize(PILImage.create(io.BytesIO(photo)), split_idx=1))
        batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float().div_(255)
        with torch.inference_mode():
            return learn.model((batch - mean) / deviation).softmax(1).numpy()

    return run
