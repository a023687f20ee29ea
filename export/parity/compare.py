"""Whether a model file answers as its Learner does: the same photos through fastai and through petinfer itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petinfer import Classifier
from petinfer.decision import decided

from ..errors import ExportError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """The Learner's answers, which every file is compared with."""

    photos: Sequence[Path]
    labels: Sequence[str]
    logits: Array
    """[photos, classes]"""
    truth: Sequence[int | None] | None = None
    """The index of each photo's label, where it is known."""
    threshold: float | None = None
    """The Learner's, where photos have several labels."""

    @cached_property
    def probabilities(self) -> Array:
        """[photos, classes]"""
        return probabilities_of(self.logits, self.threshold)

    @cached_property
    def names(self) -> list[str]:
        """Each photo's name, unique."""
        return photo_names(self.photos)


@dataclass(frozen=True)
class Parity:
    """How a model file's answers differ from the Learner's. Differences are absolute, over all classes and photos."""

    photos: int
    probability_max: float
    probability_p99: float
    probability_mean: float
    logit_max: float
    logit_p99: float
    logit_mean: float
    flips: list[dict[str, Any]]
    """Photos whose labels differ: file, both labels, and the Learner's margin: between its two largest probabilities, or the
    least distance from the threshold of a label that differs."""
    furthest: list[dict[str, Any]]
    """The photos that moved most."""
    errors: int | None = None
    """Of the file, where the photos' labels are known."""
    original_errors: int | None = None
    judged: int | None = None
    """Photos whose label is known."""
    file_error: float | None = None
    """Largest |Δ probability| between the file and the network in float64, on some of the photos."""
    torch_error: float | None = None
    """The same between the Learner, in float32, and the network in float64."""
    int8_share: float | None = None
    """Share of the multiplications done in int8."""
    turned: dict[str, int] | None = None
    """Photos with an EXIF turn, and how many decisions differ between ``upright`` and ``stored``."""
    calibrated_on: int | None = None
    """Photos that int8 was calibrated on; none of them is compared."""
    threshold: float | None = None
    """The Learner's, where photos have several labels."""

    def summary(self) -> dict[str, Any]:
        """For the model's metadata."""
        summary = {
            "photos": self.photos,
            "max_probability_difference": self.probability_max,
            "flips": len(self.flips),
            "int8_share": self.int8_share,
            "calibration_photos": self.calibrated_on,
        }
        return {name: value for name, value in summary.items() if value is not None}

    def score(self, on: str) -> dict[str, Any]:
        """For the model's metadata: photos, errors and the error rate's 95 % interval; empty if no label is known."""
        if not self.judged or self.errors is None:
            return {}
        interval = wilson_interval(self.errors, self.judged)
        return {"on": on, "photos": self.judged, "errors": self.errors, "interval": interval}

    def as_json(self) -> dict[str, Any]:
        """For ``parity.json``."""
        return asdict(self)


def compare(reference: Reference, probabilities: Array, logits: Array) -> Parity:
    """Compare a file's answers, [photos, classes] each, with the Learner's."""
    if not len(reference.photos):
        raise ExportError("photos: none to compare on (give a folder with --photos)")
    moved, logit_moved = np.abs(probabilities - reference.probabilities), np.abs(logits - reference.logits)
    before, after = (decided(each, reference.threshold) for each in (reference.probabilities, probabilities))
    rows = _Rows(reference, moved.max(1), before, after)
    return Parity(
        photos=len(reference.photos),
        probability_max=float(moved.max()),
        probability_p99=float(np.percentile(moved.max(1), 99)),
        probability_mean=float(moved.mean()),
        logit_max=float(logit_moved.max()),
        logit_p99=float(np.percentile(logit_moved.max(1), 99)),
        logit_mean=float(logit_moved.mean()),
        flips=[rows.row(int(i)) for i in np.flatnonzero((before != after).any(1))],
        furthest=[rows.row(int(i)) for i in np.argsort(-moved.max(1), kind="stable")[:8]],
        threshold=reference.threshold,
        **_judge(before.argmax(1), after.argmax(1), reference.truth),
    )


class _Rows:
    """Single photos of a comparison, for its reports."""

    def __init__(self, reference: Reference, moved: Array, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> None:
        self.reference, self.moved, self.before, self.after = reference, moved, before, after

    def row(self, i: int) -> dict[str, Any]:
        return {
            "photo": self.reference.names[i],
            "learner": self._words(self.before[i]),
            "file": self._words(self.after[i]),
            "margin": self._margin(i),
            "moved": float(self.moved[i]),
        }

    def _words(self, chosen: NDArray[np.bool_]) -> str:
        return ", ".join(self.reference.labels[int(i)] for i in np.flatnonzero(chosen)) or "none"

    def _margin(self, i: int) -> float:
        probabilities = self.reference.probabilities[i]
        if self.reference.threshold is None:
            second, first = np.sort(probabilities)[-2:]
            return float(first - second)
        differs = self.before[i] != self.after[i]
        distances = np.abs(probabilities - self.reference.threshold)
        return float(distances[differs].min() if differs.any() else distances.min())


def file_answers(classifier: Classifier, photos: Iterable[Path]) -> tuple[Array, Array]:
    """The model file's probabilities and logits, [photos, classes] each, one photo at a time as on a device."""
    probabilities, logits = file_outputs(classifier, photos, "probabilities", "logits")
    return probabilities, logits


def file_outputs(classifier: Classifier, photos: Iterable[Path], *names: str) -> list[Array]:
    """The model file's outputs of these names, [photos, ...] each, one photo at a time as on a device."""
    answers = [classifier.outputs(classifier.pixels(photo)[np.newaxis], *names) for photo in photos]
    return [np.concatenate(part).astype(np.float64) for part in zip(*answers, strict=True)]


def photo_names(photos: Sequence[Path]) -> list[str]:
    """Each photo's file name, or its whole path where two have the same name."""
    times = Counter(photo.name for photo in photos)
    return [photo.name if times[photo.name] == 1 else str(photo) for photo in photos]


def _judge(before: NDArray[np.intp], after: NDArray[np.intp], truth: Sequence[int | None] | None) -> dict[str, Any]:
    known = [(b, a, t) for b, a, t in zip(before, after, truth or (), strict=bool(truth)) if t is not None]
    if not known:
        return {}
    return {
        "judged": len(known),
        "errors": sum(int(a != t) for _, a, t in known),
        "original_errors": sum(int(b != t) for b, _, t in known),
    }


def probabilities_of(logits: Array, threshold: float | None) -> Array:
    """Probabilities of logits, [photos, classes]: of a Learner with a threshold, each by itself."""
    return softmax(logits) if threshold is None else np.asarray(np.exp(-np.logaddexp(0, -logits)))


def softmax(logits: Array) -> Array:
    """Probabilities of logits, [photos, classes]."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def wilson_interval(errors: int, photos: int) -> tuple[float, float]:
    """The 95 % interval of an error rate (E. B. Wilson, 1927)."""
    z, rate = 1.959964, errors / photos
    centre = rate + z * z / (2 * photos)
    spread = z * math.sqrt(rate * (1 - rate) / photos + z * z / (4 * photos * photos))
    scale = 1 + z * z / photos
    return (round(max(0.0, (centre - spread) / scale), 6), round((centre + spread) / scale, 6))
