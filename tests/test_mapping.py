"""Weights that stay in their file: the message that goes to onnxruntime means the same model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petinfer import Classifier
from petinfer.classifier import BUNDLED_MODEL
from petinfer.mapping import without_weights


def test_the_message_means_the_same_model() -> None:
    message = onnx.load_from_string(without_weights(BUNDLED_MODEL))
    onnx.load_external_data_for_model(message, str(BUNDLED_MODEL.parent))
    whole = onnx.load(BUNDLED_MODEL)
    for tensor in (*message.graph.initializer, *whole.graph.initializer):
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    assert message == whole


def test_the_message_is_small() -> None:
    assert len(without_weights(BUNDLED_MODEL)) < BUNDLED_MODEL.stat().st_size / 50


def test_a_session_with_mapped_weights_answers_as_one_that_read_the_file() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    whole = onnxruntime.InferenceSession(BUNDLED_MODEL, providers=["CPUExecutionProvider"])
    for expected, actual in zip(
        whole.run(["probabilities", "logits"], {"image": pixels}), Classifier().infer(pixels), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_a_model_behind_a_link_or_with_an_odd_name_is_found(tmp_path: Path, cat_photo: Path) -> None:
    expected = Classifier().predict(cat_photo)
    (tmp_path / "link.onnx").symlink_to(BUNDLED_MODEL)
    odd = tmp_path / "Kätzchen & co, 100 %.onnx"
    odd.write_bytes(BUNDLED_MODEL.read_bytes())
    for path in (tmp_path / "link.onnx", odd):
        assert Classifier(path).predict(cat_photo) == expected


def test_a_relative_path_is_found(tmp_path: Path, cat_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").write_bytes(BUNDLED_MODEL.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert Classifier("model.onnx").predict(cat_photo).label == "cat"


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused_or_kept(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(content)
    with suppress(ValueError, IndexError):
        assert without_weights(path) == content
