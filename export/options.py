"""The options of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from petinfer.spec import PRECISIONS

from .errors import ExportError


@dataclass(frozen=True)
class Options:
    """What to export, where to, and what to compare it on."""

    source: Path
    out: Path = Path()
    data: Path | None = None
    """Folder of a run's photos; None means where the run found them."""
    photos: Path | None = None
    """Folder of photos to compare on; None means a run's validation photos."""
    calibrate: Path | None = None
    """Folder of photos to calibrate int8 on; None means a run's training photos, or half of ``photos``."""
    calibration_photos: int = 512
    unfamiliar: Path | None = None
    """Folder of photos of none of the classes, to fit familiarity on; None fits it on training photos alone."""
    others: Path | None = None
    """Folder of photos of none of the classes, to measure how many of them are answered; none may be in ``unfamiliar``."""
    limit: int | None = None
    """Compare on this many photos; None means all."""
    truth: str | None = None
    """How photo names give their labels; None means as the run did."""
    labels: tuple[str, ...] | None = None
    """Words for the classes, in the order of the Learner's vocab."""
    orientation: str = "upright"
    precisions: tuple[str, ...] = PRECISIONS
    allow_worse: bool = False


def parse_labels(text: str | None) -> tuple[str, ...] | None:
    """Split ``dog, cat`` at its commas.

    Raises:
        ExportError: a label is empty or given twice.
    """
    if text is None:
        return None
    labels = tuple(label.strip() for label in text.split(","))
    if "" in labels:
        raise ExportError(f"--labels: {text!r} contains an empty label (give one word per class)")
    for label in labels:
        if labels.count(label) > 1:
            raise ExportError(f"--labels: {label!r} is given twice (give one word per class)")
    return labels
