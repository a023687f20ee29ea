"""The C example, compiled here: petinfer's pixels and answers for PNGs, and one line where it cannot answer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from petinfer import Classifier

from ..conftest import REPOSITORY
from .c.make_header import header

SOURCE = REPOSITORY / "examples" / "c" / "classify.c"
GOLDEN = sorted((REPOSITORY / "petinfer" / "golden").glob("*.png"))
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-std=c11"]


def has_libpng() -> bool:
    command = ["cc", "-E", "-include", "png.h", "-x", "c", os.devnull]
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, compiled against the library inside the Python package onnxruntime."""
    if shutil.which("cc") is None or not has_libpng():
        pytest.skip("needs a C compiler and libpng (apt-get install gcc libpng-dev)")
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    if not libraries:
        pytest.skip("this onnxruntime package holds no libonnxruntime.so")
    folder = tmp_path_factory.mktemp("c")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(libraries[-1])
    include = os.environ.get("ONNXRUNTIME_INCLUDE") or folder
    if include == folder:
        (folder / "onnxruntime_c_api.h").write_text(header(), encoding="utf-8")
    target = folder / "classify"
    links = ["-L", folder, f"-Wl,-rpath,{folder}", "-lpng", "-lonnxruntime", "-lm"]
    command = ["cc", "-O2", *WARNINGS, "-I", include, SOURCE, "-o", target, *links]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(device="cpu")


def run(program: Path, model: Path, photo: Path, pixels: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, model, photo, pixels], capture_output=True, text=True, timeout=120)


def assert_same(program: Path, classifier: Classifier, photo: Path, folder: Path) -> None:
    done = run(program, classifier.path, photo, folder / "pixels")
    assert done.returncode == 0, done.stderr
    expected = classifier.pixels(photo)
    assert (folder / "pixels").read_bytes() == expected.tobytes(), photo.name
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert tuple(label for label, _ in rows) == classifier.spec.labels
    found = np.array([float(probability) for _, probability in rows])
    assert np.abs(found - classifier.run(expected[np.newaxis])[0][0]).max() <= 1e-6


@pytest.mark.parametrize("photo", GOLDEN, ids=[photo.name for photo in GOLDEN])
def test_a_golden_png_gets_petinfers_pixels_and_answer(
    program: Path, classifier: Classifier, photo: Path, tmp_path: Path
) -> None:
    assert_same(program, classifier, photo, tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "RGB", "RGBA"])
def test_every_mode_and_random_sizes_get_petinfers_pixels(
    program: Path, classifier: Classifier, mode: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(len(mode))
    width, height = (int(side) for side in random.integers(1, 700, 2))
    noise = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
    photo = Image.fromarray(np.asarray(noise)[..., 0].astype(np.uint16) * 3) if mode == "I;16" else noise.convert(mode)
    photo.save(tmp_path / "photo.png")
    assert_same(program, classifier, tmp_path / "photo.png", tmp_path)


@pytest.mark.parametrize("value", range(1, 10))
def test_a_png_is_turned_as_its_exif_asks(program: Path, classifier: Classifier, value: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    noise = np.random.default_rng(value).integers(0, 256, (31, 17, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png", exif=exif)
    assert_same(program, classifier, tmp_path / "photo.png", tmp_path)


def test_what_cannot_be_classified_is_refused_in_one_line(
    program: Path, classifier: Classifier, cat_photo: Path, tmp_path: Path
) -> None:
    for model, photo in (
        (classifier.path, cat_photo),
        (classifier.path, tmp_path / "none.png"),
        (cat_photo, GOLDEN[0]),
    ):
        done = run(program, model, photo, tmp_path / "pixels")
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "pixels").exists()
