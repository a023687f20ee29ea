"""What a photo shows, by its name or its folder: the ways that ``python -m train --labels`` knows, in the words of a model."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

TRUTHS: dict[str, Callable[[Path], str]] = {
    "species": lambda photo: "cat" if photo.name[0].isupper() else "dog",
    "breed": lambda photo: re.sub(r"_\d+\.\w+$", "", photo.name),
    "folder": lambda photo: photo.parent.name,
}


def true_classes(photos: list[Path], truth: str, labels: tuple[str, ...]) -> list[int | None]:
    """The index of each photo's label, None where the model has no such label (``Cat_00017.jpg`` tells no breed)."""
    index = {label: i for i, label in enumerate(labels)}
    return [index.get(TRUTHS[truth](photo)) for photo in photos]
