"""Reads a model file without onnxruntime: its description, and the ONNX message without the weights.

Given a path, onnxruntime reads the file, copies the weights out of the message, and copies them again for its kernels.
Tensors that ONNX calls external data it maps into memory instead. So the session gets the file's message without its
large tensors, and in their place references to the same file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ModelError
from ..spec import METADATA_KEY, Spec
from .protobuf import field, fields, number

MAX_DESCRIPTION = 2**24  # bytes; the bundled model's takes 6,000
LARGE = 2**12  # bytes from which on a tensor is replaced by a reference
_GRAPH, _METADATA_PROPS = 7, 14  # fields of onnx.ModelProto
_INITIALIZER = 5  # of onnx.GraphProto
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14  # of onnx.TensorProto
_EXTERNAL = 1  # a value of the last
_KEY, _VALUE = 1, 2  # of onnx.StringStringEntryProto

Identity = tuple[int, int, int]


def identity(path: Path) -> Identity:
    """Inode, size and modification time: they change when a file is replaced.

    Raises:
        ModelError: there is no such file.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_spec(path: Path) -> Spec:
    """The description in the file's metadata entry ``petinfer``.

    Raises:
        ModelError: the file is missing, is not an ONNX model, or does not describe itself correctly.
    """
    entry = None
    try:
        with mapped(path) as data:
            for found, _, payload, end in fields(data, 0, len(data)):
                if found == _METADATA_PROPS:
                    places = {key: (begin, after) for key, _, begin, after in fields(data, payload, end)}
                    begin, after = places.get(_KEY, (0, 0))
                    key = data[begin : min(after, begin + 60)]
                    if end - payload > MAX_DESCRIPTION:
                        name = key.decode(errors="replace")
                        problem = f"its metadata entry {name!r} takes {(end - payload) / 1e6:,.0f} MB"
                        raise ModelError(f"{path}: {problem}, over the limit (python -m export writes model files)")
                    if key == METADATA_KEY.encode():
                        entry = data[slice(*places.get(_VALUE, (0, 0)))].decode()
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, IndexError) as error:
        raise damaged(path) from error
    if entry is None:
        raise ModelError(f"{path}: has no description for petinfer (python -m export writes model files)")
    try:
        return Spec.from_json(entry)
    except ModelError as error:
        raise ModelError(str(error).replace("model:", f"{path}:", 1)) from error


def digest(path: Path, written: str) -> str:
    """The sha256 of a model file with zeros in place of ``written``, its digest; equal to it if the file is unchanged."""
    import hashlib  # no other step of a start needs it

    return hashlib.sha256(path.read_bytes().replace(written.encode(), b"0" * 64)).hexdigest()


def strip_weights(path: Path) -> bytes:
    """The file's ONNX message, with each large tensor replaced by a reference to its place in that file.

    Raises:
        OSError: the file cannot be read.
        ValueError, IndexError: it is not an ONNX message.
    """
    with mapped(path) as data:
        return _replaced(data, 0, len(data), (_GRAPH, _INITIALIZER), path.name)


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file's bytes. Raises OSError, and ValueError for an empty file."""
    if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
        raise OSError(None, "not a regular file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def damaged(path: Path) -> ModelError:
    """The error for a file that is not an ONNX message."""
    return ModelError(f"{path}: not an ONNX model, or damaged (python -m export writes model files)")


def unreadable(path: Path, error: OSError) -> ModelError:
    """The error for a file that cannot be opened."""
    problem = "no such model file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
    return ModelError(f"{path}: {problem} (check the path; python -m export writes model files)")


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
                last = _reference(name, payload, after - payload)  # of two data_locations, the last one counts
            kept = after
    return b"".join([*parts, data[kept:end], last])


def _reference(name: str, offset: int, length: int) -> bytes:
    """The fields of a tensor that say where its bytes are."""
    entries = {"location": name, "offset": offset, "length": length}
    pairs = [field(_KEY, key.encode()) + field(_VALUE, str(value).encode()) for key, value in entries.items()]
    return b"".join(field(_EXTERNAL_DATA, pair) for pair in pairs) + number(_DATA_LOCATION, _EXTERNAL)
