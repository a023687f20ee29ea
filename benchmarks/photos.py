"""Chooses the photos: evenly spaced over the folder, and of the sizes that the questions ask for."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

SMALL = (500, 375)  # px; the most common size in Oxford-IIIT Pets
CAMERA_MEGAPIXELS = 12


def photos_below(folder: Path) -> list[Path]:
    """All JPEGs below a folder, sorted by path."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise FileNotFoundError(f"{folder}: no JPEGs (choose another folder)")
    return found


def evenly_spaced(photos: Sequence[Path], number: int) -> list[Path]:
    """At most ``number`` of the photos at equal distances: in a sorted folder, a share of each breed."""
    number = min(number, len(photos))
    return [photos[i * len(photos) // number] for i in range(number)]


def small_photos(photos: Sequence[Path], number: int) -> list[Path]:
    """Photos of 500 x 375 px, or of the nearest sizes."""

    def distance(photo: Path) -> int:
        with Image.open(photo) as image:
            width, height = image.size
        return abs(width - SMALL[0]) + abs(height - SMALL[1])

    distances = {photo: distance(photo) for photo in photos}
    nearest = sorted(photos, key=distances.__getitem__)
    return evenly_spaced([photo for photo in nearest if distances[photo] == 0] or nearest[:number], number)


def camera_photos(photos: Path, number: int) -> list[bytes]:
    """The JPEGs nearest to 12 megapixels in the folder ``camera`` next to ``photos``; without it, one enlarged photo."""
    folder = photos.parent / "camera"
    if not folder.is_dir():
        return [enlarged(photos_below(photos)[0])]

    def distance(photo: Path) -> float:
        with Image.open(photo) as image:
            width, height = image.size
        return abs(width * height / 1e6 - CAMERA_MEGAPIXELS)

    return [photo.read_bytes() for photo in sorted(photos_below(folder), key=distance)[:number]]


def enlarged(photo: Path, longer: int = 4000) -> bytes:
    """The photo as a JPEG whose longer side has ``longer`` px, as a camera would store it."""
    with Image.open(photo) as image:
        rgb = image.convert("RGB")
    scale = longer / max(rgb.size)
    file = io.BytesIO()
    size = (round(rgb.width * scale), round(rgb.height * scale))
    rgb.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()
