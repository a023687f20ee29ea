"""A contender in a process of its own: its threads and libraries cannot reach into another contender's measurements.

`Worker` is the asking side. The process itself runs ``python -m benchmarks.worker FILE_DESCRIPTOR``, which loads one contender
and answers one request at a time.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .conversions import REPOSITORY
from .measurement import Contender, ContenderError, Named, reason_of

Build = Callable[[], Contender]  # a function of a module, or a partial of one, because it is sent to the process

LOADING = 300.0  # s, for torch.compile
ANSWERING = 120.0  # s
RESTING = 0.1  # of a core: a process that uses less is at rest
_DIE_WITH_PARENT = 1  # Linux: PR_SET_PDEATHSIG


class Worker(Named):
    """A process that has loaded one contender. It computes only while a method of this class runs.

    Raises, from each method:
        ContenderError: the contender raised an error, its process ended, or there was no answer in time. The worker is then
            closed.
    """

    def __init__(self, build: Build, loading: float = LOADING, answering: float = ANSWERING) -> None:
        self.stopped = False
        self._answering = answering
        self._connection, theirs = Pipe()
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", str(theirs.fileno())]
        # what its libraries print goes to standard error
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=2
        )
        theirs.close()
        super().__init__(*self._ask("open", build, limit=loading))

    def load(self, inputs: Sequence[Any], warm_up: int = 3) -> None:
        """Send the inputs, which the process prepares, and let it run on the first few, ``warm_up`` times in all."""
        self._ask("load", list(inputs), warm_up)

    def measure(self, place: int, untimed: int = 1) -> float:
        """Seconds for one run on an input, after ``untimed`` runs on it, which wake its threads and fill the caches."""
        return float(self._ask("measure", place, untimed))

    def answer(self) -> Any:
        """What the last run decided."""
        return self._ask("answer")

    def answers(self) -> list[int]:
        """The class index of each input."""
        return list(self._ask("answers"))

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far; not a number where the system does not tell, which is not Linux."""
        try:
            return time.clock_gettime((~self._process.pid << 3) | 2)  # clock_getcpuclockid(3)
        except OSError:
            return float("nan")

    def is_resting(self, interval: float) -> bool:
        """Whether all its threads sleep now and slept over the last ``interval`` seconds; False where Linux does not tell.

        On a busy machine a thread that polls may get no core for a while, so its state counts as well as its CPU time.
        """
        before = self.cpu_seconds()
        time.sleep(interval)
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/stat")
        try:
            states = [file.read_text().rpartition(")")[2].split()[0] for file in threads]
        except (OSError, IndexError):  # a thread has just ended
            return False
        return "R" not in states and self.cpu_seconds() - before < RESTING * interval

    def stop(self) -> None:
        """Stop the process until its next request."""
        self._process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, request: str, *arguments: Any, limit: float | None = None) -> Any:
        try:
            succeeded, value = self._exchange((request, arguments), limit or self._answering)
            if not succeeded:
                raise ContenderError(value)
        except BaseException:
            self.close()
            raise
        return value

    def _exchange(self, request: tuple[str, tuple[Any, ...]], limit: float) -> tuple[bool, Any]:
        if self.stopped:
            self._process.send_signal(signal.SIGCONT)
            self.stopped = False
        try:
            self._connection.send(request)
            if not self._connection.poll(limit):
                raise ContenderError(f"no answer within {limit:.3g} s")
            reply: tuple[bool, Any] = self._connection.recv()
        except (EOFError, OSError) as error:
            raise ContenderError(f"its process ended with {self._ending()}") from error
        return reply

    def _ending(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "its connection closed"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class Process:
    """The other side of the connection: each method answers the request of its name."""

    contender: Contender

    def open(self, build: Build) -> tuple[str, str]:
        """Load the contender; returns its name and precision, which may depend on the processor."""
        self.contender = build()
        return self.contender.name, self.contender.precision

    def load(self, inputs: list[Any], warm_up: int) -> None:
        """Prepare the inputs and run ``warm_up`` times."""
        self.inputs = [self.contender.prepare(each) for each in inputs]
        for i in range(warm_up):
            self.contender.run(self.inputs[i % len(inputs)])

    def measure(self, place: int, untimed: int) -> float:
        """Seconds for one run."""
        for _ in range(untimed):
            self.contender.run(self.inputs[place])
        start = time.perf_counter()
        self.last = self.contender.run(self.inputs[place])
        return time.perf_counter() - start

    def answer(self) -> Any:
        """What the last run decided."""
        return self.contender.decide(self.last)

    def answers(self) -> list[Any]:
        """What it decides on each input."""
        return [self.contender.decide(self.contender.run(each)) for each in self.inputs]


def serve(connection: Connection) -> None:
    """Answer requests until the connection is closed."""
    process = Process()
    while True:
        try:
            request, arguments = connection.recv()
        except EOFError:
            return
        try:
            reply = (True, getattr(process, request)(*arguments))
        except Exception as error:  # a rival may fail in any way
            reply = (False, reason_of(error))
        connection.send(reply)


def die_with_parent() -> None:
    """Have the system end this process with its parent: a stopped process would not see that the connection is closed."""
    import ctypes

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the asking side, and that ends this process
    serve(Connection(int(sys.argv[1])))
