"""Which photos train and which validate: at random, by source, or as an earlier run saved it."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastai.vision.all import RandomSplitter
from PIL import Image

from .artifacts import file_sha256, write_text
from .errors import TrainingError
from .labels import LABELLINGS
from .recipe import Recipe


@dataclass(frozen=True)
class Split:
    """Which photos train and which validate, relative to the folder of the photos."""

    train: tuple[str, ...]
    valid: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """A hash of both lists, in order."""
        return hashlib.sha256(json.dumps([self.train, self.valid]).encode()).hexdigest()

    def without(self, names: Iterable[str]) -> Split:
        """The split less these photos."""
        left_out = set(names)
        train, valid = (tuple(name for name in side if name not in left_out) for side in (self.train, self.valid))
        return Split(train, valid)

    def save(self, path: Path) -> None:
        """Write ``split.json``."""
        write_text(path, json.dumps({"train": self.train, "valid": self.valid}, indent=0) + "\n")

    @classmethod
    def load(cls, path: Path) -> Split:
        """Read the ``split.json`` of a run."""
        try:
            lists = json.loads(path.read_text(encoding="utf-8"))
            return cls(tuple(lists["train"]), tuple(lists["valid"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path}: not a split: {error} (give the split.json of a run)") from error


def content_sha256(folder: Path, names: Iterable[str]) -> str:
    """One hash of the content of all these files: the SHA-256 of their sorted SHA-256 sums in hex, a line each.

    The files' names and folders do not matter: ``sha256sum FILES | cut -c-64 | sort | sha256sum`` prints it.
    """
    return joint_sha256(file_sha256(folder / name) for name in names)


def joint_sha256(sums: Iterable[str]) -> str:
    """One hash for the files with these SHA-256 sums in hex, in any order; see `content_sha256`."""
    return hashlib.sha256("".join(f"{each}\n" for each in sorted(sums)).encode()).hexdigest()


def random_split(photos: Sequence[Path], folder: Path, recipe: Recipe) -> Split:
    """The lesson's split: fastai's ``RandomSplitter(valid_pct, seed)`` on the sorted list."""
    train, valid = RandomSplitter(recipe.valid_pct, seed=recipe.seed)(photos)
    if not len(train) or not len(valid):
        raise TrainingError(
            f"{folder}: {len(photos)} photos are too few to split (training and validation need one each)"
        )
    names = _relative(photos, folder)
    return Split(tuple(names[i] for i in train), tuple(names[i] for i in valid))


def split_by_source(
    photos: Sequence[Path], folder: Path, source: Callable[[Path], str], held_out: Sequence[str]
) -> Split:
    """A split that validates on all photos of the sources ``held_out`` and trains on all others.

    Raises:
        TrainingError: a source has no photos, or nothing is left to train on.
    """
    by_name = {name: source(photo) for name, photo in zip(_relative(photos, folder), photos, strict=True)}
    for wanted in held_out:
        if wanted not in by_name.values():
            known = ", ".join(sorted(set(by_name.values()))[:8])
            raise TrainingError(f"--hold-out-source {wanted}: no photos of this source (sources: {known})")
    valid = tuple(name for name, found in by_name.items() if found in held_out)
    train = tuple(name for name, found in by_name.items() if found not in held_out)
    if not train:
        raise TrainingError("--hold-out-source: no photos are left to train on (hold out fewer sources)")
    return Split(train, valid)


def _relative(photos: Sequence[Path], folder: Path) -> list[str]:
    return [photo.relative_to(folder).as_posix() for photo in photos]


def labels_without_training(split: Split, labels: str) -> dict[Any, list[str]]:
    """The validation photos of each label that no training photo has, by label."""
    label = LABELLINGS[labels].label
    known = {label(Path(name)) for name in split.train}
    missing: dict[Any, list[str]] = {}
    for name in split.valid:
        if label(Path(name)) not in known:
            missing.setdefault(label(Path(name)), []).append(name)
    return missing


def labels_without_validation(split: Split, labels: str) -> list[Any]:
    """The labels that no validation photo has."""
    label = LABELLINGS[labels].label
    known = {label(Path(name)) for name in split.valid}
    return sorted(Counter(label(Path(name)) for name in split.train).keys() - known)


def with_every_label(split: Split, labels: str) -> Split:
    """The split, with one photo of each label that only validation has moved to training."""
    moved = {names[0] for names in labels_without_training(split, labels).values()}
    return Split(
        (*split.train, *(name for name in split.valid if name in moved)),
        tuple(name for name in split.valid if name not in moved),
    )


def near_duplicates(folder: Path, split: Split, distance: int = 3) -> list[tuple[str, str]]:
    """Pairs of a training and a validation photo that look the same; they make the validation error optimistic.

    Two photos look the same when their difference hashes (64 bits: which of two neighbouring pixels is brighter) differ
    in at most ``distance`` bits.
    """
    train = np.array([_difference_hash(folder / name) for name in split.train], dtype=np.uint64)
    pairs = []
    for name in split.valid:
        bits = bit_count(train ^ _difference_hash(folder / name))
        pairs += [(split.train[i], name) for i in np.flatnonzero(bits <= distance)]
    return pairs


def bit_count(numbers: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many bits of each number are set: ``np.bitwise_count``, which numpy 1.26 lacks."""
    bits = np.unpackbits(np.ascontiguousarray(numbers).view(np.uint8).reshape(len(numbers), 8), axis=1)
    counts: np.ndarray[Any, np.dtype[np.int64]] = bits.sum(axis=1, dtype=np.int64)
    return counts


def _difference_hash(photo: Path) -> np.uint64:
    with Image.open(photo) as image:
        image.draft("L", (72, 64))
        grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX))
    return np.uint64(np.packbits(grey[:, 1:] > grey[:, :-1]).view(np.uint64)[0])


def read_names(path: Path) -> set[str]:
    """The names in a list of photos, one a line; blank lines and ``#`` comments are skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read: {error} (give a text file with one photo a line)") from error
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def leave_out(photos: Sequence[Path], folder: Path, names: set[str]) -> list[Path]:
    """The photos that are not in ``names``: file names, or paths relative to ``folder``."""
    return [p for p in photos if p.name not in names and p.relative_to(folder).as_posix() not in names]


def read_sources(path: Path) -> dict[str, str]:
    """The source of each photo, by file name, from a tab-separated table with columns ``name`` and ``repository``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["name"]: row["repository"] for row in csv.DictReader(file, delimiter="\t")}
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{path}: not a table of sources: {error} (it needs columns name and repository)"
        ) from error


def source_in(table: Path | None) -> Callable[[Path], str]:
    """A function from a photo to its source: the table's entry, see `read_sources`, or the name of the photo's folder."""
    sources = read_sources(table) if table else {}
    return lambda photo: sources.get(photo.name, photo.parent.name)


def require_photos(folder: Path, split: Split) -> None:
    """Refuse a split whose photos are not all in ``folder``."""
    missing = [folder / name for name in (*split.train, *split.valid) if not (folder / name).is_file()]
    if missing:
        more = f", with {len(missing) - 1} more" * (len(missing) > 1)
        raise TrainingError(f"{missing[0]}: in the split but not in the folder{more} (another --data or --split)")
