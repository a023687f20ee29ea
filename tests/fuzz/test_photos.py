"""Mutated photos of every format and mode: pixels or a PhotoError, in bounded time and memory."""

from __future__ import annotations

import base64
import io
import warnings

import numpy as np
import pytest
from PIL import Image

from petinfer.image import fit, read
from petinfer.spec import Resize

from .mutations import mutate
from .one_photo import peak_bytes, read_photo
from .seeds import seeds

SEEDS = seeds()
MUTATIONS = 30  # of each seed, 2,000 in all; photos.py tries 100,000 and more


@pytest.mark.parametrize("name", SEEDS)
def test_a_mutated_photo_gives_pixels_or_a_photo_error(name: str) -> None:
    random = np.random.default_rng(sum(name.encode()))
    others = list(SEEDS.values())
    for _ in range(MUTATIONS):
        data = mutate(SEEDS[name], others[random.integers(len(others))], random)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about odd photos
            try:
                read_photo(data)
            except Exception as error:
                raise AssertionError(f"{type(error).__name__}: {error}: {base64.b64encode(data).decode()}") from error


def test_the_seeds_are_photos() -> None:
    """But for some that cannot be padded, have no grey in Pillow, or that an older Pillow writes and cannot read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        errors = [read_photo(data).error for data in SEEDS.values()]
    assert errors.count("") >= 60


@pytest.mark.parametrize(
    ("form", "size", "most"), [("GIF", (1, 11_521), 700e6), ("JPEG", (11_500, 5_700), 1_000e6)], ids=["narrow", "large"]
)
def test_padding_a_photo_has_its_pixels_once_in_memory(form: str, size: tuple[int, int], most: float) -> None:
    """The first is what a fuzzer found. Pillow holds four bytes a pixel: 530 MB of the padded photo, 260 MB of the second."""
    file = io.BytesIO()
    Image.new("L", size, 99).save(file, form)
    data = file.getvalue()
    assert peak_bytes(lambda: fit(read(data, "upright"), Resize(224, 224, "pad"), "photo")) < most
