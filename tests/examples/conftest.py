"""Examples that run as programs of their own while a test talks to them."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from ..conftest import REPOSITORY, obeys_ctrl_c


class Program:
    """A running program, in a process group of its own, and what it prints on either stream."""

    def __init__(self, *command: object, **environment: str) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,
            preexec_fn=obeys_ctrl_c,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("(the program has ended)")

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """The next line that the pattern matches; fails with the lines before it if none comes in time."""
        seen: list[str] = []
        try:
            while not (found := re.search(pattern, seen[-1] if seen else "")):
                seen.append(self.lines.get(timeout=seconds))
        except queue.Empty:
            raise AssertionError(f"no line matches {pattern!r} in\n{''.join(seen)}") from None
        return found

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(with_signal)
        return self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Program]]:
    """Starts programs; whatever is left of them is killed after the module's tests."""
    programs: list[Program] = []

    def started(*command: object, **environment: str) -> Program:
        programs.append(Program(*command, **environment))
        return programs[-1]

    yield started
    for program in programs:
        try:
            os.killpg(program.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        program.process.wait(timeout=60)
