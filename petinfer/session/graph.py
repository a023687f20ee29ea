"""Checks a model file's graph before onnxruntime parses it: it may not use other files or unknown operators."""

from __future__ import annotations

from mmap import mmap
from pathlib import Path
from typing import NamedTuple, TypeAlias

from ..errors import ModelError
from .model_file import damaged, mapped, unreadable
from .operators import OPERATORS
from .protobuf import fields, read_number

_FLOAT32, _UINT8 = 1, 2  # values of onnx.TensorProto.DataType
_TYPES = {_FLOAT32: "float32", _UINT8: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}

_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25  # fields of onnx.ModelProto
_NODES, _INITIALIZERS, _INPUTS, _OUTPUTS, _SPARSE_INITIALIZERS = 1, 5, 11, 12, 15  # of onnx.GraphProto
_OPERATOR, _ATTRIBUTE, _DOMAIN = 4, 5, 7  # of onnx.NodeProto
_TENSORS, _GRAPHS, _SPARSE_TENSORS = (5, 10), (6, 11), (22, 23)  # of onnx.AttributeProto, each single and repeated
_SPARSE_PARTS = (1, 2)  # of onnx.SparseTensorProto: values, indices
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14  # of onnx.TensorProto
_NAME, _TYPE, _TENSOR_TYPE, _ELEMENT_TYPE, _SHAPE, _DIMENSION = 1, 2, 1, 1, 2, 1  # from onnx.ValueInfoProto inwards
_DEEPEST = 8  # graphs within graphs
_COPIED = 2**12  # bytes up to which a part is copied: bytes are read faster than a mapped file

_Data: TypeAlias = bytes | mmap


class Value(NamedTuple):
    """An input or output of the graph."""

    name: str
    type: int
    dimensions: int

    def __str__(self) -> str:
        return f"{self.name[:60]!r} {_TYPES.get(self.type, 'of another type')} with {self.dimensions} dimensions"


INPUTS = [Value("image", _UINT8, 4)]
OUTPUTS = [Value("logits", _FLOAT32, 2), Value("probabilities", _FLOAT32, 2)]
OPTIONAL_OUTPUTS = [Value("familiarity", _FLOAT32, 1), Value("features", _FLOAT32, 2), Value("heat", _FLOAT32, 3)]


def check_graph(path: Path) -> None:
    """Refuse a file that onnxruntime should not parse.

    Raises:
        ModelError: it is missing or damaged, keeps data in other files, uses an operator that is not in `OPERATORS`,
            defines functions, or has other inputs or outputs than a model file.
    """
    try:
        with mapped(path) as data:
            _Graph().check_model(data)
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, IndexError) as error:
        raise damaged(path) from error
    except ModelError as error:
        raise ModelError(f"{path}: {error} (python -m export writes model files)") from None


class _Graph:
    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.checked: set[bytes] = set()
        """Small attributes without fault; most nodes have the same few."""

    def check_model(self, data: _Data) -> None:
        for number, _, start, end in fields(data, 0, len(data)):
            if number == _MODEL_GRAPH:
                self.check_graph(data, start, end)
            elif number == _MODEL_FUNCTIONS:
                raise ModelError("defines functions of its own")
        optional = [value for value in OPTIONAL_OUTPUTS if value in self.outputs]
        for what, found, expected in (("inputs", self.inputs, INPUTS), ("outputs", self.outputs, OUTPUTS + optional)):
            if sorted(found) != sorted(expected):
                raise ModelError(f"its {what} are {_listed(found)}, expected {_listed(expected)}")

    def check_graph(self, data: _Data, begin: int, after: int, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise ModelError(f"nests graphs more than {_DEEPEST} deep")
        for number, _, start, end in fields(data, begin, after):
            part = (data[start:end], 0, end - start) if end - start < _COPIED else (data, start, end)
            if number == _NODES:
                self.check_node(*part, depth)
            elif number == _INITIALIZERS:
                _check_tensor(*part)
            elif number == _SPARSE_INITIALIZERS:
                _check_sparse_tensor(*part)
            elif number in (_INPUTS, _OUTPUTS) and not depth:
                (self.inputs if number == _INPUTS else self.outputs).append(_value(data[start:end]))

    def check_node(self, data: _Data, begin: int, after: int, depth: int) -> None:
        operator = domain = b""
        for number, _, start, end in fields(data, begin, after):
            if number == _OPERATOR:
                operator = data[start:end]
            elif number == _DOMAIN:
                domain = data[start:end]
            elif number == _ATTRIBUTE:
                attribute = data[start:end]
                if attribute not in self.checked:
                    self.check_attribute(data, start, end, depth)
                    self.checked.add(attribute)
        if operator not in OPERATORS.get(domain, ()):
            raise ModelError(f"its operator {_short(operator)} of the domain {_short(domain or b'ai.onnx')} is unknown")

    def check_attribute(self, data: _Data, begin: int, after: int, depth: int) -> None:
        for number, _, start, end in fields(data, begin, after):
            if number in _TENSORS:
                _check_tensor(data, start, end)
            elif number in _GRAPHS:
                self.check_graph(data, start, end, depth + 1)
            elif number in _SPARSE_TENSORS:
                _check_sparse_tensor(data, start, end)


def _check_sparse_tensor(data: _Data, begin: int, after: int) -> None:
    for number, _, start, end in fields(data, begin, after):
        if number in _SPARSE_PARTS:
            _check_tensor(data, start, end)


def _check_tensor(data: _Data, begin: int, after: int) -> None:
    name, external = b"", False
    for number, _, start, end in fields(data, begin, after):
        if number == _TENSOR_NAME:
            name = data[start:end]
        elif number == _EXTERNAL_DATA or (number == _DATA_LOCATION and read_number(data, start)):
            external = True
    if external:
        raise ModelError(f"its tensor {_short(name)} is stored in another file")


def _value(data: bytes) -> Value:
    """The input or output that an onnx.ValueInfoProto describes; of an entry given twice, the last."""
    entry = _parts(data)
    tensor = _parts(_parts(entry.get(_TYPE, b"")).get(_TENSOR_TYPE, b""))
    shape = tensor.get(_SHAPE, b"")
    dimensions = sum(number == _DIMENSION for number, *_ in fields(shape, 0, len(shape)))
    kind = tensor.get(_ELEMENT_TYPE, b"\0")
    return Value(entry.get(_NAME, b"").decode(), read_number(kind, 0), dimensions)


def _parts(data: bytes) -> dict[int, bytes]:
    return {number: data[begin:end] for number, _, begin, end in fields(data, 0, len(data))}


def _short(name: bytes) -> str:
    return repr(name[:60].decode(errors="replace"))


def _listed(values: list[Value]) -> str:
    return ", ".join(map(str, values[:5])) or "none"
