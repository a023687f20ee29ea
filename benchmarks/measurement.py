"""How all questions measure: contenders in turn, ratios pair by pair, rows that say what was found."""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

Built = TypeVar("Built")
Seconds = dict[str, list[float]]  # of each contender, round by round


@dataclass(frozen=True)
class Row:
    """One contender's result, a line of the CSV."""

    question: str
    contender: str
    precision: str
    threads: int
    photo: str
    n: int
    """How many times it was measured."""
    median: float
    p90: float
    unit: str
    ratio_to_reference: float
    """Median of the ratios round by round: both were measured within the same second or so."""
    reference: str
    answers: int = 0
    """Photos whose label was compared with the Learner's."""
    answers_differ: int = 0


COLUMNS = tuple(entry.name for entry in fields(Row))


class WrongAnswerError(Exception):
    """A contender that should answer as the Learner does answers something else: its time means nothing."""


def _as_it_is(photo: Any) -> Any:
    return photo


def _most_probable(scores: Any) -> int:
    import numpy as np  # here, since the parent of a cold start must stay small

    return int(np.asarray(scores).argmax())


@dataclass(frozen=True)
class Contender:
    """Something that classifies."""

    name: str
    precision: str
    run: Callable[[Any], Any]
    """What is timed."""
    prepare: Callable[[Any], Any] = _as_it_is
    """What is done to an input before, and not timed."""
    decide: Callable[[Any], int] = _most_probable
    """The class, by its place among the labels, in what ``run`` gave."""

    @property
    def title(self) -> str:
        """Its name with its precision, as references are called."""
        return f"{self.name} {self.precision}"


@dataclass
class Findings:
    """The rows of a question, and a line for each contender that could not take part."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def attempt(self, name: str, build: Callable[[], Built]) -> list[Built]:
        """What ``build`` gives, in a list; an empty list, and one line that says why, where it cannot be had here."""
        try:
            return [build()]
        except ModuleNotFoundError as error:
            why = f"{error.name} is not installed"
        except Exception as error:  # a rival may fail in any way; that is no reason to end the others' race
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        self.skip(name, why)
        return []

    def skip(self, name: str, why: str) -> None:
        """Note, and tell, that a contender does not take part."""
        line = f"{name}: skipped: {why}"
        if line not in self.skipped:
            self.skipped.append(line)
            print(line, file=sys.stderr)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Findings:
        """Read what `save` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls([Row(**row) for row in content["rows"]], content["skipped"])


def differing(contender: Contender, inputs: Sequence[Any], expected: Sequence[int]) -> int:
    """On how many inputs a contender's answer is not the Learner's.

    Raises:
        WrongAnswerError: it computes in fp32, and there is one.
    """
    decided = [contender.decide(contender.run(contender.prepare(each))) for each in inputs]
    wrong = [i for i, (mine, learners) in enumerate(zip(decided, expected, strict=True)) if mine != learners]
    if wrong and contender.precision == "fp32":
        raise WrongAnswerError(f"{contender.title}: another label than the Learner's on photos {wrong}")
    return len(wrong)


def in_turn(contenders: Sequence[Contender], inputs: Sequence[Any], rounds: int, title: str) -> Seconds:
    """Every contender once a round, on the round's input, in an order that is drawn anew each round."""
    prepared = {each.title: [each.prepare(photo) for photo in inputs] for each in contenders}
    for each in contenders:
        for i in range(3):
            each.run(prepared[each.title][i % len(inputs)])
    seconds: Seconds = {each.title: [] for each in contenders}
    order, draw = list(contenders), random.Random(0)
    for done in range(rounds):
        draw.shuffle(order)
        for each in order:
            seconds[each.title].append(timed(each, prepared[each.title][done % len(inputs)]))
        show_progress(title, done + 1, rounds)
    return seconds


def timed(contender: Contender, prepared: Any) -> float:
    """Seconds of one run, on a machine where the runs before have come to rest."""
    settle()
    start = time.perf_counter()
    contender.run(prepared)
    return time.perf_counter() - start


def settle(limit: float = 0.2) -> None:
    """Wait until no thread of this process computes.

    The threads of OpenMP and onnxruntime go on spinning for a while after an answer, on a core that the next contender needs.
    """
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(0.004)
        if time.process_time() - before < 0.001:
            return


def median_ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios, pair by pair."""
    return statistics.median(one / other for one, other in zip(mine, theirs, strict=True))


def percentile_90(values: Sequence[float]) -> float:
    """Nine of ten values are at most this; of a single one, itself."""
    return statistics.quantiles(values, n=10, method="inclusive")[-1] if len(values) > 1 else values[0]


def fastest(contenders: Sequence[Contender], seconds: Seconds) -> Contender:
    """The one with the lowest median."""
    return min(contenders, key=lambda each: statistics.median(seconds[each.title]))


def row_of(
    question: str,
    contender: Contender,
    reference: Contender,
    measured: Seconds,
    *,
    threads: int,
    photo: str = "",
    unit: str = "ms",
    answers: int = 0,
    differ: int = 0,
) -> Row:
    """A contender's row; ``measured`` is in seconds where the unit is milliseconds."""
    mine = measured[contender.title]
    scaled = [each * (1000 if unit.startswith("ms") else 1) for each in mine]
    return Row(
        question,
        contender.name,
        contender.precision,
        threads,
        photo,
        len(mine),
        round(statistics.median(scaled), 4),
        round(percentile_90(scaled), 4),
        unit,
        round(median_ratio(mine, measured[reference.title]), 5),
        reference.title,
        answers,
        differ,
    )


def show_progress(title: str, done: int, total: int) -> None:
    """One line on standard error, written over."""
    print(f"\r{title}: {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
