"""A model on a device: the bundled one, and files that are none."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from petinfer import Classifier, ModelError, PhotoError
from petinfer.classifier import BUNDLED_MODEL, begin
from petinfer.device import available_cores


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def test_the_bundled_model_knows_a_cat(classifier: Classifier, cat_photo: Path) -> None:
    prediction = classifier.predict(cat_photo)
    assert prediction.label == "cat"
    assert prediction.probability > 0.9


def test_probabilities_are_of_all_labels_most_probable_first(classifier: Classifier, cat_photo: Path) -> None:
    prediction = classifier.predict(cat_photo)
    assert list(prediction.probabilities) == ["cat", "dog"]
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert prediction.probabilities[prediction.label] == prediction.probability


def test_a_batch_answers_as_its_photos_do_and_in_their_order(classifier: Classifier, cat_photo: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    photos = [noise, cat_photo, cat_photo.read_bytes(), io.BytesIO(cat_photo.read_bytes())]
    batch = classifier.predict_batch(photos)
    alone = [classifier.predict(photo) for photo in [noise, cat_photo, cat_photo, cat_photo]]
    assert [answer.label for answer in batch] == [answer.label for answer in alone]
    assert [answer.probability for answer in batch] == pytest.approx([answer.probability for answer in alone], abs=1e-6)


def test_a_bad_photo_never_costs_the_others(classifier: Classifier, cat_photo: Path) -> None:
    first, second, third = classifier.predict_stream([cat_photo, b"no photo", cat_photo])
    assert isinstance(second, PhotoError)
    assert first == third


def test_errors_of_a_stream_hold_no_pixels(classifier: Classifier, cat_photo: Path) -> None:
    """100 damaged photos of 12 megapixels would fill 5 GB: a traceback keeps every frame's bytes and pixels."""
    for error in classifier.predict_stream([cat_photo.read_bytes()[:20_000]] * 3):
        assert isinstance(error, PhotoError)
        assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.parametrize("leave", ["del classifier", "sys.exit(0)", "del classifier; gc.collect()"])
def test_a_forked_child_drops_an_inherited_classifier(leave: str) -> None:
    """The session's destructor would join threads that only the parent has, and wait for ever."""
    code = f"""
import gc, os, sys
from petinfer import Classifier
from petinfer.device import open_session
from petinfer.classifier import BUNDLED_MODEL
classifier = Classifier()
classifier.session = open_session(BUNDLED_MODEL, "cpu", 2)
child = os.fork()
if child == 0:
    {leave}
    sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_session_that_was_begun_is_the_classifiers(cat_photo: Path) -> None:
    opening = begin(threads=1)
    classifier = Classifier(opening=opening)
    assert classifier.session is opening.result()
    assert classifier.predict(cat_photo) == Classifier(threads=1).predict(cat_photo)


def test_what_is_wrong_with_a_session_that_was_begun_is_told_by_the_classifier(tmp_path: Path) -> None:
    opening = begin(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"none\.onnx: no such model file"):
        Classifier(opening=opening)


def test_a_batch_of_none_is_empty(classifier: Classifier) -> None:
    assert classifier.predict_batch([]) == []


def test_orientation_is_the_models_unless_told(lying_photo: Path) -> None:
    assert Classifier().predict(lying_photo).orientation == "upright"
    assert Classifier(orientation="stored").predict(lying_photo).orientation == "stored"
    with pytest.raises(ValueError, match="orientation: 'sideways' is not one of stored, upright"):
        Classifier(orientation="sideways")


def test_threads_do_not_change_the_answer(cat_photo: Path) -> None:
    answers = {
        Classifier(threads=threads).predict(cat_photo).probability for threads in range(1, available_cores() + 1)
    }
    assert len(answers) == 1


def test_the_session_runs_what_was_asked_for() -> None:
    classifier = Classifier(device="cpu", threads=1)
    assert classifier.provider == "CPUExecutionProvider"
    assert classifier.session.get_session_options().intra_op_num_threads == 1


def test_a_batch_that_the_network_does_not_take_is_told(classifier: Classifier) -> None:
    with pytest.raises(ValueError, match=r"batch: float32 \[1, 2, 2, 3\] is not uint8 \[photos, 224, 224, 3\]"):
        classifier.infer(np.zeros((1, 2, 2, 3), np.float32))


def test_one_photo_is_no_batch(classifier: Classifier, cat_photo: Path) -> None:
    for photo in (str(cat_photo), cat_photo, cat_photo.read_bytes()):
        with pytest.raises(TypeError, match="photos: one photo, where several are expected"):
            classifier.predict_batch(photo)


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        Classifier(tmp_path / "none.onnx")


def test_a_damaged_model_is_told(tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(BUNDLED_MODEL.read_bytes()[:100_000])
    with pytest.raises(ModelError, match="onnxruntime cannot load it"):
        Classifier(path)


def test_a_model_that_does_not_describe_itself_is_told(tmp_path: Path) -> None:
    model = onnx.load(BUNDLED_MODEL)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "silent.onnx")
    with pytest.raises(ModelError, match="does not describe itself"):
        Classifier(tmp_path / "silent.onnx")


def test_a_description_that_contradicts_the_graph_is_told(tmp_path: Path) -> None:
    model = onnx.load(BUNDLED_MODEL)
    entry = next(entry for entry in model.metadata_props if entry.key == "petinfer")
    entry.value = entry.value.replace('"size": [224, 224]', '"size": [224, 160]')
    onnx.save(model, tmp_path / "contradiction.onnx")
    with pytest.raises(ModelError, match=r"contradiction\.onnx: takes"):
        Classifier(tmp_path / "contradiction.onnx")
