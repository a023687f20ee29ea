"""The proof of a model file with a threshold: other labels fail, and those that the exported file had too are told."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petinfer import Classifier
from petinfer.image import read
from petinfer.spec import Golden
from petinfer.verify import GOLDEN_PHOTOS, Check, verify

from .several_labels import colours_model
from .test_cli import petinfer

onnx = pytest.importorskip("onnx")

PHOTO = GOLDEN_PHOTOS / "cat.jpg"


def golden_model(path: Path, threshold: float, learner: float, file: float, **changes: Any) -> Path:
    """The model with one golden photo: its own answers, but for those of the Learner and of the exported file for blue.

    Args:
        path: where it is written.
        threshold: the least probability of a label.
        learner: the Learner's answer for blue.
        file: the exported file's answer for blue.
        changes: what the model file says otherwise of the golden photo.
    """
    classifier = Classifier(colours_model(path, threshold), orientation="stored")
    pixels, decoded = classifier.pixels(PHOTO), read(PHOTO, "stored")
    red, green, _ = classifier.run(pixels[np.newaxis])[0][0].tolist()
    digests = [hashlib.sha256(np.ascontiguousarray(each).tobytes()).hexdigest() for each in (decoded, pixels)]
    golden = Golden(decoded.size, digests[0], digests[1], (red, green, learner), (red, green, file))
    golden = replace(golden, **changes)
    spec = replace(classifier.spec, golden={PHOTO.name: golden})
    del classifier
    model = onnx.load(path)
    (entry,) = model.metadata_props
    entry.value = spec.to_json()
    spec = replace(spec, sha256=hashlib.sha256(model.SerializeToString()).hexdigest())
    entry.value = spec.to_json()
    onnx.save(model, path)
    return path


BLUE = 0.29421499  # what the model answers


def check_of(folder: Path, threshold: float, learner: float, file: float) -> tuple[Check, tuple[str, ...]]:
    verdict = verify(Classifier(golden_model(folder / "model.onnx", threshold, learner, file)))
    return verdict.checks[0], verdict.failures


def test_a_file_with_the_learners_labels_is_verified(tmp_path: Path) -> None:
    check, failures = check_of(tmp_path, 0.5, BLUE, BLUE)
    assert (check.flipped, check.as_exported, failures) == (False, False, ())


def test_another_set_of_labels_fails_though_the_most_probable_is_the_same(tmp_path: Path) -> None:
    check, failures = check_of(tmp_path, 0.5, 0.7, 0.7)
    assert (check.flipped, check.as_exported) == (True, False)
    assert failures[-1] == "cat.jpg: the decision is not the Learner's (do not use this file on this device)"


@pytest.mark.parametrize(
    ("over", "learner", "file"),
    [(5e-6, 6e-6, 6e-6), (0.01, 0.02, 0.0), (0.01, 0.02, 5e-6)],
    ids=["rounded here", "rounded where it was exported", "both"],
)
def test_a_label_that_the_file_moved_over_the_threshold_is_told(
    tmp_path: Path, over: float, learner: float, file: float
) -> None:
    check, failures = check_of(tmp_path, BLUE + over, BLUE + learner, BLUE + file)
    assert (check.flipped, check.as_exported, failures) == (True, True, ())
    lines = petinfer("verify", "--model", tmp_path / "model.onnx").stdout.splitlines()
    assert next(line for line in lines if line.startswith("cat.jpg")).endswith("  flipped, as exported")
    assert lines[-1] == "1 of 1 photos with identical pixels, 1 decision flipped: verified"


def test_a_label_that_only_this_device_moves_over_the_threshold_fails(tmp_path: Path) -> None:
    check, failures = check_of(tmp_path, BLUE + 0.01, BLUE + 0.02, BLUE + 0.02)
    assert (check.flipped, check.as_exported) == (True, False)
    assert [failure.split(" (")[0] for failure in failures] == [
        "cat.jpg: a probability differs by 2.0e-02, more than 1e-05 on CPUExecutionProvider",
        "cat.jpg: the decision is not the Learner's",
    ]
