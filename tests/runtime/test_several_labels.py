"""A model file with a threshold: a photo has all labels over it, several or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from petinfer import Classifier, ModelError
from petinfer.decision import decided
from petinfer.spec import Resize, Spec

from .several_labels import colours_model, photo

pytest.importorskip("onnx")


def test_a_photo_has_every_label_over_the_threshold_the_most_probable_first(tmp_path: Path) -> None:
    prediction = Classifier(colours_model(tmp_path / "model.onnx")).predict(photo(110, 0, 200))
    assert (prediction.label, prediction.labels) == ("blue", ("blue", "red"))
    assert prediction.probability == prediction.probabilities["blue"] == pytest.approx(1 / (1 + np.exp(-4)))
    assert list(prediction.probabilities) == ["blue", "red", "green"]


def test_a_photo_without_a_label_has_none_and_keeps_its_probabilities(tmp_path: Path) -> None:
    prediction = Classifier(colours_model(tmp_path / "model.onnx")).predict(photo(0, 75, 50))
    assert (prediction.label, prediction.labels) == (None, ())
    assert prediction.probability == prediction.probabilities["green"] == pytest.approx(1 / (1 + np.exp(1)))


def test_a_probability_equal_to_the_threshold_is_not_over_it(tmp_path: Path) -> None:
    classifier = Classifier(colours_model(tmp_path / "model.onnx"))
    assert [classifier.predict(photo(value, 0, 0)).labels for value in (99, 100, 101)] == [(), (), ("red",)]


def test_the_files_own_threshold_decides(tmp_path: Path) -> None:
    labels = [
        Classifier(colours_model(tmp_path / f"{threshold}.onnx", threshold)).predict(photo(90, 120, 150)).labels
        for threshold in (0.1, 0.5, 0.8, 0.9)
    ]
    assert labels == [("blue", "green", "red"), ("blue", "green"), ("blue",), ()]


def test_without_a_threshold_a_photo_has_one_label(tmp_path: Path) -> None:
    prediction = Classifier(colours_model(tmp_path / "model.onnx", None)).predict(photo(110, 0, 200))
    assert (prediction.label, prediction.labels) == ("blue", ("blue",))


def test_a_threshold_is_compared_in_float32_as_torch_does() -> None:
    float32 = np.array([0.1], np.float32)  # as float64, 0.1000000015 is over 0.1
    assert not decided(float32, 0.1).any()
    assert not decided(float32.astype(np.float64), 0.1).any()
    assert not decided(np.array([0.1000000016]), 0.1).any()  # in float32, 0.1


def test_of_equal_probabilities_the_first_is_the_label() -> None:
    rows = np.array([[0.2, 0.4, 0.4], [0.5, 0.1, 0.4]])
    assert decided(rows, None).tolist() == [[False, True, False], [True, False, False]]


def test_one_label_is_enough_with_a_threshold() -> None:
    spec = Spec(("cat",), Resize(4, 4), threshold=0.5)
    assert Spec.from_json(spec.to_json()) == spec
    with pytest.raises(ModelError, match="not two or more texts"):
        replace(spec, threshold=None)
