"""A model on a device: the bundled one, and files that are none."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, ImageSequence

from petinfer import Classifier, DeviceError, ModelError, PhotoError
from petinfer.classifier import BUNDLED_MODEL
from petinfer.session import opening
from petinfer.session.opening import open_early
from petinfer.session.threads import available_cores


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def test_the_bundled_model_recognises_a_cat(classifier: Classifier, cat_photo: Path) -> None:
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


def test_a_bad_photo_does_not_affect_the_others(classifier: Classifier, cat_photo: Path) -> None:
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
classifier = Classifier()
child = os.fork()
if child == 0:
    {leave}
    sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_session_opened_early_is_used_once_by_the_matching_classifier() -> None:
    open_early()
    (early,) = opening._opened_early.values()
    other = Classifier(threads=1) if available_cores() > 1 else Classifier(device="cpu")
    assert other.session is not early.result()
    assert Classifier().session is early.result()
    assert Classifier().session is not early.result()  # it is used once


def test_a_session_opened_early_never_replaces_the_requested_model(tmp_path: Path) -> None:
    open_early()
    with pytest.raises(ModelError, match=r"none\.onnx: no such model file"):
        Classifier(tmp_path / "none.onnx")
    with pytest.raises(DeviceError, match="threads: 99999 requested"):
        Classifier(threads=99999)


def test_without_waiting_pixels_come_first_and_errors_with_the_prediction(cat_photo: Path) -> None:
    classifier = Classifier(device="abacus", wait=False)
    assert classifier.pixels(cat_photo).shape == (224, 224, 3)
    with pytest.raises(DeviceError, match="device: 'abacus' is unknown"):
        classifier.predict(cat_photo)


def test_a_forked_child_opens_a_session_of_its_own(cat_photo: Path) -> None:
    code = f"""
import os, sys
from petinfer import Classifier
classifier = Classifier()
expected = classifier.predict({str(cat_photo)!r})
child = os.fork()
if child == 0:
    sys.exit(classifier.predict({str(cat_photo)!r}) != expected)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_has_the_same_settings(duplicate: Callable[[Classifier], Classifier], cat_photo: Path) -> None:
    original = Classifier(threads=1, orientation="stored", decode="fast", max_bytes=10**6, max_pixels=10**7)
    twin = duplicate(original)
    assert repr(twin) == repr(original)
    assert (twin.max_bytes, twin.max_pixels) == (10**6, 10**7)
    assert twin.predict(cat_photo) == original.predict(cat_photo)


def test_the_representation_names_the_model_and_every_setting() -> None:
    original = Classifier(BUNDLED_MODEL, "cpu", 1, "stored", "fast")
    expected = f"Classifier({str(BUNDLED_MODEL)!r}, device='cpu', threads=1, orientation='stored', decode='fast')"
    assert repr(original) == expected
    assert repr(eval(repr(original))) == expected


def test_a_buffer_can_be_reused_in_a_stream(classifier: Classifier) -> None:
    """Each photo is read when it is taken, not later in a thread."""
    photos = np.random.default_rng(0).integers(0, 256, (20, 60, 60, 3), np.uint8)
    expected = [classifier.predict(photo).probability for photo in photos]
    buffer = np.empty((60, 60, 3), np.uint8)

    def reused() -> Iterator[np.ndarray]:
        for photo in photos:
            buffer[:] = photo
            yield buffer

    found = [prediction.probability for prediction in classifier.predict_stream(reused())]
    assert found == pytest.approx(expected, abs=1e-6)


def test_frames_of_an_animation_are_read_when_they_are_taken(classifier: Classifier, tmp_path: Path) -> None:
    """``ImageSequence.Iterator`` yields one image object again and again."""
    frames = [Image.new("RGB", (50, 50), (12 * i, 250 - 12 * i, 90)) for i in range(20)]
    frames[0].save(tmp_path / "frames.png", save_all=True, append_images=frames[1:])
    expected = [classifier.predict(frame).probability for frame in frames]
    with Image.open(tmp_path / "frames.png") as animation:
        found = [each.probability for each in classifier.predict_stream(ImageSequence.Iterator(animation))]
    assert found == pytest.approx(expected, abs=1e-6)


def test_leaving_a_stream_early_decodes_no_more_photos(classifier: Classifier, cat_photo: Path) -> None:
    taken = 0

    def photos() -> Iterator[Path]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield cat_photo

    stream = classifier.predict_stream(photos())
    next(stream)
    stream.close()
    assert taken <= 16


def test_an_empty_batch_has_no_predictions(classifier: Classifier) -> None:
    assert classifier.predict_batch([]) == []


def test_orientation_is_the_models_unless_given(lying_photo: Path) -> None:
    assert Classifier().predict(lying_photo).orientation == "upright"
    assert Classifier(orientation="stored").predict(lying_photo).orientation == "stored"
    with pytest.raises(ValueError, match="orientation: 'sideways' is not one of stored, upright"):
        Classifier(orientation="sideways")


def test_upright_turns_the_pixels_as_the_exif_entry_asks(lying_photo: Path) -> None:
    stored, upright = (Classifier(orientation=each).pixels(lying_photo) for each in ("stored", "upright"))
    turned = ImageOps.exif_transpose(Image.open(lying_photo))
    assert np.array_equal(upright, Classifier(orientation="stored").pixels(turned))
    assert not np.array_equal(stored, upright)


def test_threads_do_not_change_the_answer(cat_photo: Path) -> None:
    answers = {
        Classifier(threads=threads).predict(cat_photo).probability for threads in range(1, available_cores() + 1)
    }
    assert len(answers) == 1


def test_the_session_runs_what_was_asked_for() -> None:
    classifier = Classifier(device="cpu", threads=1)
    assert classifier.provider == "CPUExecutionProvider"
    assert classifier.session.get_session_options().intra_op_num_threads == 1


def test_the_note_of_a_16_bit_photo_is_its_own(classifier: Classifier, cat_photo: Path) -> None:
    deep = Image.fromarray(np.full((40, 40), 60_000, np.uint16))
    note = "grey of more than 8 bits: values were cut to whole numbers from 0 to 255, as fastai does"
    found = list(classifier.predict_stream([cat_photo, b"no photo", deep, cat_photo]))
    assert [getattr(each, "note", "error") for each in found] == [None, "error", note, None]
    assert classifier.predict(deep).note == note


def test_a_batch_of_another_shape_is_refused(classifier: Classifier) -> None:
    with pytest.raises(ValueError, match=r"batch: float32 \[1, 2, 2, 3\] is not uint8 \[photos, 224, 224, 3\]"):
        classifier.run(np.zeros((1, 2, 2, 3), np.float32))


def test_one_photo_is_not_a_batch(classifier: Classifier, cat_photo: Path) -> None:
    content = cat_photo.read_bytes()
    image, array = Image.new("RGB", (8, 8)), np.zeros((8, 8, 3), np.uint8)
    for photo in (str(cat_photo), cat_photo, content, bytearray(content), io.BytesIO(content), image, array):
        with pytest.raises(TypeError, match="photos: one photo, expected an iterable of photos"):
            classifier.predict_batch(photo)
        with pytest.raises(TypeError, match="photos: one photo, expected an iterable of photos"):
            classifier.predict_stream(photo)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        Classifier(tmp_path / "none.onnx")


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(BUNDLED_MODEL.read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"half\.onnx: not an ONNX model, or damaged"):
        Classifier(path)


def test_a_model_without_a_description_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(BUNDLED_MODEL)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "silent.onnx")
    with pytest.raises(ModelError, match="has no description for petinfer"):
        Classifier(tmp_path / "silent.onnx")


def described_otherwise(path: Path, old: str, new: str) -> Path:
    """The bundled file with another text in its description, written to ``path``."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(BUNDLED_MODEL)
    entry = next(entry for entry in model.metadata_props if entry.key == "petinfer")
    entry.value = entry.value.replace(old, new)
    onnx.save(model, path)
    return path


def test_a_description_that_contradicts_the_graph_is_refused(tmp_path: Path) -> None:
    path = described_otherwise(tmp_path / "contradiction.onnx", '"size": [224, 224]', '"size": [224, 160]')
    with pytest.raises(ModelError, match=r"contradiction\.onnx: its inputs are"):
        Classifier(path)


def test_a_grey_description_of_a_graph_of_colours_is_refused(tmp_path: Path) -> None:
    path = described_otherwise(tmp_path / "grey.onnx", '{"schema": 2, ', '{"schema": 2, "mode": "L", ')
    with pytest.raises(ModelError, match=r"but its metadata says \[\('image', 'tensor\(uint8\)', \[224, 224, 1\]\)\]"):
        Classifier(path)
