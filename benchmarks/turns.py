"""Contenders take turns: one computes at a time, and the others' threads sleep, which is measured."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .measurement import ContenderError, Findings, Seconds, show_progress
from .worker import ANSWERING, Build, Worker

INTERVAL = 0.005  # s
PATIENCE = 0.3  # s, after which a process that is not at rest is stopped
DISTURBING = 0.02  # of a core, used by a waiting contender over the time of all other turns

Recipes = Mapping[str, Build]


@contextmanager
def started(recipes: Recipes, findings: Findings, answering: float = ANSWERING) -> Iterator[list[Worker]]:
    """A worker for each contender that can take part; their processes end with the context. Titles are unique.

    Args:
        recipes: what builds each contender, by the name that a failure is reported under.
        findings: receives a line for each that fails.
        answering: seconds within which it must answer a request.
    """
    workers: dict[str, Worker] = {}
    try:
        for name, build in recipes.items():
            for each in findings.attempt(name, partial(Worker, build, answering=answering)):
                if each.title in workers:  # OpenVINO's default precision may be fp32
                    each.close()
                else:
                    workers[each.title] = each
                    rest(each, findings)
        yield list(workers.values())
    finally:
        for each in workers.values():
            each.close()


def load(workers: Sequence[Worker], inputs: Sequence[Any], findings: Findings, warm_up: int = 3) -> list[Worker]:
    """Give all workers the same inputs, one after the other; returns those that ran on them."""
    loaded = []
    for each in workers:
        if findings.attempt(each.title, partial(each.load, inputs, warm_up)):
            loaded.append(each)
            rest(each, findings)
    return loaded


def rest(worker: Worker, findings: Findings) -> None:
    """Wait until a worker's threads sleep. If they do not, stop its process until its next turn, and note that.

    The threads of OpenMP, TBB and onnxruntime poll for a while after an answer, on a core that the next contender needs.
    """
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        if worker.is_resting(INTERVAL):
            return
    worker.stop()
    findings.note(f"{worker.title}: computes for over {PATIENCE} s after an answer, so it is stopped between its turns")


@dataclass
class Turns:
    """The turns of a comparison, and the CPU time that waiting workers used meanwhile."""

    workers: list[Worker]
    findings: Findings
    untimed: int = 1
    """Runs before each timed one."""
    _seconds: float = 0.0
    _waiting: dict[str, float] = field(default_factory=dict)

    def take(self, worker: Worker, place: int, resting: bool = True) -> float | None:
        """Seconds for one run of a worker on an input. None if it failed: it takes no more turns.

        Without ``resting``, the next turn begins at once, while this worker's threads may still poll.
        """
        others = [each for each in self.workers if each is not worker]
        before = [each.cpu_seconds() for each in others]
        start = time.perf_counter()
        measured = self.findings.attempt(worker.title, partial(worker.measure, place, self.untimed))
        self._seconds += time.perf_counter() - start
        for each, used in zip(others, before, strict=True):
            self._waiting[each.title] = self._waiting.get(each.title, 0.0) + each.cpu_seconds() - used
        if not measured:
            self.workers.remove(worker)
        elif resting:
            rest(worker, self.findings)
        return measured[0] if measured else None

    def find(self, title: str) -> Worker:
        """The worker that the others are compared with.

        Raises:
            ContenderError: it failed.
        """
        for each in self.workers:
            if each.title == title:
                return each
        raise ContenderError(f"{title}: failed, and the others are compared with it (see the messages above)")

    def report(self) -> None:
        """Note each worker that computed during the others' turns."""
        for title, used in self._waiting.items():
            if used > DISTURBING * self._seconds:
                share = f"{used / self._seconds:.0%} of a core"
                self.findings.note(f"{title}: used {share} during the others' turns, so their times are too long")


def measure_in_turns(turns: Turns, inputs: int, rounds: int, title: str) -> Seconds:
    """Time every worker once per round, on the round's input, in a new random order each round.

    Returns:
        Seconds by contender; none of those that failed, whose values would not be pairs of the others'.
    """
    seconds: Seconds = {each.title: [] for each in turns.workers}
    generator = random.Random(0)
    for done in range(rounds):
        for each in generator.sample(turns.workers, len(turns.workers)):
            taken = turns.take(each, done % inputs)
            if taken is None:
                del seconds[each.title]
            else:
                seconds[each.title].append(taken)
        show_progress(title, done + 1, rounds)
    turns.report()
    return seconds
