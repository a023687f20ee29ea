"""Shows on the terminal how far `petinfer classify` is."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from .formats import Record


def shows_progress(to_file: bool) -> bool:
    """Whether somebody watches standard error, and nothing else writes to the same terminal line by line.

    Args:
        to_file: whether the answers go to a file of ``--output`` rather than to standard output.
    """
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return False
    return to_file or sys.stdout.isatty() or stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)


def with_progress(records: Iterator[Record], total: int) -> Iterator[Record]:
    """The records, with a line on standard error that is not there while the record is written."""
    line, started = _Line(sys.stderr), time.monotonic()
    try:
        line.draw(f"0/{total:,} photos")
        for done, record in enumerate(records, 1):
            line.clear()
            yield record
            left = (time.monotonic() - started) / done * (total - done)
            line.draw(f"{done:,}/{total:,} photos, {done / total:.0%}, {_clock(left)} left")
    finally:
        line.clear()


class _Line:
    """A line of a terminal that can be removed; without escape sequences, which some terminals print."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal, self._width = terminal, 0

    def draw(self, text: str) -> None:
        self._terminal.write(text)
        self._terminal.flush()
        self._width = len(text)

    def clear(self) -> None:
        self._terminal.write("\r" + " " * self._width + "\r")
        self._terminal.flush()
        self._width = 0


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
