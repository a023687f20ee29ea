"""The page reads a model file's description as petinfer does, and refuses what it does not know."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petinfer import Classifier
from petinfer.decision import decided
from petinfer.session.protobuf import field
from petinfer.spec import OPTIONAL

from ..conftest import REPOSITORY

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not installed: the page's code cannot run"
)

CODE = """
import { readFileSync } from "node:fs";
const { readDescription } = await import(process.argv[1]);
try {
  console.log(JSON.stringify(readDescription(new Uint8Array(readFileSync(process.argv[2])))));
} catch (error) {
  console.log(JSON.stringify(error.message));
}
"""
WHOLE: dict[str, Any] = {
    **{"schema": 1, "labels": ["cat", "dög"], "orientation": "stored", "precision": "fp32", "sha256": "0" * 64},
    "resize": {"method": "crop", "size": [224, 224], "padding": "zeros", "resample": "bilinear"},
    **{name: {} for name in ("origin", "score", "parity", "golden")},
}


def in_node(path: Path) -> Any:
    module = (REPOSITORY / "docs" / "web" / "site" / "model_file.js").as_uri()
    command = ["node", "--input-type=module", "-e", CODE, module, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def described(folder: Path, description: dict[str, Any]) -> Path:
    """A file with nothing but a description."""
    path = folder / "model.onnx"
    path.write_bytes(field(14, field(1, b"petinfer") + field(2, json.dumps(description).encode())))
    return path


def test_the_bundled_models_description_is_read() -> None:
    classifier = Classifier()
    assert in_node(classifier.path) == {**OPTIONAL, **json.loads(classifier.spec.to_json())}


def test_a_grey_model_of_schema_2_is_read(tmp_path: Path) -> None:
    description = WHOLE | {"schema": 2, "mode": "L"}
    assert in_node(described(tmp_path, description)) == OPTIONAL | description


def test_a_model_of_several_labels_is_read_and_one_label_is_enough(tmp_path: Path) -> None:
    description = WHOLE | {"schema": 2, "threshold": 0.4, "labels": ["cat"]}
    assert in_node(described(tmp_path, description)) == OPTIONAL | description


@pytest.mark.parametrize("threshold", [None, 0, 0.1, 0.5, 1])
def test_labels_are_decided_as_petinfer_does(threshold: float | None) -> None:
    rows = np.array([[0.1, 0.1, 0.7], [0.5, 0.5, 0.5], [0.0, 1.0, 0.6], [0.05, 0.01, 0.0]], np.float32)
    code = "const [rows, threshold] = JSON.parse(process.argv[2]); const { decided } = await import(process.argv[1]);"
    code += "console.log(JSON.stringify(rows.map((row) => decided(row, threshold))));"
    module = (REPOSITORY / "docs" / "web" / "site" / "decision.js").as_uri()
    command = ["node", "--input-type=module", "-e", code, module, json.dumps([rows.tolist(), threshold])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    expected = [
        [int(i) for i in np.argsort(-row, kind="stable") if chosen[i]]
        for row, chosen in zip(rows, decided(rows, threshold), strict=True)
    ]
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema": 3}, "its schema is 3, not 1 or 2 (update this page)"),
        ({"mode": "L"}, "its metadata holds an unknown mode (update this page)"),
        ({"schema": 2, "mode": "CMYK"}, "mode is CMYK, not one of RGB, L"),
        ({"orientation": "up"}, "orientation is up, not one of stored, upright"),
        ({"labels": ["cat"]}, "labels are not two or more texts"),
        ({"schema": 2, "threshold": "0.5"}, 'threshold is "0.5", not 0 to 1'),
        ({"resize": WHOLE["resize"] | {"size": [0, 224]}}, "resize.size is [0,224], not [height, width]"),
    ],
    ids=["schema", "field", "mode", "orientation", "labels", "threshold", "size"],
)
def test_a_description_that_the_page_does_not_know_is_refused(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    assert in_node(described(tmp_path, WHOLE | change)) == problem


def test_what_is_no_model_file_is_refused(tmp_path: Path, cat_photo: Path) -> None:
    assert in_node(cat_photo) == "not an ONNX model, or damaged"
    empty = tmp_path / "empty.onnx"
    empty.touch()
    assert in_node(empty) == "has no description for petinfer (python -m export writes model files)"
