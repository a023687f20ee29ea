"""Protobuf's wire format, in which ONNX files are written: fields of a number, a type and a payload, one after the other.

https://protobuf.dev/programming-guides/encoding. petinfer does without the package onnx, which brings protobuf's own code.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def fields(data: bytes | mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the message at ``start`` to ``end``: number, where it begins, where its payload begins, where it ends.

    Raises:
        ValueError, IndexError: there is no such message.
    """
    at = start
    while at < end:
        begin = at
        tag, payload = data[at], at + 1  # most tags and lengths take one byte, for which a call would take too long
        if tag > 127:
            tag, payload = _read_varint(data, at)
            if tag >> 32:  # protobuf's own reader would drop these bits, and see another field
                raise ValueError("a tag of more than 32 bits")
        kind = tag & 7
        if kind == _BYTES:
            length, payload = data[payload], payload + 1
            if length > 127:
                length, payload = _read_varint(data, payload - 1)
            at = payload + length
        elif kind == _VARINT:
            at = payload + 1 if data[payload] < 128 else _read_varint(data, payload)[1]
        elif kind in (_FIXED32, _FIXED64):
            at = payload + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"wire type {kind} is none")
        if at > end:
            raise ValueError("a field ends after its message")
        yield tag >> 3, begin, payload, at


def read_number(data: bytes | mmap, at: int) -> int:
    """The number at ``at``, a field's payload. Raises IndexError, ValueError if there is none."""
    return _read_varint(data, at)[0]


def _read_varint(data: bytes | mmap, at: int) -> tuple[int, int]:
    """The number at ``at``, seven bits a byte, the lowest first; and where it ends."""
    value = shift = 0
    while (byte := data[at]) > 127:
        if shift == 63:
            raise ValueError("a number of more than ten bytes")
        value |= (byte & 127) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1


def field(tag: int, payload: bytes) -> bytes:
    """A field of bytes: a text, or a message."""
    return _varint(tag << 3 | _BYTES) + _varint(len(payload)) + payload


def number(tag: int, value: int) -> bytes:
    """A field of a number."""
    return _varint(tag << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    low = bytearray()
    while value > 127:
        low.append(value & 127 | 128)
        value >>= 7
    return bytes([*low, value])
