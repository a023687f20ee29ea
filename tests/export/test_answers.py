"""Equal to the original: an exported file answers as ``learn.predict`` does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastai.vision.all import Learner

from export.source.pickled import load_learner
from petinfer import Classifier


def test_the_file_answers_what_learn_predict_answers(exported: Path, tiny_learner: Path, drawn_photos: Path) -> None:
    learn: Learner = load_learner(tiny_learner)
    classifier = Classifier(exported / "model-fp32.onnx", orientation="stored")
    with learn.no_bar():
        for photo in sorted(drawn_photos.rglob("*.png"))[::2]:
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
    assert parity["probability_mean"] < 0.003
