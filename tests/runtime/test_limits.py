"""Limits below which a photo gets no label, features and heat maps: by a small graph whose numbers are the photo's own."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from petinfer import Classifier, ModelError, PhotoError
from petinfer.spec import Familiarity, Resize, Spec

from .several_labels import colours_model

onnx = pytest.importorskip("onnx")

SIDE = 4
KNOWN = Familiarity(100, 100, ((0.99, 0.0), (0.9, 5.0), (0.5, 20.0)))
NOTE = "grey of more than 8 bits: values were cut to whole numbers from 0 to 255, as fastai does"


def limits_model(path: Path, **description: Any) -> Path:
    """Write a model file for photos of 4 x 4 px, dark or light.

    Its features are the means of the channels, its heat is the mean of each pixel's channels divided by 255, and its
    familiarity is the mean of all less 10; black has none, NaN.
    """
    graph = f"""<ir_version: 8, opset_import: ["" : 17]>
    agraph (uint8[batch, {SIDE}, {SIDE}, 3] image) => (float[batch, 2] probabilities, float[batch, 2] logits,
        float[batch] familiarity, float[batch, 3] features, float[batch, {SIDE}, {SIDE}] heat) {{
        numbers = Cast <to=1> (image)
        features = ReduceMean <axes=[1, 2], keepdims=0> (numbers)
        grey = ReduceMean <axes=[3], keepdims=0> (numbers)
        most = Constant <value_float=255.0> ()
        heat = Div (grey, most)
        mean = ReduceMean <axes=[1, 2, 3], keepdims=0> (numbers)
        unit = Div (mean, mean)
        ten = Constant <value_float=10.0> ()
        distance = Sub (mean, ten)
        familiarity = Mul (distance, unit)
        column = Constant <value_ints=[-1, 1]> ()
        light = Reshape (mean, column)
        middle = Constant <value_float=100.0> ()
        dark = Sub (middle, light)
        shifted = Sub (light, middle)
        logits = Concat <axis=1> (dark, shifted)
        probabilities = Softmax <axis=1> (logits)
    }}"""
    made = onnx.parser.parse_model(graph)
    entry = made.metadata_props.add()
    spec = Spec(("dark", "light"), Resize(SIDE, SIDE), familiarity=KNOWN, features=3, heat=(SIDE, SIDE))
    entry.key, entry.value = "petinfer", replace(spec, **description).to_json()
    onnx.save(made, path)
    return path


def photo(*value: int) -> Any:
    """A photo of one colour or grey, uint8 [4, 4, 3]."""
    return np.full((SIDE, SIDE, 3), value, np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return limits_model(tmp_path / "limits.onnx")


def test_without_limits_every_photo_is_sure(path: Path) -> None:
    for prediction in Classifier(path).predict_batch([photo(0), photo(1), photo(30)]):
        assert (prediction.label, prediction.labels, prediction.sure) == ("dark", ("dark",), True)


def test_a_prediction_has_the_familiarity_of_its_photo(path: Path) -> None:
    found = Classifier(path).predict_batch([photo(13), photo(3), photo(200)])
    assert [each.familiarity for each in found] == [3, -7, 190]


def test_a_less_familiar_photo_has_no_label_but_its_probabilities(path: Path) -> None:
    found = Classifier(path, min_familiarity=5).predict_batch([photo(15), photo(14)])
    assert [(each.sure, each.label, each.labels) for each in found] == [(True, "dark", ("dark",)), (False, None, ())]
    assert [each.familiarity for each in found] == [5, 4]
    assert (found[1].probability, list(found[1].probabilities)) == (pytest.approx(1), ["dark", "light"])


def test_a_familiarity_that_is_not_a_number_reaches_no_limit(path: Path) -> None:
    prediction = Classifier(path, min_familiarity=-1000).predict(photo(0))
    assert np.isnan(prediction.familiarity or 0)
    assert (prediction.sure, prediction.label) == (False, None)


def test_a_less_probable_photo_has_no_label(path: Path) -> None:
    half = photo(100)
    even = Classifier(path).predict(half).probability
    assert even == 0.5
    assert Classifier(path, min_probability=even).predict(half).label == "dark"
    unsure = Classifier(path, min_probability=0.51).predict(half)
    assert (unsure.label, unsure.labels, unsure.sure, unsure.probability) == (None, (), False, 0.5)


def test_a_photo_must_reach_both_limits(path: Path) -> None:
    classifier = Classifier(path, min_probability=0.9, min_familiarity=50)
    assert [each.sure for each in classifier.predict_batch([photo(20), photo(70), photo(100), photo(150)])] == [
        False,
        True,
        False,
        True,
    ]


def test_a_share_of_photos_chooses_the_familiarity(path: Path) -> None:
    limits = [Classifier(path, min_coverage=share).min_familiarity for share in (0.99, 0.95, 0.9, 0.7, 0.0)]
    assert limits == [0, 0, 5, 5, 20]
    assert Classifier(path).min_familiarity is None
    assert Classifier(path, min_familiarity=0).min_familiarity == 0


def test_limits_that_contradict_each_other_or_the_file_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^min_coverage: chooses min_familiarity \(give one of the two\)$"):
        Classifier(path, min_coverage=0.9, min_familiarity=0)
    several = colours_model(tmp_path / "several.onnx")
    problem = f"{several} has a threshold for each label (leave min_probability out)"
    with pytest.raises(ValueError, match=f"^min_probability: {re.escape(problem)}$"):
        Classifier(several, min_probability=0.5)
    problem = f"{several}: has no familiarity (leave the limit out, or export it with training photos)"
    for limit in ({"min_familiarity": 0.0}, {"min_coverage": 0.9}):
        with pytest.raises(ModelError) as refused:
            Classifier(several, **limit)
        assert str(refused.value) == problem


def test_a_copy_keeps_the_limits(path: Path) -> None:
    twin = pickle.loads(pickle.dumps(Classifier(path, min_probability=0.25, min_coverage=0.9)))
    assert (twin.min_probability, twin.min_familiarity) == (0.25, 5)


def test_features_are_the_graphs_for_one_photo_and_for_many(path: Path) -> None:
    classifier = Classifier(path)
    assert classifier.features(photo(1, 2, 3)).tolist() == [1, 2, 3]
    first, bad, last = classifier.features_stream([photo(1, 2, 3), b"no photo", photo(4, 5, 6)])
    assert (first.tolist(), last.tolist()) == ([1, 2, 3], [4, 5, 6])  # type: ignore[union-attr]
    assert isinstance(bad, PhotoError)


def test_a_heat_map_is_the_graphs_and_comes_with_the_prediction(path: Path) -> None:
    classifier, rising = Classifier(path), photo(0)
    rising[2, 1] = 51
    expected = np.zeros((SIDE, SIDE), np.float32)
    expected[2, 1] = 0.2
    assert np.array_equal(classifier.heat_map(rising), expected)
    first, bad, last = classifier.heat_stream([rising, b"no photo", photo(255)])
    assert isinstance(bad, PhotoError)
    assert np.array_equal(first.heat, expected) and last.heat.tolist() == [[1] * SIDE] * SIDE  # type: ignore[union-attr]
    assert np.array_equal(first.pixels, rising) and np.array_equal(last.pixels, photo(255))  # type: ignore[union-attr]
    assert (first.prediction.label, last.prediction) == ("dark", classifier.predict(photo(255)))  # type: ignore[union-attr]


def test_the_note_of_a_photo_comes_with_its_heat_map(path: Path) -> None:
    deep = Image.fromarray(np.full((SIDE, SIDE), 60_000, np.uint16))
    noted, plain = Classifier(path).heat_stream([deep, photo(1)])
    assert (noted.prediction.note, plain.prediction.note) == (NOTE, None)  # type: ignore[union-attr]


def test_one_photo_is_not_a_stream_of_features_or_heat(path: Path) -> None:
    classifier, problem = Classifier(path), "photos: one photo, expected an iterable of photos"
    with pytest.raises(TypeError, match=rf"^{problem} \(use features\)$"):
        classifier.features_stream(photo(1))
    with pytest.raises(TypeError, match=rf"^{problem} \(use heat_map\)$"):
        classifier.heat_stream(photo(1))


@pytest.mark.parametrize("name", ["features", "heat"])
def test_a_file_without_the_output_says_so_before_a_photo_is_read(name: str, tmp_path: Path) -> None:
    model = colours_model(tmp_path / "several.onnx")
    classifier = Classifier(model)
    single = classifier.features if name == "features" else classifier.heat_map
    several = classifier.features_stream if name == "features" else classifier.heat_stream
    reason = "its network's last layers have another form, or an older petinfer exported it"
    for call in (lambda: single("nowhere.jpg"), lambda: several(["nowhere.jpg"])):
        with pytest.raises(ModelError) as refused:
            call()
        assert str(refused.value) == f"{model}: has no output {name}: {reason} (export it again)"
