"""What a limit on familiarity leaves unanswered: photos of the classes, errors, and photos of other things."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petinfer.spec import Familiarity

from ..onnx_file.familiarity import Measure
from .compare import Array, wilson_interval

_SHARES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_SHOWN = (0.9, 0.95, 0.99)
_STEP = 1e-4  # limits are rounded down to it: another processor's rounding must not exclude the photo at the limit


@dataclass(frozen=True)
class Measured:
    """Familiarity of photos that nothing was fitted on."""

    familiarity: Array
    """Of photos of the classes, [photos]."""
    wrong: NDArray[np.bool_] | None = None
    """Whether each one's decision is wrong, where the labels are known."""
    others: Array | None = None
    """Of photos of none of the classes, [photos]."""


def wrong_decisions(probabilities: Array, truth: Sequence[int | None] | None) -> NDArray[np.bool_] | None:
    """Whether each decision, [photos, classes], is wrong; None unless every photo's class is known."""
    if truth is None or None in truth:
        return None
    return np.asarray(probabilities.argmax(1) != np.array(truth))


def describe(measured: Measured, measure: Measure) -> Familiarity:
    """The description for the model file, whose measure is ``measure``."""
    limits = dict(coverage(measured.familiarity))
    rows = tuple(_row(limits[share], measured) for share in _SHOWN if share in limits)
    return Familiarity(measure.photos, len(measured.familiarity), tuple(limits.items()), rows, measure.others)


def coverage(familiarity: Array) -> tuple[tuple[float, float], ...]:
    """Shares, and the familiarity that a new photo reaches with at least that probability (split conformal prediction).

    Of n exchangeable photos, the k-th smallest value has at least the share 1 - k / (n + 1) of new ones at or above it.
    """
    ranked = np.sort(familiarity)
    places = {share: int((len(ranked) + 1) * (1 - share) + 1e-9) for share in _SHARES}
    return tuple((share, round(math.floor(ranked[k - 1] / _STEP) * _STEP, 4)) for share, k in places.items() if k >= 1)


def _row(limit: float, measured: Measured) -> dict[str, Any]:
    """Counts, with 95 % intervals of their shares."""
    answered = measured.familiarity >= limit
    row: dict[str, Any] = {"min_familiarity": limit, "answered": _share(answered)}
    if measured.wrong is not None and answered.any():
        row["errors_among_answered"] = _share(measured.wrong[answered])
    if measured.others is not None:
        row["others_answered"] = _share(measured.others >= limit)
    return row


def _share(chosen: NDArray[np.bool_]) -> dict[str, Any]:
    count, photos = int(chosen.sum()), len(chosen)
    interval = list(wilson_interval(count, photos))
    return {"count": count, "photos": photos, "share": round(count / photos, 6), "interval": interval}
