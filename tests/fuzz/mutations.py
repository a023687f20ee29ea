"""Changes to a photo's bytes, as damage and attackers make them."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_PNG = b"\x89PNG\r\n\x1a\n"
_NUMBERS = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\xff\xff",
    b"\0\0",
    b"\x7f\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\1",
)


def mutate(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """The file with one to four changes; ``other`` is a file to take parts from. Half of the PNGs get right checksums."""
    for _ in range(random.integers(1, 5)):
        data = _change(data, other, random)
    return with_checksums(data) if random.random() < 0.5 else data


def _change(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """Bytes replaced, removed, repeated, or taken from the other file; or the file's end cut off."""
    start = int(random.integers(0, len(data) + 1))
    end = min(len(data), start + int(random.integers(1, 17)))
    from_other = int(random.integers(0, len(other)))
    choices = (
        data[:start] + random.bytes(end - start) + data[end:],
        data[:start] + _NUMBERS[random.integers(len(_NUMBERS))] + data[end:],
        data[:start] + _NUMBERS[random.integers(len(_NUMBERS))] + data[start + 1 :],
        data[:start] + data[end:],
        data[:end] + data[start:end] * int(random.integers(1, 200)) + data[end:],
        data[:start] + other[from_other : from_other + (end - start)] + data[end:],
        data[:start] + other[from_other:],
        data[:start],
    )
    return choices[random.integers(len(choices))]


def with_checksums(data: bytes) -> bytes:
    """A PNG with the checksum of each chunk computed anew, without which Pillow reads no further; other files as they are."""
    if not data.startswith(_PNG):
        return data
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        parts += [data[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + length
    return b"".join(parts)
