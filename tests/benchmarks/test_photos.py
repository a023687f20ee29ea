"""The choice of photos."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.photos import camera_photos, evenly_spaced, photos_below, small_photos


def save(folder: Path, name: str, size: tuple[int, int]) -> Path:
    Image.new("RGB", size).save(folder / name)
    return folder / name


def test_evenly_spaced_photos_begin_with_the_first() -> None:
    photos = [Path(str(i)) for i in range(10)]
    assert evenly_spaced(photos, 4) == [Path("0"), Path("2"), Path("5"), Path("7")]
    assert evenly_spaced(photos, 99) == photos


def test_small_photos_have_exactly_500_x_375_px_if_there_are_any(tmp_path: Path) -> None:
    save(tmp_path, "a.jpg", (400, 300))
    expected = save(tmp_path, "b.jpg", (500, 375))
    assert small_photos(photos_below(tmp_path), 2) == [expected]


def test_without_a_camera_folder_one_photo_is_enlarged(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    save(tmp_path / "photos", "a.jpg", (40, 30))
    (photo,) = camera_photos(tmp_path / "photos", 4)
    with Image.open(io.BytesIO(photo)) as image:
        assert image.size == (4000, 3000)


def test_a_folder_without_jpegs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no JPEGs"):
        photos_below(tmp_path)
