"""Equal to the original: petinfer's pixels are fastai's, on the same photos."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from petinfer.image import pixels
from petinfer.spec import Resize

fastai = pytest.importorskip("fastai.vision.all")

SQUARE = Resize(224, 224)
TRAP_WIDTHS = [w for w in range(1, 6001) if int((w / 224) * 224) != w]


def fastai_pixels(photo: object, resize: Any = None) -> NDArray[np.uint8]:
    """What fastai's validation makes of a photo, up to the tensor."""
    return np.asarray((resize or fastai.Resize(224))(fastai.PILImage.create(photo), split_idx=1))


def test_the_crop_differs_from_the_minimum_at_143_widths() -> None:
    assert (len(TRAP_WIDTHS), TRAP_WIDTHS[:5]) == (143, [61, 115, 122, 230, 237])


def test_pixels_equal_fastais_at_the_widths_where_the_crop_differs() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6007, 6000, 3), np.uint8))
    for width in TRAP_WIDTHS:
        for size in ((width, width + 7), (width, 3 * width)):
            if size[1] <= noise.height:
                photo = noise.crop((0, 0, *size))
                assert np.array_equal(pixels(photo, SQUARE, "stored"), fastai_pixels(photo)), size


def test_pixels_equal_fastais_on_every_photo_also_without_fastai(pets: Path) -> None:
    photos = sorted((pets / "test").glob("*.jpg"))
    expected = [hashlib.sha256(fastai_pixels(photo).tobytes()).hexdigest() for photo in photos]
    here = [hashlib.sha256(pixels(photo, SQUARE, "stored").tobytes()).hexdigest() for photo in photos]
    assert here == expected
    code = """
import hashlib, sys
from pathlib import Path
from typing import Any
from petinfer import Classifier
look = Classifier(orientation="stored").pixels
for photo in sorted(Path(sys.argv[1]).glob("*.jpg")):
    print(hashlib.sha256(look(photo).tobytes()).hexdigest())
assert "fastai" not in sys.modules and "torch" not in sys.modules
"""
    alone = subprocess.run(
        [sys.executable, "-c", code, pets / "test"], capture_output=True, timeout=120, text=True, check=True
    )
    assert alone.stdout.split() == expected


def test_stored_pixels_of_a_turned_photo_are_fastais(lying_photo: Path) -> None:
    assert np.array_equal(pixels(lying_photo, SQUARE, "stored"), fastai_pixels(lying_photo))
    assert not np.array_equal(pixels(lying_photo, SQUARE, "upright"), fastai_pixels(lying_photo))
