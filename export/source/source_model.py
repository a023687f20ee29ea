"""A trained network with all that happens to a photo before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from fastai.vision.all import CastToTensor, Learner, ProgressCallback, Recorder, TrainEvalCallback
from numpy.typing import NDArray

from petinfer.image import pixels
from petinfer.provenance import file_sha256
from petinfer.spec import Resize

from ..errors import ExportError, one_line
from .preprocessing import Crop, Statistics
from .resampling import Resampling

_CORE_CALLBACKS = (TrainEvalCallback, Recorder, CastToTensor, ProgressCallback)


@dataclass(frozen=True)
class SourceModel:
    """What is exported. Photos go through ``resize``, ``crop``, ``resampling`` and ``statistics`` to the network."""

    learn: Learner
    labels: tuple[str, ...]
    resize: Resize
    statistics: Statistics | None
    """Mean and standard deviation by channel, of pixels in 0 to 1."""
    origin: dict[str, Any] = field(default_factory=dict)
    resampling: Resampling | None = None
    """Of the batch, by rows and by columns."""
    crop: Crop | None = None
    """Of the resized pixels."""
    item_transform: Any = None
    """fastai's own transform that ``resize`` and ``crop`` reproduce."""
    mode: str = "RGB"
    """``L`` for grey photos."""
    vocab: tuple[str, ...] = ()
    """The Learner's own names of its classes, as texts, where ``labels`` may be other words."""
    threshold: float | None = None
    """A photo has every label whose sigmoid is over it; None where it has one label."""

    def pixels(self, photo: Path) -> NDArray[np.uint8]:
        """petinfer's own pixels of a photo, uint8 [height, width, channels], before ``crop``; not turned, as in fastai."""
        return pixels(photo, self.resize, "stored", self.mode)

    def cropped(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the network sees of the resized pixels [height, width, channels]."""
        if self.crop is None:
            return image
        top, left = self.crop.top, self.crop.left
        return image[top : top + self.crop.height, left : left + self.crop.width]

    def mapping(self) -> str | None:
        """Which class got which word; None where the classes are named already."""
        if self.vocab and self.vocab != self.labels:
            return ", ".join(f"{own} → {word}" for own, word in zip(self.vocab, self.labels, strict=True))
        if set(self.labels) <= {"False", "True"}:
            return f"labels: {', '.join(self.labels)} (--labels gives them words, in this order)"
        return None

    def with_labels(self, labels: Sequence[str] | None) -> SourceModel:
        """The same model with other words for its classes; None keeps the vocab's."""
        if labels is None:
            return self
        if len(labels) != len(self.labels):
            classes = ", ".join(self.labels)
            raise ExportError(f"--labels: {len(labels)} words for the {len(self.labels)} classes {classes} (name each)")
        return replace(self, labels=tuple(labels))


def learner_file(path: Path) -> dict[str, str]:
    """The file that a Learner was loaded from, for ``origin``: its name and sha256."""
    return {"file": path.name, "sha256": file_sha256(path)}


def freeze(learn: Learner) -> Learner:
    """Prepare a Learner for prediction: evaluation mode, CPU, single precision, and fastai's core callbacks alone."""
    learn.dls.cpu()
    learn.model = learn.model.eval().cpu().float()
    callbacks = list(learn.cbs)
    learn.cbs.clear()
    learn.add_cbs([callback for callback in callbacks if type(callback) in _CORE_CALLBACKS])
    return learn


def learner_logits(learn: Learner, photos: Sequence[Path]) -> NDArray[np.float64]:
    """The Learner's own logits, [photos, classes], with all that fastai does to a photo.

    Raises:
        ExportError: prediction fails.
    """
    try:
        loader = learn.dls.test_dl(list(photos), bs=16, num_workers=0)
        with learn.no_bar(), learn.no_logging():
            logits, _ = learn.get_preds(dl=loader, act=lambda x: x)
    except ExportError:
        raise
    except Exception as error:  # whatever the network and its transforms raise
        raise ExportError(f"learner: prediction fails: {one_line(error)} (check it with learn.predict)") from error
    return np.asarray(logits, dtype=np.float64)
