"""docs/model-file.md: its Python gives the same bytes as petinfer, and its tables list the fields that petinfer reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps

import petinfer
from petinfer import image as petinfer_image
from petinfer.spec import (
    CHANNELS,
    METHODS,
    ORIENTATIONS,
    PADDINGS,
    PRECISIONS,
    RESAMPLES,
    Familiarity,
    Golden,
    Resize,
    Spec,
)

PAGE = (Path(__file__).parents[2] / "docs" / "model-file.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The functions that the page defines, in the order of passes of the Pillow installed here."""
    names: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.S)), names)
    version = tuple(int(part) for part in PIL.__version__.split(".")[:2])
    if version < (12, 2):
        names["height_first"] = lambda w, h, width, height: False
    elif version < (13, 0):
        names["height_first"] = lambda w, h, width, height: h > 100 * w and height < h
    return names


def random_photo(random: np.random.Generator, longest: int = 400) -> np.ndarray:
    """Noise, with hard edges: the worst case for rounding and clipping."""
    height, width = random.integers(1, longest, 2)
    noise = random.integers(0, 256, (height, width, 3), np.uint8)
    return np.where(random.random((height, width, 1)) < 0.3, noise // 128 * 255, noise).astype(np.uint8)


@pytest.mark.parametrize("resample", RESAMPLES)
def test_the_pages_resize_gives_pillows_bytes(page: dict[str, Any], resample: str) -> None:
    random = np.random.default_rng(0)
    for _ in range(12):
        photo = random_photo(random)
        width, height = (int(side) for side in random.integers(1, 260, 2))
        expected = Image.fromarray(photo).resize((width, height), Image.Resampling[resample.upper()])
        assert np.array_equal(page["resize"](photo, width, height, resample), np.asarray(expected)), photo.shape


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_the_pages_preprocessing_gives_petinfers_bytes(page: dict[str, Any], method: str, padding: str) -> None:
    random = np.random.default_rng(1)
    for width, height in ((224, 224), (97, 160)):
        for _ in range(4):
            photo = random_photo(random)
            mine = page["resize"](page["cut"](photo, width, height, method, padding), width, height, "bilinear")
            expected = petinfer_image.resize(Image.fromarray(photo), Resize(height, width, method, padding))
            assert np.array_equal(mine, np.asarray(expected)), (photo.shape, width, height)


@pytest.mark.parametrize("method", METHODS)
def test_the_pages_grey_preprocessing_gives_petinfers_bytes(page: dict[str, Any], method: str) -> None:
    random = np.random.default_rng(2)
    for _ in range(4):
        photo = random_photo(random)
        mine = page["resize"](page["cut"](page["grey"](photo), 97, 160, method, "reflection"), 97, 160, "bilinear")
        expected = petinfer_image.pixels(photo, Resize(160, 97, method, "reflection"), "stored", "L")
        assert np.array_equal(mine, expected), photo.shape


def test_the_pages_window_is_petinfers_at_every_width(page: dict[str, Any]) -> None:
    for side in range(1, 1500):
        left, top, across, down = page["window"](side, 2000, 224, 224, "crop")
        cropped = Image.new("1", (side, 2000)).crop((left, top, left + across, top + down))
        assert cropped.size == (int(side / 224 * 224),) * 2
    assert page["window"](115, 173, 224, 224, "crop")[2:] == (114, 114)


@pytest.mark.parametrize("value", range(1, 9))
def test_the_pages_turns_are_pillows(value: int) -> None:
    turn = re.search(rf"^\| {value} \| .* \| `(.*)` \|$", PAGE, re.M)
    assert turn
    photo = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    upright = Image.fromarray(photo)
    upright.getexif()[0x0112] = value
    assert np.array_equal(eval(turn[1], {"a": photo}), np.asarray(ImageOps.exif_transpose(upright)))


def test_the_pages_digest_is_the_bundled_models(page: dict[str, Any]) -> None:
    classifier = petinfer.Classifier()
    file = classifier.path.read_bytes()
    digest = classifier.spec.sha256
    check: Callable[[bytes, str], bool] = page["is_as_exported"]
    assert check(file, digest)
    assert not check(file[:-1] + bytes([file[-1] ^ 1]), digest)


def test_the_pages_pixels_are_the_bundled_models_golden_ones(page: dict[str, Any]) -> None:
    spec = petinfer.Classifier().spec
    to = spec.resize
    for name in ("cat-115-wide.png", "one-pixel.png", "noise.png"):
        photo = np.asarray(Image.open(Path(petinfer.__file__).parent / "golden" / name).convert("RGB"))
        part = page["cut"](photo, to.width, to.height, to.method, to.padding)
        pixels = page["resize"](part, to.width, to.height, to.resample)
        assert hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest() == spec.golden[name].pixels, name


def rows_below(heading: str) -> set[str]:
    """The first cells of the first table after some words of the page."""
    table = PAGE.split(heading, 1)[1].split("|---|", 1)[1].split("\n\n")[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.M))


def test_every_field_of_the_description_is_on_the_page() -> None:
    assert rows_below("## Metadata") == {"schema", *(each.name for each in fields(Spec))}
    assert rows_below("`familiarity` has these") == {each.name for each in fields(Familiarity)}
    assert rows_below("`resize` has exactly") == {"size", "method", "padding", "resample"}
    assert rows_below("## Golden answers") == {each.name for each in fields(Golden)}


@pytest.mark.parametrize("value", [*METHODS, *PADDINGS, *RESAMPLES, *ORIENTATIONS, *PRECISIONS, *CHANNELS])
def test_every_allowed_value_is_on_the_page(value: str) -> None:
    assert f"`{value}`" in PAGE
