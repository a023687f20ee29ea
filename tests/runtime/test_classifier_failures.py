"""A model that fails or contradicts its description: a small graph computed by onnxruntime, and one error that says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petinfer import Classifier, DeviceError, ModelError
from petinfer.spec import Resize, Spec
from petinfer.stream import BATCH

onnx = pytest.importorskip("onnx")

SIDE = 4


def model(path: Path, logits: str, probabilities: str = "", labels: tuple[str, ...] = ("dark", "light")) -> Path:
    """A model file for photos of 4 x 4 px.

    Args:
        path: where to write it.
        logits: its graph in ONNX's text format, from ``numbers``, float [batch, 4, 4, 3], to ``logits``.
        probabilities: from logits to probabilities; without it, softmax.
        labels: those of the description.
    """
    probabilities = probabilities or "probabilities = Softmax <axis=1> (logits)"
    graph = f"""<ir_version: 8, opset_import: ["" : 17]>
    agraph (uint8[batch, {SIDE}, {SIDE}, 3] image) => (float[batch, 2] probabilities, float[batch, 2] logits) {{
        numbers = Cast <to=1> (image)
        {logits}
        {probabilities}
    }}"""
    made = onnx.parser.parse_model(graph)
    entry = made.metadata_props.add()
    entry.key, entry.value = "petinfer", Spec(labels, Resize(SIDE, SIDE)).to_json()
    onnx.save(made, path)
    return path


BRIGHTNESS = """mean = ReduceMean <axes=[1, 2, 3], keepdims=0> (numbers)
        column = Constant <value_ints=[-1, 1]> ()
        light = Reshape (mean, column)
        dark = Neg (light)
        logits = Concat <axis=1> (dark, light)"""
NOT_A_NUMBER = BRIGHTNESS.replace("dark = Neg (light)", "negative = Neg (light)\n        dark = Log (negative)")
SIX_AT_MOST = BRIGHTNESS.replace("[-1, 1]> ()", "[6, 1]> ()")


def photo(value: int) -> Any:
    return np.full((SIDE, SIDE, 3), value, np.uint8)


def test_a_small_model_is_a_model(tmp_path: Path) -> None:
    classifier = Classifier(model(tmp_path / "small.onnx", BRIGHTNESS), threads=1)
    assert [each.label for each in classifier.predict_batch([photo(0), photo(9)])] == ["dark", "light"]
    probabilities, logits = classifier.run(np.stack([photo(3), photo(5)]))
    assert logits.tolist() == [[-3, 3], [-5, 5]]
    assert probabilities[0, 1] == pytest.approx(1 / (1 + np.exp(-6)))


def test_equal_probabilities_keep_the_order_of_the_labels(tmp_path: Path) -> None:
    prediction = Classifier(model(tmp_path / "small.onnx", BRIGHTNESS)).predict(photo(0))
    assert (prediction.label, list(prediction.probabilities)) == ("dark", ["dark", "light"])


@pytest.mark.parametrize("value", [0, 7])
def test_nan_and_infinite_probabilities_are_a_device_error(value: int, tmp_path: Path) -> None:
    infinite = NOT_A_NUMBER if value else BRIGHTNESS.replace("dark = Neg (light)", "dark = Log (light)")
    path = model(tmp_path / "nan.onnx", infinite, "probabilities = Identity (logits)")
    problem = "returned NaN or infinite probabilities (run petinfer verify)"
    with pytest.raises(DeviceError) as refused:
        Classifier(path).predict(photo(value))
    assert str(refused.value) == f"CPUExecutionProvider: {problem}"


def test_a_batch_on_which_the_network_fails_is_a_device_error(tmp_path: Path) -> None:
    classifier = Classifier(model(tmp_path / "six.onnx", SIX_AT_MOST))
    assert len(classifier.predict_pixels(np.stack([photo(1)] * 6))) == 6
    with pytest.raises(DeviceError) as refused:
        classifier.predict_pixels(np.stack([photo(1)] * 7))
    message = str(refused.value)
    assert message.startswith("CPUExecutionProvider: failed on a batch of 7: ")
    assert message.endswith(' (use device="cpu")') and "\n" not in message and len(message) < 300


def test_outputs_that_contradict_the_labels_are_refused(tmp_path: Path) -> None:
    path = model(tmp_path / "three.onnx", BRIGHTNESS, labels=("a", "b", "c"))
    found, said = ({"probabilities": [n], "logits": [n]} for n in (2, 3))
    with pytest.raises(ModelError) as refused:
        Classifier(path)
    assert str(refused.value) == f"{path}: its outputs are {found}, but its metadata says {said} (export it again)"


def test_a_misspelt_decoding_is_refused_with_its_values() -> None:
    with pytest.raises(ValueError, match=r"^decode: 'exakt' is not one of exact, fast$"):
        Classifier(decode="exakt")  # type: ignore[arg-type]


def test_fast_decoding_keeps_twice_the_larger_side() -> None:
    assert (Classifier().min_decode_size, Classifier(decode="fast").min_decode_size) == (None, 448)


def test_a_stream_runs_the_network_on_eight_photos_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if Classifier().threads == 1:
        pytest.skip("with one thread, each photo is a batch")
    classifier = Classifier(model(tmp_path / "small.onnx", BRIGHTNESS))
    sizes: list[int] = []
    run = classifier.predict_pixels

    def counted(batch: Any) -> Any:
        sizes.append(len(batch))
        return run(batch)

    monkeypatch.setattr(classifier, "predict_pixels", counted)
    values = [9, 0, 0, 9, 9] * 4
    labels = [each.label for each in classifier.predict_batch(photo(value) for value in values)]
    assert labels == ["light" if value else "dark" for value in values]
    assert (sizes, BATCH) == ([8, 8, 4], 8)


def test_a_stream_takes_sixteen_photos_ahead_of_the_first_answer(tmp_path: Path) -> None:
    classifier = Classifier(model(tmp_path / "small.onnx", BRIGHTNESS))
    taken: list[int] = []

    def photos() -> Iterator[Any]:
        for value in range(40):
            taken.append(value)
            yield photo(value)

    stream = classifier.predict_stream(photos())
    next(stream)
    assert len(taken) == (2 if classifier.threads == 1 else 16)
