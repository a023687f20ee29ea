"""A model file whose weights stay on disk: onnxruntime maps them into memory where they lie.

Given an ONNX file, onnxruntime reads it, copies the weights out of the message, and copies them once more for its kernels.
What ONNX calls external data it maps instead. So the session gets the file's message without its large tensors, and in
their place references to the very same file.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from .protobuf import field, fields, number

LARGE = 2**12  # bytes of a tensor that is worth a reference
_GRAPH, _INITIALIZER = 7, 5  # fields of onnx.ModelProto and onnx.GraphProto
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14  # of onnx.TensorProto
_EXTERNAL = 1  # a value of the last
_KEY, _VALUE = 1, 2  # of onnx.StringStringEntryProto


def without_weights(path: Path) -> bytes:
    """The ONNX message of a file, its large tensors replaced by references to their place in that file.

    Raises:
        OSError: the file cannot be read.
        ValueError, IndexError: it is no such message.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _replaced(data, 0, len(data), (_GRAPH, _INITIALIZER), path.name)


def _replaced(data: mmap.mmap, start: int, end: int, inside: tuple[int, ...], name: str) -> bytes:
    """The message at ``start`` to ``end``; ``inside`` are the fields that lead from it to tensors."""
    wanted = inside[0] if inside else _RAW_DATA
    parts, last, kept = [], b"", start
    for found, begin, payload, after in fields(data, start, end):
        if found == wanted and after - payload >= LARGE:
            parts.append(data[kept:begin])
            if inside:
                parts.append(field(found, _replaced(data, payload, after, inside[1:], name)))
            else:
                last = _reference(name, payload, after - payload)  # of two data_locations, the last counts
            kept = after
    return b"".join([*parts, data[kept:end], last])


def _reference(name: str, offset: int, length: int) -> bytes:
    """The fields of a tensor that say where its bytes are."""
    entries = {"location": name, "offset": offset, "length": length}
    pairs = [field(_KEY, key.encode()) + field(_VALUE, str(value).encode()) for key, value in entries.items()]
    return b"".join(field(_EXTERNAL_DATA, pair) for pair in pairs) + number(_DATA_LOCATION, _EXTERNAL)
