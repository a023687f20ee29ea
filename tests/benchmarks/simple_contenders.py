"""Contenders that tests start in workers: small, and one for each way to fail."""

from __future__ import annotations

import os
import signal
import threading
from typing import NoReturn

from benchmarks.measurement import Contender


def parity() -> Contender:
    """Answers whether a number is odd."""
    return Contender("parity", "fp32", lambda number: number % 2, decide=lambda answer: answer)


def another() -> Contender:
    """Answers like `parity`, under another name."""
    return Contender("another", "fp32", lambda number: number % 2, decide=lambda answer: answer)


def polling() -> Contender:
    """A thread of it computes all the time."""
    end = threading.Event()

    def poll() -> None:
        while not end.is_set():
            pass

    threading.Thread(target=poll, daemon=True).start()
    return Contender("polling", "fp32", lambda number: number % 2, decide=lambda answer: answer)


def refusing() -> Contender:
    """Raises an error on each query."""

    def run(number: int) -> NoReturn:
        raise ValueError(f"{number} is refused")

    return Contender("refusing", "fp32", run)


def crashing() -> Contender:
    """Kills its process on each query."""
    return Contender("crashing", "fp32", lambda _: os.kill(os.getpid(), signal.SIGKILL))


def hanging() -> Contender:
    """Never answers a query."""
    return Contender("hanging", "fp32", lambda _: threading.Event().wait())


def missing() -> NoReturn:
    """Needs a package that is not installed."""
    raise ModuleNotFoundError("No module named 'rival'", name="rival")
