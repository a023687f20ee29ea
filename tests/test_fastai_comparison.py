"""Equal to the original: petinfer's pixels and answers beside fastai's own, on the same photos."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fastai.vision.all import Learner, PILImage, load_learner
from fastai.vision.all import Resize as FastaiResize
from numpy.typing import NDArray
from PIL import Image

import export.learner
from petinfer import Classifier
from petinfer.image import pixels
from petinfer.spec import Resize

SQUARE = Resize(224, 224)
TRAP_WIDTHS = [w for w in range(1, 6001) if int((w / 224) * 224) != w]


def fastai_pixels(photo: object, resize: FastaiResize | None = None) -> NDArray[np.uint8]:
    """What fastai's validation makes of a photo, up to the tensor."""
    return np.asarray((resize or FastaiResize(224))(PILImage.create(photo), split_idx=1))


def test_the_widths_where_the_floating_point_expression_matters_are_known() -> None:
    assert (len(TRAP_WIDTHS), TRAP_WIDTHS[:5]) == (143, [61, 115, 122, 230, 237])


def test_pixels_equal_fastais_at_every_width_where_the_crop_is_a_pixel_off() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6007, 6000, 3), np.uint8))
    for width in TRAP_WIDTHS:
        for size in ((width, width + 7), (width, 3 * width)):
            if size[1] <= noise.height:
                photo = noise.crop((0, 0, *size))
                assert np.array_equal(pixels(photo, SQUARE, "stored"), fastai_pixels(photo)), size


def test_pixels_equal_fastais_on_every_photo_and_without_fastai_in_the_process(pets: Path) -> None:
    photos = sorted((pets / "test").glob("*.jpg"))
    expected = [hashlib.sha256(fastai_pixels(photo).tobytes()).hexdigest() for photo in photos]
    beside = [hashlib.sha256(pixels(photo, SQUARE, "stored").tobytes()).hexdigest() for photo in photos]
    assert beside == expected
    code = """
import hashlib, sys
from pathlib import Path
from petinfer import Classifier
look = Classifier(orientation="stored").pixels
for photo in sorted(Path(sys.argv[1]).glob("*.jpg")):
    print(hashlib.sha256(look(photo).tobytes()).hexdigest())
assert "fastai" not in sys.modules and "torch" not in sys.modules
"""
    alone = subprocess.run([sys.executable, "-c", code, pets / "test"], capture_output=True, text=True, check=True)
    assert alone.stdout.split() == expected


def test_a_lying_photo_is_stored_as_fastai_sees_it(lying_photo: Path) -> None:
    assert np.array_equal(pixels(lying_photo, SQUARE, "stored"), fastai_pixels(lying_photo))
    assert not np.array_equal(pixels(lying_photo, SQUARE, "upright"), fastai_pixels(lying_photo))


def test_the_file_answers_what_learn_predict_answers(exported: Path, tiny_learner: Path, drawn_photos: Path) -> None:
    learn: Learner = load_learner(tiny_learner, pickle_module=export.learner._Pickle)
    classifier = Classifier(exported / "model-fp32.onnx", orientation="stored")
    with learn.no_bar():
        for photo in sorted(drawn_photos.rglob("*.png")):
            category, _, probabilities = learn.predict(photo)
            found = classifier.predict(photo)
            assert found.label == str(category)
            by_label = [found.probabilities[str(label)] for label in learn.dls.vocab]
            assert by_label == pytest.approx(probabilities.tolist(), abs=1e-5)


def test_the_export_reports_the_distance(exported: Path) -> None:
    parity = json.loads((exported / "parity.json").read_text())["fp32"]
    assert parity["probability_max"] <= 1e-5
    assert parity["flips"] == []
    assert (
        Classifier(exported / "model-fp32.onnx").spec.parity["max_probability_difference"] == parity["probability_max"]
    )


def test_int8_stays_close(exported: Path) -> None:
    parity = json.loads((exported / "parity.json").read_text())["int8"]
    assert parity["probability_mean"] < 0.05
