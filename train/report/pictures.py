"""The photos of a report: the worst answers as the network sees them, with Grad-CAM maps."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from fastai.vision.all import Learner, hook_output
from PIL import Image

from ..evaluation import Evaluation, TopLoss, as_array

_MAPPED = 8  # this many of the worst answers get a map
_THUMBNAIL = 224  # px

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class WorstAnswer:
    """One of the top losses, with its photo and map as data URIs; the map is None beyond the first few, or if there is none."""

    answer: TopLoss
    photo: str
    map: str | None

    @property
    def wrong(self) -> bool:
        """Whether it is an error, rather than a correct answer with low confidence."""
        return self.answer.predicted != self.answer.truth


def worst_answers(learn: Learner, evaluation: Evaluation) -> list[WorstAnswer]:
    """The top losses of an evaluation; their photos are read again."""
    files = [Path(evaluation.folder) / answer.photo for answer in evaluation.top_losses]
    dl = learn.dls.test_dl(files, bs=len(files), num_workers=0)
    batch = dl.one_batch()[0]
    photos = _pixels(dl.decode((batch,))[0])
    maps = class_activation_maps(learn, batch[:_MAPPED])
    overlays: list[str | None] = [None] * len(files)
    if maps is not None:
        overlays[: len(maps)] = [_jpeg(_overlay(photo, map)) for photo, map in zip(photos, maps, strict=False)]
    return [
        WorstAnswer(answer, _jpeg(photo), overlay)
        for answer, photo, overlay in zip(evaluation.top_losses, photos, overlays, strict=True)
    ]


def _pixels(images: torch.Tensor) -> Pixels:
    """Decoded images [photos, 3, height, width], 0 to 255 or floats up to 1, as uint8 [photos, height, width, 3]."""
    values = as_array(images).transpose(0, 2, 3, 1)
    scale = 255 if np.issubdtype(values.dtype, np.floating) else 1
    pixels: Pixels = (values * scale).round().clip(0, 255).astype(np.uint8)
    return pixels


def class_activation_maps(learn: Learner, batch: torch.Tensor) -> npt.NDArray[np.float32] | None:
    """Grad-CAM (arXiv 1610.02391): how much each cell of the body's last feature map raises the predicted logit.

    Args:
        learn: a ``vision_learner``: body and head. Its model is in eval mode afterwards.
        batch: normalised images [photos, 3, height, width].

    Returns:
        [photos, rows, columns], from 0 to 1, scaled so that each photo's highest cell is 1; None if the body's output has
        no rows and columns, as in a vision transformer.
    """
    images = batch.detach().as_subclass(torch.Tensor).clone().requires_grad_()  # else a frozen body has no gradient
    learn.model.eval()
    with torch.enable_grad(), hook_output(learn.model[0], detach=False) as hook:
        logits = learn.model(images)
    features = hook.stored
    if not isinstance(features, torch.Tensor) or features.ndim != 4 or features.shape[2:].numel() == 1:
        return None
    (slopes,) = torch.autograd.grad(logits.max(1).values.sum(), features)
    raised = (slopes.mean((2, 3), keepdim=True) * features).sum(1).relu()
    return as_array(raised / raised.amax((1, 2), keepdim=True).clamp_min(1e-12))


def _overlay(photo: Pixels, map: npt.NDArray[np.float32]) -> Pixels:
    """The map over the photo, in colour where it is high and grey where it is low."""
    height, width = photo.shape[:2]
    weight = np.asarray(Image.fromarray(map).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)[..., None]
    grey = np.asarray(Image.fromarray(photo).convert("L"), dtype=np.float64)[..., None]
    colour = 255 * matplotlib.colormaps["inferno"](0.25 + 0.7 * weight[..., 0])[..., :3]
    pixels: Pixels = (grey * (1 - 0.6 * weight) + colour * 0.6 * weight).clip(0, 255).astype(np.uint8)
    return pixels


def _jpeg(pixels: Pixels) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = BytesIO()
    image.save(file, "JPEG", quality=82, optimize=True)
    return data_uri("image/jpeg", file.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """A file as a data URI of this media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
