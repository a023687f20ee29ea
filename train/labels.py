"""Where a photo's label comes from: its file name (species or breed), or the name of its folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastai.vision.all import parent_label, using_attr

_BREED = re.compile(r"(.+)_\d+\.\w+")
_NOT_A_BREED = {"Cat", "dog", ""}


def is_cat(name: str) -> bool:
    """Whether a file of Oxford-IIIT Pets shows a cat: the names of cat breeds begin with a capital letter."""
    return name[0].isupper()


def breed(name: str) -> str:
    """The breed in a file name of Oxford-IIIT Pets: ``Maine_Coon`` for ``Maine_Coon_12.jpg``; empty if there is none."""
    match = _BREED.fullmatch(name)
    return match[1] if match else ""


def has_breed(photo: Path) -> bool:
    """Whether the photo's name contains a breed. ``Cat_00017.jpg`` and ``dog_00017.jpg`` do not."""
    return breed(photo.name) not in _NOT_A_BREED


@dataclass(frozen=True)
class Labelling:
    """One way to label photos."""

    label: Callable[[Path], Any]
    """The label of a photo, from its path."""
    applies: Callable[[Path], bool]
    """Whether this photo can be labelled this way."""
    words: dict[Any, str]
    """What a device prints for a label, where that is not the label itself."""

    def word(self, category: Any) -> str:
        """What a device prints for a category of the Learner's vocab."""
        return self.words.get(category, str(category))


def _always(photo: Path) -> bool:
    return True


LABELLINGS = {
    "species": Labelling(using_attr(is_cat, "name"), _always, {False: "dog", True: "cat"}),
    "breed": Labelling(using_attr(breed, "name"), has_breed, {}),
    "folder": Labelling(parent_label, _always, {}),
}
