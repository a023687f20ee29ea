"""Which photos take part: spread over the folder, and of the sizes that the questions name."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

SMALL = (500, 375)  # px; the commonest size in Oxford-IIIT Pets
CAMERA_MEGAPIXELS = 12


def photos_below(folder: Path) -> list[Path]:
    """All JPEGs of a folder, in the order of their names."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise FileNotFoundError(f"{folder}: no JPEGs (give another folder)")
    return found


def spread(photos: Sequence[Path], number: int) -> list[Path]:
    """So many of the photos, at equal distances: of a sorted folder, a share of each breed."""
    number = min(number, len(photos))
    return [photos[i * len(photos) // number] for i in range(number)]


def small_photos(photos: Sequence[Path], number: int) -> list[Path]:
    """Photos of 500 x 375 px, or of the sizes nearest to that."""

    def distance(photo: Path) -> int:
        width, height = Image.open(photo).size
        return abs(width - SMALL[0]) + abs(height - SMALL[1])

    nearest = sorted(photos, key=distance)
    return spread([photo for photo in nearest if distance(photo) == 0] or nearest[:number], number)


def camera_photos(photos: Path, number: int) -> list[bytes]:
    """The JPEGs of the folder ``camera`` beside the photos that are nearest to 12 megapixels; without it, one enlarged."""
    folder = photos.parent / "camera"
    if not folder.is_dir():
        return [enlarged(photos_below(photos)[0])]

    def distance(photo: Path) -> float:
        width, height = Image.open(photo).size
        return abs(width * height / 1e6 - CAMERA_MEGAPIXELS)

    return [photo.read_bytes() for photo in sorted(photos_below(folder), key=distance)[:number]]


def enlarged(photo: Path, longer: int = 4000) -> bytes:
    """The photo as a camera would have stored it: a JPEG whose longer side has so many px."""
    with Image.open(photo) as image:
        rgb = image.convert("RGB")
    scale = longer / max(rgb.size)
    file = io.BytesIO()
    size = (round(rgb.width * scale), round(rgb.height * scale))
    rgb.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()
