"""How good a Learner is on labelled photos: error rate, confusion, calibration, highest losses."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from fastai.vision.all import Learner, ProgressCallback, Recorder, noop, parent_label

from .errors import TrainingError
from .labels import LABELLINGS, breed, has_breed

BARS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
_BINS = 15
_WORST = 16
_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile, for intervals of 95 %

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Source = Callable[[Path], str]


@dataclass(frozen=True)
class ErrorRate:
    """The share of photos that are classified wrongly, with its 95 % Wilson interval; the rate is None without photos."""

    photos: int
    errors: int
    rate: float | None
    interval: tuple[float, float]

    @classmethod
    def of(cls, errors: int, photos: int) -> ErrorRate:
        """The rate of ``errors`` in ``photos``."""
        return cls(photos, errors, errors / photos if photos else None, wilson_interval(errors, photos))


@dataclass(frozen=True)
class BreedErrors:
    """The errors among the photos of one breed."""

    breed: str
    error: ErrorRate


@dataclass(frozen=True)
class SourceErrors:
    """The errors among the photos of one source."""

    source: str
    error: ErrorRate


@dataclass(frozen=True)
class Bin:
    """The photos whose confidence is in (low, high]; without photos, confidence and accuracy are None."""

    low: float
    high: float
    photos: int
    confidence: float | None  # mean probability of the answers
    accuracy: float | None  # share of correct answers
    interval: tuple[float, float]  # 95 % Wilson interval of the accuracy


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy differ: the expected calibration error (ECE), and its bins."""

    ece: float
    bins: list[Bin]


@dataclass(frozen=True)
class Answered:
    """The answers with a probability of at least ``bar``."""

    bar: float
    share: float  # of all photos
    error: ErrorRate  # among the answered


@dataclass(frozen=True)
class TopLoss:
    """One of the answers with the highest loss."""

    photo: str  # relative to the evaluation's folder
    predicted: str
    truth: str
    probability: float  # of the predicted label
    loss: float


@dataclass(frozen=True)
class Evaluation:
    """All that is measured on one set of labelled photos."""

    folder: str
    labels: list[str]
    error: ErrorRate
    loss: float  # mean cross-entropy with the plain labels, in nats
    confusion: list[list[int]]  # photos, [truth][predicted], in the order of `labels`
    breeds: list[BreedErrors]
    sources: list[SourceErrors]  # none if all photos are of one source
    calibration: Calibration
    answered: list[Answered]
    top_losses: list[TopLoss]

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``metrics.json``."""
        return asdict(self)


def evaluate(
    learn: Learner, labels: str, photos: Sequence[Path] | None = None, source: Source = parent_label
) -> Evaluation:
    """Classify labelled photos as at validation, and measure the answers.

    Args:
        learn: unchanged, except that its model is in eval mode afterwards.
        labels: a name of `LABELLINGS`, as in training.
        photos: None takes the validation photos.
        source: gives a photo's source; by default its folder.

    Raises:
        TrainingError: no photos, or one with a label that the Learner was not trained on.
    """
    files = [Path(photo) for photo in (learn.dls.valid_ds.items if photos is None else photos)]
    require_known_labels(learn, labels, files)
    logits, truth = predict_logits(learn, files)
    words = [LABELLINGS[labels].word(category) for category in learn.dls.vocab]
    return measure(logits, truth, words, files, with_breeds=labels != "folder", source=source)


def require_known_labels(learn: Learner, labels: str, files: Sequence[Path]) -> None:
    """Refuse an empty list, and labels that the Learner was not trained on."""
    if not files:
        raise TrainingError("no photos to evaluate (a Learner loaded from learner.pkl has none: pass some)")
    for photo in files:
        label = LABELLINGS[labels].label(photo)
        if label not in learn.dls.vocab:
            raise TrainingError(
                f"{photo}: the Learner was not trained on its label {label!r} (give photos with its labels)"
            )


def predict_logits(learn: Learner, photos: Sequence[Path] | None = None) -> tuple[Floats, Ints]:
    """Logits [photos, classes], in the order of the vocab, and the true classes [photos]; None: the validation photos.

    Logits rather than probabilities, since in single precision a confident probability is rounded to 1.
    """
    dl = learn.dls.test_dl(list(learn.dls.valid_ds.items if photos is None else photos), with_labels=True)
    watching = [cb for cb in learn.cbs if isinstance(cb, (Recorder, ProgressCallback))]
    try:
        with learn.removed_cbs(watching):  # else the Recorder adds an epoch
            logits, truth = learn.get_preds(dl=dl, act=noop, inner=True)
    finally:
        learn._end_cleanup()  # get_preds with inner=True does not, and the Learner would keep the last batch
    return as_array(logits).astype(np.float64), as_array(truth).astype(np.int64)


def as_array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """A fastai tensor as numpy, without its subclass."""
    return np.asarray(tensor.detach().cpu().as_subclass(torch.Tensor))


def measure(
    logits: Floats,
    truth: Ints,
    words: list[str],
    files: Sequence[Path],
    with_breeds: bool = True,
    source: Source = parent_label,
) -> Evaluation:
    """Measure answers.

    Args:
        logits: [photos, classes].
        truth: the true classes, [photos].
        words: the label of each class.
        files: the photos.
        with_breeds: whether to read breeds from the file names.
        source: gives a photo's source.
    """
    log_probabilities = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    probabilities = np.exp(log_probabilities)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    losses = -log_probabilities[np.arange(len(truth)), truth]
    wrong = predicted != truth
    folder = Path(os.path.commonpath([photo.parent for photo in files]))
    return Evaluation(
        folder=str(folder),
        labels=words,
        error=_error_rate(wrong),
        loss=float(losses.mean()),
        confusion=confusion(truth, predicted, len(words)),
        breeds=errors_by_breed(files, wrong) if with_breeds else [],
        sources=errors_by_source([source(photo) for photo in files], wrong),
        calibration=calibration(confidence, ~wrong),
        answered=[answered(confidence, wrong, bar) for bar in BARS],
        top_losses=[
            TopLoss(
                photo=files[i].relative_to(folder).as_posix(),
                predicted=words[predicted[i]],
                truth=words[truth[i]],
                probability=float(confidence[i]),
                loss=float(losses[i]),
            )
            for i in np.argsort(-losses, kind="stable")[:_WORST]
        ],
    )


def _error_rate(wrong: Bools) -> ErrorRate:
    return ErrorRate.of(int(wrong.sum()), len(wrong))


def wilson_interval(errors: int, photos: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share; (0, 1) without photos."""
    if not photos:
        return 0.0, 1.0
    rate, z2 = errors / photos, _Z**2
    centre = rate + z2 / (2 * photos)
    half = _Z * sqrt(rate * (1 - rate) / photos + z2 / (4 * photos**2))
    low, high = (centre - half) / (1 + z2 / photos), (centre + half) / (1 + z2 / photos)
    # exact at the ends, where rounding errors are 1e-19
    return (low if errors else 0.0), (high if errors < photos else 1.0)


def confusion(truth: Ints, predicted: Ints, classes: int) -> list[list[int]]:
    """How many photos of each true class (row) were predicted as each class (column)."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    rows: list[list[int]] = counts.tolist()
    return rows


def errors_by_breed(files: Sequence[Path], wrong: Bools) -> list[BreedErrors]:
    """The errors of each breed, by name; photos without a breed in their name are left out."""
    breeds = np.array([breed(photo.name) if has_breed(photo) else "" for photo in files])
    return [BreedErrors(str(name), _error_rate(wrong[breeds == name])) for name in np.unique(breeds) if name]


def errors_by_source(sources: Sequence[str], wrong: Bools) -> list[SourceErrors]:
    """The errors of each source, by name; none if there is only one."""
    names, which = np.unique(np.array(sources), return_inverse=True)
    rows = [SourceErrors(str(name), _error_rate(wrong[which == i])) for i, name in enumerate(names)]
    return rows if len(rows) > 1 else []


def calibration(confidence: Floats, right: Bools, bins: int = _BINS) -> Calibration:
    """Expected calibration error over equal-width bins: the mean of |accuracy - confidence|, weighted by photos.

    Args:
        confidence: probability of each answer, [photos].
        right: whether it is correct, [photos].
        bins: their number; each includes its upper edge, as in Guo et al., 2017.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    filled = [_bin(edges[i], edges[i + 1], confidence[place == i], right[place == i]) for i in range(bins)]
    gaps = [
        b.photos * abs(b.accuracy - b.confidence) for b in filled if b.accuracy is not None and b.confidence is not None
    ]
    return Calibration(sum(gaps) / len(confidence), filled)


def _bin(low: float, high: float, confidence: Floats, right: Bools) -> Bin:
    photos = len(right)
    return Bin(
        low=float(low),
        high=float(high),
        photos=photos,
        confidence=float(confidence.mean()) if photos else None,
        accuracy=float(right.mean()) if photos else None,
        interval=wilson_interval(int(right.sum()), photos),
    )


def answered(confidence: Floats, wrong: Bools, bar: float) -> Answered:
    """How many answers have a probability of at least ``bar``, and how many of these are wrong."""
    sure = confidence >= bar
    return Answered(bar, float(sure.mean()), _error_rate(wrong[sure]))
