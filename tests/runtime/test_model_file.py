"""Weights that stay in their file: the message that goes to onnxruntime means the same model."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import petinfer.session.model_file
from petinfer import Classifier, ModelError
from petinfer.classifier import BUNDLED_MODEL
from petinfer.session import opening
from petinfer.session.model_file import identity, read_spec, strip_weights
from petinfer.session.protobuf import field

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx.numpy_helper")


def test_the_message_means_the_same_model() -> None:
    message = onnx.load_from_string(strip_weights(BUNDLED_MODEL))
    onnx.load_external_data_for_model(message, str(BUNDLED_MODEL.parent))
    whole = onnx.load(BUNDLED_MODEL)
    for tensor in (*message.graph.initializer, *whole.graph.initializer):
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    assert message == whole


def test_the_message_is_small() -> None:
    assert len(strip_weights(BUNDLED_MODEL)) < BUNDLED_MODEL.stat().st_size / 50


def test_a_session_with_mapped_weights_answers_as_one_that_read_the_file() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    whole = onnxruntime.InferenceSession(BUNDLED_MODEL, providers=["CPUExecutionProvider"])
    for expected, actual in zip(
        whole.run(["probabilities", "logits"], {"image": pixels}), Classifier().run(pixels), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_a_model_behind_a_link_or_with_an_odd_name_is_found(tmp_path: Path, cat_photo: Path) -> None:
    expected = Classifier().predict(cat_photo)
    (tmp_path / "link.onnx").symlink_to(BUNDLED_MODEL)
    odd = tmp_path / "Kätzchen & co, 100 %.onnx"
    odd.write_bytes(BUNDLED_MODEL.read_bytes())
    for path in (tmp_path / "link.onnx", odd):
        assert Classifier(path).predict(cat_photo) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse the name")
def test_a_path_that_is_not_utf8_is_loaded_without_mapping(tmp_path: Path, cat_photo: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.onnx"))
    path.write_bytes(BUNDLED_MODEL.read_bytes())
    assert Classifier(path).predict(cat_photo) == Classifier().predict(cat_photo)


def test_weights_are_read_where_they_cannot_be_mapped(cat_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a chroot without /proc: the first way, and then the first two, fail."""
    expected = Classifier().predict(cat_photo)
    for broken in ("_mapped_weights", "_whole_file"):
        monkeypatch.setattr(opening, broken, lambda path, options: "/nowhere.onnx")
        assert Classifier().predict(cat_photo) == expected


def test_a_relative_path_is_found(tmp_path: Path, cat_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").write_bytes(BUNDLED_MODEL.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert Classifier("model.onnx").predict(cat_photo).label == "cat"


def small_model() -> bytes:
    """Three tensors: of many bytes, of few, and one that says explicitly that its bytes are its own."""
    tensors = [onnx.numpy_helper.from_array(np.arange(n, dtype=np.float32), f"t{n}") for n in (30, 1, 40)]
    tensors[2].data_location = onnx.TensorProto.DEFAULT
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["t30"], ["y"])], "small", [], [], tensors)
    return onnx.helper.make_model(graph).SerializeToString()


def tensors_of(message: bytes, folder: Path) -> list[bytes] | None:
    """The raw bytes of a message's tensors, external ones read from their file; None where onnx refuses the message."""
    try:
        model = onnx.load_from_string(message)
    except Exception:  # of protobuf
        return None
    return [raw_bytes(tensor, folder) for tensor in model.graph.initializer]


def raw_bytes(tensor: Any, folder: Path) -> bytes:
    place = {entry.key: entry.value for entry in tensor.external_data}
    if set(place) != {"location", "offset", "length"}:
        return bytes(tensor.raw_data)
    start = int(place["offset"])
    return (folder / place["location"]).read_bytes()[start : start + int(place["length"])]


def restored(path: Path) -> list[np.ndarray]:
    """The tensors that a file's message without weights refers to."""
    message = onnx.load_from_string(strip_weights(path))
    onnx.load_external_data_for_model(message, str(path.parent))
    return [onnx.numpy_helper.to_array(tensor) for tensor in message.graph.initializer]


def test_tensors_are_found_again_whatever_else_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(petinfer.session.model_file, "LARGE", 8)
    path = tmp_path / "small.onnx"
    path.write_bytes(small_model())
    assert b"small.onnx" in strip_weights(path)
    assert [tensor.tolist() for tensor in restored(path)] == [list(range(n)) for n in (30, 1, 40)]


def test_a_damaged_message_is_refused_or_keeps_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut anywhere, or one byte changed: refused, or the same tensors as onnx reads from the damaged file itself."""
    monkeypatch.setattr(petinfer.session.model_file, "LARGE", 8)
    whole = small_model()
    path = tmp_path / "small.onnx"
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            with suppress(ValueError, IndexError):
                stripped = strip_weights(path)
                assert len(stripped) < len(whole) + 200
                assert tensors_of(stripped, tmp_path) == tensors_of(damaged, tmp_path)


def test_a_file_of_ones_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "erased.onnx").write_bytes(b"\xff" * 20_000_000)
    with pytest.raises(ModelError, match=r"erased\.onnx: not an ONNX model, or damaged"):
        Classifier(tmp_path / "erased.onnx")


def onnx_file(path: Path, **metadata: str) -> Path:
    """A file of metadata entries alone."""
    path.write_bytes(
        b"".join(field(14, field(1, key.encode()) + field(2, value.encode())) for key, value in metadata.items())
    )
    return path


def test_a_description_is_read_without_onnxruntime(tmp_path: Path) -> None:
    spec = read_spec(BUNDLED_MODEL)
    assert (spec.labels, spec.precision, spec == Classifier().spec) == (("dog", "cat"), "int8", True)
    other = onnx_file(tmp_path / "other.onnx", author="somebody", petinfer=spec.to_json(), licence="CC0")
    assert read_spec(other) == spec


def test_of_two_descriptions_the_last_counts(tmp_path: Path) -> None:
    """As in onnxruntime."""
    first, last = (replace(read_spec(BUNDLED_MODEL), orientation=orientation) for orientation in ("stored", "upright"))
    path = onnx_file(tmp_path / "two.onnx", petinfer=first.to_json())
    path.write_bytes(path.read_bytes() + onnx_file(tmp_path / "last.onnx", petinfer=last.to_json()).read_bytes())
    assert read_spec(path) == last


WRITE = "(check the path; python -m export writes model files)"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("absent.onnx", None, f"no such model file {WRITE}"),
        ("folder", "folder", f"cannot be read: not a regular file {WRITE}"),
        ("empty.onnx", b"", "not an ONNX model, or damaged (python -m export writes model files)"),
        ("photo.onnx", b"\xff\xd8\xff\xe0", "not an ONNX model, or damaged (python -m export writes model files)"),
        ("silent.onnx", field(14, field(1, b"other") + field(2, b"{}")),
         "has no description for petinfer (python -m export writes model files)"),
        ("latin.onnx", field(14, field(1, b"petinfer") + field(2, b"\xff")),
         "not an ONNX model, or damaged (python -m export writes model files)"),
        ("wrong.onnx", field(14, field(1, b"petinfer") + field(2, b"[]")),
         "metadata is [], not a JSON object (export it again)"),
        ("valueless.onnx", field(14, field(1, b"petinfer")), "its metadata is not JSON: Expecting value: line 1 column 1 "
         "(char 0) (export it again)"),
    ],
)  # fmt: skip
def test_a_file_without_a_description_is_refused_by_its_path(
    name: str, content: bytes | str | None, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_spec(path)
    assert str(caught.value) == f"{path}: {problem}"


def test_a_description_of_100_megabytes_is_refused(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "huge.onnx", petinfer=" " * 10**8)
    with pytest.raises(ModelError, match=r"huge\.onnx: its metadata entry 'petinfer' takes 100 MB, over the limit"):
        read_spec(path)


def test_a_replaced_file_has_another_identity(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    before = identity(tmp_path / "a")
    assert identity(tmp_path / "a") == before
    (tmp_path / "b").write_bytes(b"two")
    (tmp_path / "b").replace(tmp_path / "a")
    assert identity(tmp_path / "a") != before
    with pytest.raises(ModelError, match="no such model file"):
        identity(tmp_path / "b")
