"""Photos: which files of a folder are photos, which can be decoded, and fastai's DataLoaders of a split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    ImageBlock,
    ImageDataLoaders,
    IndexSplitter,
    RandomResizedCrop,
    Resize,
    URLs,
    aug_transforms,
    untar_data,
    verify_images,
)

from .errors import TrainingError
from .labels import LABELLINGS
from .recipe import Recipe
from .split import Split, require_photos

# The rule of petinfer/folder.py, which this stage may not import; a test compares the two.
SUFFIXES = frozenset(
    f".{suffix}"
    for group in (
        "jpg jpeg jpe jfif mpo",
        "png apng webp",
        "bmp dib gif",
        "tif tiff",
        "ppm pgm pbm pnm pfm",
        "avif avifs",
    )
    for suffix in group.split()
)
SYSTEM_NAMES = frozenset({"@eadir", "#recycle", "$recycle.bin", "system volume information", "__macosx", "lost+found"})


def fetch_pets() -> Path:
    """fastai's ``untar_data(URLs.PETS)``: the folder of the Oxford-IIIT Pets photos, downloaded on first use."""
    try:
        return Path(untar_data(URLs.PETS)) / "images"
    except Exception as error:  # from urllib, requests or tarfile
        raise TrainingError(f"{URLs.PETS}: download failed: {error} (give a folder of photos with --data)") from error


def photo_files(folder: Path) -> list[Path]:
    """All photos below ``folder``, sorted.

    Hidden and system files and folders are skipped. Links to folders are followed, each folder once.

    Raises:
        TrainingError: there is no such folder, or it cannot be listed.
    """
    if not folder.is_dir():
        raise TrainingError(f"{folder}: no such folder (give a folder of photos)")
    found: list[Path] = []
    try:
        _search(folder, found, set())
    except OSError as error:
        raise TrainingError(
            f"{error.filename or folder}: cannot be listed: {error.strerror} (check its permissions)"
        ) from error
    return sorted(found)


def _search(folder: Path, found: list[Path], visited: set[tuple[int, int]]) -> None:
    here = folder.stat()
    if (here.st_dev, here.st_ino) in visited:
        return
    visited.add((here.st_dev, here.st_ino))
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES:
            continue
        if entry.is_dir():
            _search(entry, found, visited)
        elif entry.suffix.lower() in SUFFIXES and (entry.is_file() or entry.is_symlink()):
            found.append(entry)


def find_photos(folder: Path, labels: str, limit: int | None = None) -> list[Path]:
    """The photos below ``folder`` that ``labels`` can label, sorted.

    Args:
        folder: searched with its subfolders, see `photo_files`.
        labels: a name of `LABELLINGS`.
        limit: take this many, evenly spaced over the list, for a quick trial.

    Raises:
        TrainingError: there is no such folder, or no photo in it.
    """
    labelling = LABELLINGS[labels]
    photos = [photo for photo in photo_files(folder) if labelling.applies(photo)]
    if not photos:
        raise TrainingError(f"{folder}: no photos that --labels {labels} can label (give another folder)")
    return evenly_spaced(photos, limit)


def evenly_spaced(photos: list[Path], limit: int | None) -> list[Path]:
    """``limit`` of the photos, evenly spaced over the list; all of them for None."""
    if limit is None or limit >= len(photos):
        return photos
    return [photos[i * len(photos) // limit] for i in range(limit)]


def common_folder(folders: Sequence[Path]) -> Path:
    """The folder that photo names are relative to: the folder itself, or what several folders have in common.

    Raises:
        TrainingError: they have nothing in common, as folders on two Windows drives.
    """
    if len(folders) == 1:
        return folders[0]
    try:
        return Path(os.path.commonpath([folder.resolve() for folder in folders]))
    except ValueError as error:
        raise TrainingError(f"--data: {folders[0]} and {folders[1]} are on different drives (use one drive)") from error


def require_two_labels(photos: Sequence[Path], labels: str, folder: Path) -> None:
    """Refuse to train on photos that all have the same label."""
    labelling = LABELLINGS[labels]
    found = {labelling.label(photo) for photo in photos}
    if len(found) == 1:
        word = labelling.word(found.pop())
        raise TrainingError(f"{folder}: all {len(photos)} photos have one label, {word!r} (training needs two)")


def find_broken(photos: Sequence[Path]) -> list[Path]:
    """The photos that cannot be decoded, by fastai's ``verify_images``."""
    return [Path(photo) for photo in verify_images(photos)]


def dataloaders(folder: Path, split: Split, recipe: Recipe) -> ImageDataLoaders:
    """The lesson's ``ImageDataLoaders.from_name_func``, on a given split.

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
    """The lesson's ``Resize``; with ``min_scale`` below 1, random crops in training and ``Resize`` in validation."""
    resize = Resize(recipe.size)
    if recipe.min_scale >= 1:
        return [resize]
    crop = RandomResizedCrop(recipe.train_size or recipe.size, min_scale=recipe.min_scale)
    crop.split_idx, resize.split_idx = 0, 1
    return [crop, resize]
