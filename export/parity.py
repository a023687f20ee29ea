"""Whether a model file answers as its Learner does: the same photos through fastai and through petinfer itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petinfer import Classifier

from .errors import ExportError
from .learner import Original

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gate:
    """How far a precision may be from the Learner."""

    largest: float  # |Δ probability| of any photo
    p99: float  # |Δ probability| of 99 % of the photos
    flips: float  # share of decisions that differ
    margin: float = 0.0  # decisions that the Learner made by less may differ


GATES = {"fp32": Gate(1e-5, 1e-5, 0.0), "fp16": Gate(5e-3, 5e-3, 0.0, 0.02), "int8": Gate(1.0, 0.02, 0.002)}


@dataclass(frozen=True)
class Parity:
    """How a model file's answers differ from the Learner's. Differences are absolute; of all classes of all photos."""

    photos: int
    probability_max: float
    probability_p99: float
    probability_mean: float
    logit_max: float
    logit_p99: float
    logit_mean: float
    flips: list[dict[str, Any]]  # file, both labels, and the Learner's margin between its first and second probability
    furthest: list[dict[str, Any]]  # the photos that moved most
    errors: int | None = None  # of the file, where the truth is known
    original_errors: int | None = None
    judged: int | None = None  # photos whose truth is known

    def failures(self, gate: Gate) -> list[str]:
        """What this is worse in than the gate allows; empty when it passes."""
        flips = sum(flip["margin"] > gate.margin for flip in self.flips) / self.photos
        measured = (
            ("largest |Δ probability|", self.probability_max, gate.largest),
            ("99th percentile of |Δ probability|", self.probability_p99, gate.p99),
            ("share of decisions flipped", flips, gate.flips),
        )
        return [f"{name} is {value:.2g}, over {limit:.2g}" for name, value, limit in measured if not value <= limit]

    def summary(self) -> dict[str, Any]:
        """For the model's metadata."""
        return {"photos": self.photos, "max_probability_difference": self.probability_max, "flips": len(self.flips)}

    def score(self, on: str) -> dict[str, Any]:
        """For the model's metadata: photos, errors and the 95 % interval of the error rate; empty where no truth is known."""
        if not self.judged or self.errors is None:
            return {}
        return {
            "on": on,
            "photos": self.judged,
            "errors": self.errors,
            "interval": wilson_interval(self.errors, self.judged),
        }

    def as_json(self) -> dict[str, Any]:
        """For ``parity.json``."""
        return asdict(self)


def wilson_interval(errors: int, photos: int) -> tuple[float, float]:
    """The 95 % interval of an error rate (E. B. Wilson, 1927)."""
    z, rate = 1.959964, errors / photos
    centre = rate + z * z / (2 * photos)
    spread = z * math.sqrt(rate * (1 - rate) / photos + z * z / (4 * photos * photos))
    scale = 1 + z * z / photos
    return (round(max(0.0, (centre - spread) / scale), 6), round((centre + spread) / scale, 6))


def learner_logits(original: Original, photos: Sequence[Path]) -> Array:
    """The Learner's own logits, [photos, classes], with all that fastai does to a photo."""
    learn = original.learn
    original.model  # noqa: B018  evaluation mode, CPU, single precision
    loader = learn.dls.test_dl(list(photos), bs=16, num_workers=0)
    with learn.no_bar(), learn.no_logging():
        logits, _ = learn.get_preds(dl=loader, act=lambda x: x)
    return np.asarray(logits, dtype=np.float64)


def file_answers(classifier: Classifier, photos: Iterable[Path]) -> tuple[Array, Array]:
    """The model file's probabilities and logits, [photos, classes] each, one photo at a time as on a device."""
    answers = [classifier.run(classifier.pixels(photo)[np.newaxis]) for photo in photos]
    probabilities, logits = (np.concatenate(part).astype(np.float64) for part in zip(*answers, strict=True))
    return probabilities, logits


def compare(
    reference: Array,
    probabilities: Array,
    logits: Array,
    photos: Sequence[Path],
    labels: Sequence[str],
    truth: Sequence[int | None] | None = None,
) -> Parity:
    """Compare a file's answers with the Learner's logits ``reference``; all are [photos, classes]."""
    if not len(photos):
        raise ExportError("photos: none to compare on (give a folder with --photos)")
    expected = softmax(reference)
    moved, logit_moved = np.abs(probabilities - expected), np.abs(logits - reference)
    before, after = expected.argmax(1), probabilities.argmax(1)
    margins = np.sort(expected, 1)[:, -1] - np.sort(expected, 1)[:, -2]
    names = photo_names(photos)

    def told(i: int) -> dict[str, Any]:
        return {
            "photo": names[i],
            "learner": labels[before[i]],
            "file": labels[after[i]],
            "margin": float(margins[i]),
            "moved": float(moved[i].max()),
        }

    return Parity(
        photos=len(photos),
        probability_max=float(moved.max()),
        probability_p99=float(np.percentile(moved.max(1), 99)),
        probability_mean=float(moved.mean()),
        logit_max=float(logit_moved.max()),
        logit_p99=float(np.percentile(logit_moved.max(1), 99)),
        logit_mean=float(logit_moved.mean()),
        flips=[told(int(i)) for i in np.flatnonzero(before != after)],
        furthest=[told(int(i)) for i in np.argsort(-moved.max(1), kind="stable")[:8]],
        **_judge(before, after, truth),
    )


def photo_names(photos: Sequence[Path]) -> list[str]:
    """Each photo's file name; where two have the same, the whole path."""
    times = Counter(photo.name for photo in photos)
    return [photo.name if times[photo.name] == 1 else str(photo) for photo in photos]


def _judge(before: NDArray[np.intp], after: NDArray[np.intp], truth: Sequence[int | None] | None) -> dict[str, int]:
    known = [(b, a, t) for b, a, t in zip(before, after, truth or (), strict=bool(truth)) if t is not None]
    if not known:
        return {}
    return {
        "judged": len(known),
        "errors": sum(int(a != t) for _, a, t in known),
        "original_errors": sum(int(b != t) for b, _, t in known),
    }


def softmax(logits: Array) -> Array:
    """Probabilities of logits, [photos, classes]."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def table(parities: dict[str, Parity]) -> Iterator[str]:
    """The comparison for people, a line a precision."""
    columns = (("max |Δp|", 11), ("p99 |Δp|", 11), ("mean |Δp|", 11), ("max |Δlogit|", 14), ("flips", 8), ("errors", 9))
    yield " " * 6 + "".join(f"{name:>{width}}" for name, width in columns) + "  Learner's   of photos"
    for precision, parity in parities.items():
        errors, original = ("–" if count is None else str(count) for count in (parity.errors, parity.original_errors))
        yield (
            f"{precision:6}{parity.probability_max:11.2e}{parity.probability_p99:11.2e}{parity.probability_mean:11.2e}"
            f"{parity.logit_max:14.2e}{len(parity.flips):8}{errors:>9}{original:>11}{parity.photos:12}"
        )
