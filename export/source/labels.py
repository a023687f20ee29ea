"""A photo's label, read off its name or folder as ``python -m train --labels`` does, in the model's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

LABELLINGS: dict[str, Callable[[Path], str]] = {
    "species": lambda photo: "cat" if photo.name[0].isupper() else "dog",
    "breed": lambda photo: re.sub(r"_\d+\.\w+$", "", photo.name),
    "folder": lambda photo: photo.parent.name,
}


def true_classes(photos: Sequence[Path], labelling: str, labels: Sequence[str]) -> list[int | None]:
    """The index of each photo's label; None where the model has no such label (``Cat_00017.jpg`` names no breed)."""
    index = {label: i for i, label in enumerate(labels)}
    return [index.get(LABELLINGS[labelling](photo)) for photo in photos]
