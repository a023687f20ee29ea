"""The line that shows how far `petinfer classify` is: when it is there, what it says, and that nothing of it is left."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO, cast

import pytest

from petinfer.cli.progress import shows_progress, with_progress

from .test_cli_terminal import needs_terminal


class Screen(io.StringIO):
    """Standard error, of which a terminal has only what was flushed."""

    sent = ""

    def flush(self) -> None:
        """Send what was written."""
        self.sent = self.getvalue()


def with_screen(patch: pytest.MonkeyPatch, records: Iterator[dict[str, Any]], total: int) -> tuple[Any, Screen]:
    """The records with their progress on a screen, by a clock that goes on by two seconds whenever it is read."""
    patch.setattr("petinfer.cli.progress.time", SimpleNamespace(monotonic=count(100, 2).__next__))
    patch.setattr(sys, "stderr", Screen())
    return with_progress(records, total), cast("Screen", sys.stderr)


def records(number: int) -> Iterator[dict[str, Any]]:
    return iter([{"path": f"{i}.jpg"} for i in range(number)])


def removed(line: str) -> str:
    return f"{line}\r{' ' * len(line)}\r"


def test_the_line_is_removed_while_a_record_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["0/2 photos", "1/2 photos, 50%, 0:02 left", "2/2 photos, 100%, 0:00 left"]
    found, screen = with_screen(monkeypatch, records(2), 2)
    for number in (1, 2):
        assert next(found) == {"path": f"{number - 1}.jpg"}
        assert screen.sent == "".join(map(removed, lines[:number]))
    assert list(found) == []
    assert screen.sent == "".join(map(removed, lines))


def test_each_line_is_sent_while_the_next_photo_is_classified(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    def classified() -> Iterator[dict[str, Any]]:
        for record in records(2):
            sent.append(screen.sent.rpartition("\r")[2])
            yield record

    found, screen = with_screen(monkeypatch, classified(), 2)
    assert len(list(found)) == 2
    assert sent == ["0/2 photos", "1/2 photos, 50%, 0:02 left"]


def test_numbers_have_commas_and_the_time_left_is_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    found, screen = with_screen(monkeypatch, records(1500), 2000)
    assert len(list(found)) == 1500
    assert screen.sent.startswith("0/2,000 photos\r")
    assert screen.sent.endswith(removed("1,500/2,000 photos, 75%, 16:40 left"))


def test_an_early_end_leaves_no_line_and_removes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    found, screen = with_screen(monkeypatch, records(2), 2)
    next(found)
    found.close()
    assert screen.sent == removed("0/2 photos") + "\r\r"


def test_an_error_of_the_next_photo_finds_no_line_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield {"path": "0.jpg"}
        raise MemoryError

    found, screen = with_screen(monkeypatch, failing(), 2)
    with pytest.raises(MemoryError):
        list(found)
    assert screen.sent == removed("0/2 photos") + removed("1/2 photos, 50%, 0:02 left")


@pytest.fixture
def outputs(tmp_path: Path) -> Iterator[dict[str, TextIO | None]]:
    """What standard output and standard error may be."""
    import pty

    ends = (*pty.openpty(), *os.pipe())
    terminal, pipe = (os.fdopen(os.dup(ends[i]), "w") for i in (1, 3))
    with terminal, pipe, (tmp_path / "file").open("w") as file:
        yield {"terminal": terminal, "pipe": pipe, "file": file, "closed": None}
    for end in ends:
        os.close(end)


@needs_terminal
@pytest.mark.parametrize(
    ("errors", "answers", "to_file", "term", "shown"),
    [
        ("terminal", "terminal", False, "xterm", True),
        ("terminal", "file", False, "xterm", True),
        ("terminal", "pipe", False, "xterm", False),  # which may end on the same terminal: | cat
        ("terminal", "pipe", True, "xterm", True),
        ("terminal", "terminal", True, "dumb", False),
        ("file", "terminal", True, "xterm", False),
        ("closed", "terminal", True, "xterm", False),
    ],
)
def test_progress_is_shown_where_it_is_watched_and_alone(
    errors: str,
    answers: str,
    to_file: bool,
    term: str,
    shown: bool,
    outputs: dict[str, TextIO | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", outputs[errors])
    monkeypatch.setattr(sys, "stdout", outputs[answers])
    found = shows_progress(to_file)
    monkeypatch.undo()
    assert found == shown
