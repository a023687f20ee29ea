"""The page, built and used in headless Chromium: it answers as petinfer does, offline too, and sends nothing anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from petinfer import Classifier

from ..conftest import REPOSITORY

WEB = REPOSITORY / "docs" / "web"
GOLDEN = REPOSITORY / "petinfer" / "golden"
PHOTOS = [GOLDEN / name for name in ("cat-lying.jpg", "cat-alpha.png", "cat.webp", "noise-16-bit.png")]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def stored_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model, exported with the orientation `stored`."""
    onnx = pytest.importorskip("onnx", reason="another model file is made here")
    from export.onnx_file.seal import seal

    bundled = Classifier()
    path = tmp_path_factory.mktemp("model") / "stored.onnx"
    seal(onnx.load(bundled.path), replace(bundled.spec, orientation="stored"), path)
    return path


@pytest.fixture(scope="module")
def page(stored_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page showed, step by step: see drive_page.mjs."""
    if not (WEB / "node_modules" / "playwright-core").is_dir() or shutil.which("npm") is None:
        pytest.skip("needs npm, and docs/web/node_modules: run npm ci in docs/web")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    subprocess.run(["npm", "run", "build"], cwd=WEB, check=True, capture_output=True, timeout=120)
    folder = os.environ.get("PETINFER_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots")
    command = ["node", REPOSITORY / "tests" / "web" / "drive_page.mjs", folder, stored_model, *PHOTOS]
    environment = os.environ | {"CHROMIUM": CHROMIUM}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def expected(classifier: Classifier, photo: Path) -> dict[str, str]:
    """What the page must show of a photo."""
    prediction = classifier.predict(photo)
    pixels = hashlib.sha256(classifier.pixels(photo).tobytes()).hexdigest()
    return {"label": prediction.label, "probability": f"{100 * prediction.probability:.2f} %", "pixels": pixels}


@pytest.mark.parametrize("photo", PHOTOS, ids=[photo.name for photo in PHOTOS])
def test_the_page_shows_petinfers_pixels_and_answer(page: dict[str, Any], classifier: Classifier, photo: Path) -> None:
    assert page["answers"][photo.name] == expected(classifier, photo)


def test_the_sample_photo_gets_petinfers_answer(page: dict[str, Any], classifier: Classifier, cat_photo: Path) -> None:
    assert page["sample"] == expected(classifier, cat_photo)


def test_all_golden_photos_pass_in_the_browser(page: dict[str, Any]) -> None:
    assert page["verdict"].startswith("Passed. 15 golden photos: 15 with identical pixels")


def test_the_page_works_without_its_server(page: dict[str, Any]) -> None:
    assert page["offline"]["verdict"] == page["verdict"]
    assert page["offline"]["isolated"]  # the service worker's headers, which threads need


def test_the_page_asks_no_other_server_and_may_not(page: dict[str, Any]) -> None:
    assert page["foreign"] == []
    assert page["forbidden"] == "connect-src"


def test_a_dropped_photo_is_classified(page: dict[str, Any], classifier: Classifier) -> None:
    assert page["dropped"] == expected(classifier, GOLDEN / "cat.jpg")


def test_another_model_is_opened_and_its_orientation_respected(page: dict[str, Any], stored_model: Path) -> None:
    shown = page["otherModel"]
    facts = shown.pop("facts")
    assert shown == expected(Classifier(stored_model), PHOTOS[0])
    assert shown["pixels"] != page["answers"][PHOTOS[0].name]["pixels"]
    assert "stored.onnx" in facts
    assert "(as exported)" in facts


def test_the_page_logs_no_error(page: dict[str, Any]) -> None:
    assert page["problems"] == []


def test_the_page_describes_the_model_file(page: dict[str, Any], classifier: Classifier) -> None:
    assert f"{classifier.spec.sha256} (as exported)" in page["facts"]
    assert ", ".join(classifier.spec.labels) in page["facts"]


def test_a_picture_of_the_camera_is_classified(page: dict[str, Any], classifier: Classifier) -> None:
    assert page["camera"]["label"] in classifier.spec.labels


def test_a_damaged_photo_and_a_foreign_model_are_refused(page: dict[str, Any]) -> None:
    assert page["damaged"] == "damaged.jpg: not a photo in a format that this browser can read"
    assert page["notAModel"] == "other.onnx: not an ONNX model, or damaged"


def test_a_phone_shows_the_answer_without_scrolling(
    page: dict[str, Any], classifier: Classifier, cat_photo: Path
) -> None:
    phone = page["phone"]
    assert page["desktop"]["across"] <= 0
    assert {key: phone[key] for key in ("label", "probability", "pixels")} == expected(classifier, cat_photo)
    assert phone["across"] <= 0
    assert phone["answerEnds"] <= phone["height"]


def test_ios_gets_one_thread(page: dict[str, Any]) -> None:
    assert "WebAssembly, 1 threadsha256" in page["phone"]["facts"]  # the next fact's title follows
    assert "WebAssembly, 1 thread" not in page["facts"]
