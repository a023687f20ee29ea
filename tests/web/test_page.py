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

import numpy as np
import pytest

from petinfer import Classifier
from petinfer import image as petinfer_image
from petinfer.spec import Golden, Resize, Spec

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


def build(model: Path, folder: Path) -> None:
    """Build the page with a model file, in a folder of its own."""
    if not (WEB / "node_modules" / "playwright-core").is_dir() or shutil.which("node") is None:
        pytest.skip("needs node, and docs/web/node_modules: run npm ci in docs/web")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    command = ["node", WEB / "build.mjs", model, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def drive(script: str, *arguments: object) -> dict[str, Any]:
    """What a script beside this file saw in Chromium."""
    command = ["node", Path(__file__).with_name(script), *map(str, arguments)]
    environment = os.environ | {"CHROMIUM": str(CHROMIUM)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.fixture(scope="module")
def page(stored_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page showed, step by step: see drive_page.mjs."""
    folder = tmp_path_factory.mktemp("page")
    build(Classifier().path, folder / "site")
    return drive(
        "drive_page.mjs", folder / "site", os.environ.get("PETINFER_SCREENSHOTS", folder), stored_model, *PHOTOS
    )


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


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of one convolution, in fp32, with golden answers: software computes WebGPU a thousand times slower."""
    onnx = pytest.importorskip("onnx", reason="another model file is made here")
    from export.onnx_file.seal import seal

    random = np.random.default_rng(0)
    weights = {
        "scale": np.float32(1 / 255),
        "kernels": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "rows": random.normal(size=(4, 3)).astype(np.float32),
    }
    model = onnx.parser.parse_model(NETWORK)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    spec = Spec(("ant", "bee", "cat"), Resize(48, 48))
    seal(model, spec, path)
    classifier = Classifier(path)
    seal(model, replace(spec, golden={photo.name: golden(classifier, photo) for photo in PHOTOS}), path)
    return path


NETWORK = """
<ir_version: 10, opset_import: ["" : 18]>
small (uint8[batch, 48, 48, 3] image) => (float[batch, 3] probabilities, float[batch, 3] logits) {
    numbers = Cast <to = 1> (image)
    scaled = Mul (numbers, scale)
    pixels = Transpose <perm = [0, 3, 1, 2]> (scaled)
    maps = Conv (pixels, kernels)
    kept = Relu (maps)
    pooled = GlobalAveragePool (kept)
    features = Flatten (pooled)
    logits = MatMul (features, rows)
    probabilities = Softmax <axis = 1> (logits)
}
"""


def golden(classifier: Classifier, photo: Path) -> Golden:
    """The answers of a classifier, as if it were the Learner."""
    decoded = petinfer_image.read(photo, "stored")
    pixels = np.asarray(petinfer_image.resize(decoded, classifier.spec.resize))
    found = tuple(float(each) for each in classifier.run(pixels[np.newaxis])[0][0])
    digests = (hashlib.sha256(image.tobytes()).hexdigest() for image in (decoded, pixels))
    return Golden(decoded.size, *digests, found, found)


@pytest.fixture(scope="module")
def webgpu(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page showed on WebGPU: see drive_webgpu.mjs."""
    folder = tmp_path_factory.mktemp("webgpu") / "site"
    build(small_model, folder)
    return drive("drive_webgpu.mjs", folder, *PHOTOS)


def test_webgpu_gives_petinfers_answers(webgpu: dict[str, Any], small_model: Path) -> None:
    classifier = Classifier(small_model)
    assert "Runs onWebGPU" in webgpu["facts"]
    assert webgpu["answers"] == {photo.name: expected(classifier, photo) for photo in PHOTOS}
    assert webgpu["verdict"].startswith("Passed. 4 golden photos: 4 with identical pixels")


def test_a_gpu_computed_by_the_processor_is_not_chosen(webgpu: dict[str, Any]) -> None:
    assert webgpu["auto"] == "wasm"
