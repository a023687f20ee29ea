"""Photos and labels: which files there are, what each one shows, and which of them training may see."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    ImageBlock,
    ImageDataLoaders,
    IndexSplitter,
    RandomResizedCrop,
    RandomSplitter,
    Resize,
    URLs,
    aug_transforms,
    get_image_files,
    parent_label,
    untar_data,
    using_attr,
    verify_images,
)
from PIL import Image

from .errors import TrainingError
from .recipe import Recipe

_BREED = re.compile(r"(.+)_\d+\.\w+")
_NO_BREED = {"Cat", "dog"}


def is_cat(name: str) -> bool:
    """Whether a file of Oxford-IIIT Pets shows a cat: breeds of cats begin with a capital letter."""
    return name[0].isupper()


def breed(name: str) -> str:
    """The breed in a file name of Oxford-IIIT Pets: ``Maine_Coon_12.jpg`` shows a ``Maine_Coon``."""
    match = _BREED.fullmatch(name)
    return match[1] if match else ""


def has_breed(photo: Path) -> bool:
    """Whether the photo's name tells a breed; ``Cat_00017.jpg`` and ``dog_00017.jpg`` tell none."""
    return breed(photo.name) not in _NO_BREED | {""}


@dataclass(frozen=True)
class Labelling:
    """One way to label photos: the label of a path, the photos it can label, and the words a device prints."""

    label: Callable[[Path], Any]
    applies: Callable[[Path], bool]
    words: dict[Any, str]

    def word(self, category: Any) -> str:
        """What the device prints for a category of the Learner's vocab."""
        return self.words.get(category, str(category))


def _always(photo: Path) -> bool:
    return True


LABELLINGS = {
    "species": Labelling(using_attr(is_cat, "name"), _always, {False: "dog", True: "cat"}),
    "breed": Labelling(using_attr(breed, "name"), has_breed, {}),
    "folder": Labelling(parent_label, _always, {}),
}


def fetch_pets() -> Path:
    """fastai's ``untar_data(URLs.PETS)``: the folder of the Oxford-IIIT Pets photos, fetched when it is not there yet."""
    try:
        return Path(untar_data(URLs.PETS)) / "images"
    except Exception as error:  # urllib's, requests' and the archive's own: all mean that it did not arrive
        raise TrainingError(f"{URLs.PETS}: cannot be fetched: {error} (give a folder of photos with --data)") from error


def find_photos(folder: Path, labels: str, limit: int | None = None) -> list[Path]:
    """The photos below ``folder`` that ``labels`` can label, sorted: fastai's order is the file system's.

    Args:
        folder: searched with its folders, by fastai's ``get_image_files``.
        labels: a name of `LABELLINGS`.
        limit: take this many, spread evenly over the list, for a smoke run.

    Raises:
        TrainingError: no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise TrainingError(f"{folder}: no such folder (give one that holds photos with --data)")
    labelling = LABELLINGS[labels]
    photos = sorted(Path(photo) for photo in get_image_files(folder) if labelling.applies(Path(photo)))
    if limit is not None and limit < len(photos):
        photos = [photos[i * len(photos) // limit] for i in range(limit)]
    if not photos:
        raise TrainingError(f"{folder}: no photos that --labels {labels} can label (give another folder with --data)")
    return photos


def require_two_labels(photos: Sequence[Path], labels: str, folder: Path) -> None:
    """Refuse to train on photos that are all of one class."""
    labelling = LABELLINGS[labels]
    found = {labelling.label(photo) for photo in photos}
    if len(found) == 1:
        word = labelling.word(found.pop())
        raise TrainingError(f"{folder}: all {len(photos)} photos have one label, {word!r} (training needs two)")


def find_broken(photos: Sequence[Path]) -> list[Path]:
    """The photos that cannot be decoded, found by fastai's ``verify_images`` before an epoch trips over them."""
    return [Path(photo) for photo in verify_images(photos)]


@dataclass(frozen=True)
class Split:
    """Which photos are trained on and which validate, relative to the folder that holds them."""

    train: tuple[str, ...]
    valid: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """A hash of both lists: two runs with the same saw the same photos in the same places."""
        return hashlib.sha256(json.dumps([self.train, self.valid]).encode()).hexdigest()

    def without(self, names: Sequence[str]) -> Split:
        """The split less some photos."""
        left_out = set(names)
        train, valid = (tuple(name for name in side if name not in left_out) for side in (self.train, self.valid))
        return Split(train, valid)

    def save(self, path: Path) -> None:
        """Write ``split.json``."""
        path.write_text(json.dumps({"train": self.train, "valid": self.valid}, indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Split:
        """Read a ``split.json`` that a run wrote."""
        try:
            lists = json.loads(path.read_text(encoding="utf-8"))
            return cls(tuple(lists["train"]), tuple(lists["valid"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path}: not a split: {error} (a split.json of a run is one)") from error


def random_split(photos: Sequence[Path], folder: Path, recipe: Recipe) -> Split:
    """The lesson's split: fastai's ``RandomSplitter(valid_pct, seed)`` on the sorted list."""
    train, valid = RandomSplitter(recipe.valid_pct, seed=recipe.seed)(photos)
    if not len(train) or not len(valid):
        raise TrainingError(
            f"{folder}: {len(photos)} photos are too few to split (training and validation need one each)"
        )
    names = [photo.relative_to(folder).as_posix() for photo in photos]
    return Split(tuple(names[i] for i in train), tuple(names[i] for i in valid))


def dataloaders(folder: Path, split: Split, recipe: Recipe) -> ImageDataLoaders:
    """What the lesson's ``ImageDataLoaders.from_name_func`` makes, on a split that is already known.

    Raises:
        TrainingError: a photo of the split is missing in ``folder``.
    """
    photos = [folder / name for name in (*split.train, *split.valid)]
    require_photos(folder, split)
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        splitter=IndexSplitter(range(len(split.train), len(photos))),
        get_y=LABELLINGS[recipe.labels].label,
        item_tfms=_item_tfms(recipe),
        batch_tfms=aug_transforms() if recipe.augment else None,
    )
    return ImageDataLoaders.from_dblock(block, photos, path=folder, bs=recipe.batch_size)


def _item_tfms(recipe: Recipe) -> list[Any]:
    """The lesson's ``Resize``; with ``min_scale``, training sees random crops and validation what a device will see."""
    resize = Resize(recipe.size)
    if recipe.min_scale >= 1:
        return [resize]
    crop = RandomResizedCrop(recipe.train_size or recipe.size, min_scale=recipe.min_scale)
    crop.split_idx, resize.split_idx = 0, 1
    return [crop, resize]


def require_photos(folder: Path, split: Split) -> None:
    """Refuse a split whose photos are not all in ``folder``."""
    missing = [folder / name for name in (*split.train, *split.valid) if not (folder / name).is_file()]
    if missing:
        more = f", with {len(missing) - 1} more" * (len(missing) > 1)
        raise TrainingError(f"{missing[0]}: in the split but not in the folder{more} (another --data or --split)")


def near_duplicates(folder: Path, split: Split, distance: int = 3) -> list[tuple[str, str]]:
    """Pairs of a training and a validation photo that look the same: they flatter the validation error.

    Two photos look the same when their difference hashes (64 bits of which of two neighbours is brighter) differ in at
    most ``distance`` bits.
    """
    train = np.array([_difference_hash(folder / name) for name in split.train], dtype=np.uint64)
    pairs = []
    for name in split.valid:
        bits = np.bitwise_count(train ^ _difference_hash(folder / name))
        pairs += [(split.train[i], name) for i in np.flatnonzero(bits <= distance)]
    return pairs


def _difference_hash(photo: Path) -> np.uint64:
    with Image.open(photo) as image:
        image.draft("L", (72, 64))
        grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX))
    return np.uint64(np.packbits(grey[:, 1:] > grey[:, :-1]).view(np.uint64)[0])
