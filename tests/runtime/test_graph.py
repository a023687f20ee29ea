"""Models that nobody should load are refused before onnxruntime parses them, by the name of what is wrong."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from petinfer import Classifier, ModelError
from petinfer.classifier import BUNDLED_MODEL
from petinfer.session.graph import check_graph
from petinfer.session.model_file import read_spec
from petinfer.session.protobuf import field, number
from petinfer.spec import Spec

NODE, INITIALIZER, SPARSE, INPUT, OUTPUT = 1, 5, 15, 11, 12  # fields of onnx.GraphProto


def value(name: str, kind: int, *shape: int | str) -> bytes:
    """An onnx.ValueInfoProto; a text is the name of a dimension."""
    sides = [number(1, side) if isinstance(side, int) else field(2, side.encode()) for side in shape]
    dimensions = b"".join(field(1, side) for side in sides)
    return field(1, name.encode()) + field(2, field(1, number(1, kind) + field(2, dimensions)))


def node(operator: str, *attributes: bytes, domain: str = "", inputs: str = "image", outputs: str = "x") -> bytes:
    """An onnx.NodeProto; inputs and outputs are letters or names, separated by spaces."""
    wires = [field(1, each.encode()) for each in inputs.split()] + [field(2, each.encode()) for each in outputs.split()]
    entries = [field(4, operator.encode()), *(field(5, each) for each in attributes), field(7, domain.encode())]
    return b"".join([*wires, *entries])


def tensor(name: str, *extra: bytes) -> bytes:
    """An onnx.TensorProto of one float."""
    return number(1, 1) + number(2, 1) + field(8, name.encode()) + field(9, b"\0\0\x80?") + b"".join(extra)


IMAGE, LOGITS = value("image", 2, "batch", 4, 4, 3), value("logits", 1, "batch", 48)
PROBABILITIES = value("probabilities", 1, "batch", 48)
SOUND = [
    (NODE, node("Cast", field(1, b"to") + number(3, 1) + number(20, 2), outputs="float")),
    (NODE, node("Flatten", inputs="float", outputs="logits")),
    (NODE, node("Softmax", inputs="logits", outputs="probabilities")),
    (INPUT, IMAGE),
    (OUTPUT, PROBABILITIES),
    (OUTPUT, LOGITS),
]  # fmt: skip
EXTERNAL = field(13, field(1, b"location") + field(2, b"/etc/passwd")) + number(14, 1)


def model(parts: list[tuple[int, bytes]], *extra: bytes, spec: Spec | None = None) -> bytes:
    """An onnx.ModelProto whose graph has these fields, and a description, by default of 48 labels."""
    known = read_spec(BUNDLED_MODEL)
    resize = replace(known.resize, height=4, width=4)
    plain = replace(known, familiarity=None, features=None, heat=None)
    spec = spec or replace(plain, labels=tuple(f"class {i}" for i in range(48)), resize=resize, golden={})
    graph = b"".join(field(*part) for part in [*parts, (2, b"graph")])
    description = field(14, field(1, b"petinfer") + field(2, spec.to_json().encode()))
    return number(1, 10) + field(7, graph) + field(8, number(2, 18)) + description + b"".join(extra)


def test_a_sound_model_is_loaded(tmp_path: Path, cat_photo: Path) -> None:
    (tmp_path / "sound.onnx").write_bytes(model(SOUND))
    assert len(Classifier(tmp_path / "sound.onnx").predict(cat_photo).probabilities) == 48


def subgraph(*parts: tuple[int, bytes]) -> bytes:
    """The attribute of an If whose graph has these fields."""
    return field(1, b"then_branch") + field(6, b"".join(field(*part) for part in parts)) + number(20, 5)


def nested(depth: int) -> bytes:
    """A node with a graph in it, with a node with a graph in it …"""
    return node("If", subgraph((NODE, nested(depth - 1)))) if depth else node("Relu")


CONSTANT = field(1, b"value") + field(5, tensor("hidden", EXTERNAL)) + number(20, 4)
SPARSE_TENSOR = field(1, tensor("sparse values", EXTERNAL)) + field(2, tensor("indices"))
OTHER = "is stored in another file"
HOSTILE = {
    "an external tensor": ([(INITIALIZER, tensor("weight", EXTERNAL))], f"its tensor 'weight' {OTHER}"),
    "an external tensor without a place": (
        [(INITIALIZER, tensor("weight", number(14, 1)))], f"its tensor 'weight' {OTHER}"),
    "a large external tensor": ([(INITIALIZER, tensor("big", field(9, bytes(9999)), EXTERNAL))], f"its tensor 'big' {OTHER}"),
    "an external tensor with a long tag": (
        [(INITIALIZER, tensor("weight", b"\xf0\x00\x01"))], f"its tensor 'weight' {OTHER}"),
    "an external tensor with a long number": (
        [(INITIALIZER, tensor("weight", b"\x70\x81\x00"))], f"its tensor 'weight' {OTHER}"),
    "a sparse external tensor": ([(SPARSE, SPARSE_TENSOR)], f"its tensor 'sparse values' {OTHER}"),
    "a sparse external constant": (
        [(NODE, node("Constant", field(1, b"sparse_value") + field(22, SPARSE_TENSOR) + number(20, 11)))],
        f"its tensor 'sparse values' {OTHER}"),
    "an external constant": ([(NODE, node("Constant", CONSTANT))], f"its tensor 'hidden' {OTHER}"),
    "the same twice, in a subgraph": (
        [(NODE, node("If", subgraph((NODE, node("Constant", CONSTANT)))))], f"its tensor 'hidden' {OTHER}"),
    "an unknown operator": ([(NODE, node("Frobnicate"))], "its operator 'Frobnicate' of the domain 'ai.onnx' is unknown"),
    "a loop": ([(NODE, node("Loop"))], "its operator 'Loop' of the domain 'ai.onnx' is unknown"),
    "no operator": ([(NODE, node(""))], "its operator '' of the domain 'ai.onnx' is unknown"),
    "an operator that reads a file": (
        [(NODE, node("EPContext", domain="com.microsoft"))],
        "its operator 'EPContext' of the domain 'com.microsoft' is unknown"),
    "a domain of somebody's": (
        [(NODE, node("Relu", domain="com.example"))], "its operator 'Relu' of the domain 'com.example' is unknown"),
    "an unknown operator in a subgraph": (
        [(NODE, node("If", subgraph((NODE, node("Relu", domain="x")))))], "its operator 'Relu' of the domain 'x' is unknown"),
    "a name that controls the terminal": (
        [(NODE, node("\x1b[2J"))], "its operator '\\x1b[2J' of the domain 'ai.onnx' is unknown"),
    "graphs in graphs": ([(NODE, nested(200))], "nests graphs more than 8 deep"),
    "another input": ([(INPUT, value("mask", 1, 4))], "its inputs are 'image' uint8 with 4 dimensions, 'mask' float32 with 1 "
     "dimensions, expected 'image' uint8 with 4 dimensions"),
    "another output": ([(OUTPUT, value("secret", 7, 4))], "its outputs are 'probabilities' float32 with 2 dimensions, 'logits' "
     "float32 with 2 dimensions, 'secret' int64 with 1 dimensions, expected 'logits' float32 with 2 dimensions, "
     "'probabilities' float32 with 2 dimensions"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_graph_is_refused_by_the_name_of_the_entry(what: str, tmp_path: Path) -> None:
    parts, problem = HOSTILE[what]
    path = tmp_path / "hostile.onnx"
    path.write_bytes(model([*SOUND, *parts]))
    with pytest.raises(ModelError) as caught:
        Classifier(path)
    assert str(caught.value) == f"{path}: {problem} (python -m export writes model files)"


def test_long_names_and_names_that_are_not_utf8_are_shortened(tmp_path: Path) -> None:
    path = tmp_path / "long.onnx"
    for parts, problem in (
        ([*SOUND, (INPUT, value("x" * 61, 1))], f"expected 'image'|, '{'x' * 60}' float32 with 0 dimensions"),
        ([*SOUND, (NODE, field(4, b"\xff" * 61))], f"its operator '{chr(0xFFFD) * 60}' of the domain"),
        ([*SOUND, (INITIALIZER, tensor("w" * 61, EXTERNAL))], f"its tensor '{'w' * 60}' is stored"),
    ):
        path.write_bytes(model(parts))
        with pytest.raises(ModelError) as refused:
            check_graph(path)
        assert all(each in str(refused.value) for each in problem.split("|"))


WRONG = {
    "no input": ([*SOUND[:3], *SOUND[4:]], "its inputs are none, expected"),
    "an input of another name": ([*SOUND, (INPUT, value("x", 2, "batch", 4, 4, 3))], "its inputs are 'image' uint8 with"),
    "a float input": ([*SOUND[:3], (INPUT, value("image", 1, "n", 4, 4, 3)), *SOUND[4:]], "its inputs are 'image' float32"),
    "an input of two dimensions": ([*SOUND[:3], (INPUT, value("image", 2, "n", 4)), *SOUND[4:]], "'image' uint8 with 2 dimen"),
    "an input without a name": ([*SOUND, (INPUT, field(2, b""))], "'' of another type with 0 dimensions"),
    "an output missing": (SOUND[:5], "its outputs are 'probabilities' float32 with 2 dimensions, expected"),
    "an output of float64": ([*SOUND[:5], (OUTPUT, value("logits", 11, "batch", 48))], "'logits' float64 with 2 dimensions"),
    "an output without a type": ([*SOUND[:5], (OUTPUT, field(1, b"logits"))], "'logits' of another type with 0 dimensions"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_other_inputs_and_outputs_are_refused(what: str, tmp_path: Path) -> None:
    parts, problem = WRONG[what]
    (tmp_path / "wrong.onnx").write_bytes(model(parts))
    with pytest.raises(ModelError, match=r"wrong\.onnx: its (in|out)puts are ") as caught:
        Classifier(tmp_path / "wrong.onnx")
    assert problem in str(caught.value)


def test_functions_of_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "functions.onnx").write_bytes(model(SOUND, field(25, field(1, b"f"))))
    with pytest.raises(ModelError, match=r"functions\.onnx: defines functions of its own"):
        Classifier(tmp_path / "functions.onnx")


def test_a_graph_in_two_parts_is_checked_whole(tmp_path: Path) -> None:
    """Protobuf joins messages that occur twice."""
    hidden = field(7, field(NODE, node("Relu", domain="com.example")))
    (tmp_path / "parts.onnx").write_bytes(model(SOUND, hidden))
    with pytest.raises(ModelError, match=r"its operator 'Relu' of the domain 'com\.example' is unknown"):
        Classifier(tmp_path / "parts.onnx")


def test_a_tag_of_more_than_32_bits_is_refused(tmp_path: Path) -> None:
    """Protobuf drops the bits above: of this one, field 7 remains, the graph."""
    hidden = field(NODE, node("Relu", domain="com.example"))
    tag = bytes([7 << 3 | 2 | 128, 128, 128, 128, 0x10])
    (tmp_path / "tag.onnx").write_bytes(model(SOUND, tag + bytes([len(hidden)]) + hidden))
    with pytest.raises(ModelError, match="not an ONNX model, or damaged"):
        Classifier(tmp_path / "tag.onnx")


def test_onnxruntime_is_not_called_for_a_refused_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("onnxruntime was called")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    (tmp_path / "external.onnx").write_bytes(model([*SOUND, (INITIALIZER, tensor("weight", EXTERNAL))]))
    with pytest.raises(ModelError, match="its tensor 'weight'"):
        Classifier(tmp_path / "external.onnx")


def test_a_missing_or_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        check_graph(tmp_path / "absent.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelError, match="not an ONNX model, or damaged"):
        check_graph(tmp_path / "empty.onnx")


def test_answers_of_another_shape_than_declared_are_an_error(tmp_path: Path, cat_photo: Path) -> None:
    """The file declares 48 answers a photo. A shape that is computed, so that onnxruntime cannot know it, makes 16 of them."""
    shape = number(1, 2) + number(2, 7) + field(8, b"shape") + field(9, struct.pack("<2q", -1, 16))
    zero = number(2, 7) + field(8, b"zero") + field(9, bytes(8))
    dynamic = [
        node("ReduceMax", field(1, b"keepdims") + number(3, 0) + number(20, 2), inputs="float", outputs="largest"),
        node("Cast", field(1, b"to") + number(3, 7) + number(20, 2), inputs="largest", outputs="integer"),
        node("Mul", inputs="integer zero", outputs="nothing"),
        node("Add", inputs="nothing shape", outputs="computed"),
        node("Reshape", inputs="float computed", outputs="logits"),
    ]
    parts = [*SOUND[:1], *((NODE, each) for each in dynamic), *SOUND[2:], (INITIALIZER, shape), (INITIALIZER, zero)]
    (tmp_path / "other.onnx").write_bytes(model(parts))
    with pytest.raises(ModelError, match=r"its probabilities have the shape \[3, 16\] for 1 photos and 48 labels"):
        Classifier(tmp_path / "other.onnx").predict(cat_photo)
