"""Mutated photos of every format and mode: pixels or a PhotoError, in bounded time and memory."""

from __future__ import annotations

import base64
import warnings

import numpy as np
import pytest

from .mutations import mutate
from .one_photo import read_photo
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
