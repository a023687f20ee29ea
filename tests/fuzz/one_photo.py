"""What must hold for any bytes that are given as a photo: pixels or a PhotoError, in bounded time and memory."""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from petinfer import PhotoError
from petinfer.image import fit, read
from petinfer.spec import CHANNELS, METHODS, ORIENTATIONS, Resize

MAX_SECONDS, MAX_BYTES = 10.0, 1e9
_WAYS = list(product(METHODS, ORIENTATIONS, (None, 448), CHANNELS))
_MEASURES_MEMORY = sys.platform == "linux"


@dataclass(frozen=True)
class Outcome:
    """How one photo was read."""

    error: str
    """The message of the PhotoError; empty for a photo that gave pixels."""
    seconds: float
    """Time of the processor; the clock would count other programs too."""
    peak_bytes: int
    """Most memory that reading it added to the process; 0 on systems other than Linux."""


def read_photo(data: bytes) -> Outcome:
    """Read a photo in one of the ways that a model file can ask for, chosen by its content.

    Raises:
        AssertionError: it took longer than 10 s or more than 1 GB, or its pixels are of another type or shape.
        Exception: anything but a PhotoError came out of petinfer.
    """
    method, orientation, min_decode_size, mode = _WAYS[zlib.crc32(data) % len(_WAYS)]
    before = _reset_peak()
    begin, error = time.process_time(), ""
    try:
        image = read(data, orientation, min_decode_size, mode=mode)
        found = fit(image, Resize(224, 224, method), "photo")
        assert (found.dtype, found.shape) == (np.uint8, (224, 224, CHANNELS[mode]))
    except PhotoError as refused:
        error = str(refused)
    outcome = Outcome(error, time.process_time() - begin, _peak() - before)
    assert len(error.splitlines()) <= 1, f"an error of several lines: {error!r}"
    assert outcome.seconds < MAX_SECONDS, f"{outcome.seconds:.1f} s"
    assert outcome.peak_bytes < MAX_BYTES, f"{outcome.peak_bytes / 1e6:.0f} MB"
    return outcome


def peak_bytes(run: Callable[[], object]) -> int:
    """Most memory that a function added to the process; 0 on systems other than Linux."""
    before = _reset_peak()
    run()
    return _peak() - before


def _reset_peak() -> int:
    if _MEASURES_MEMORY:
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    if not _MEASURES_MEMORY:
        return 0
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
