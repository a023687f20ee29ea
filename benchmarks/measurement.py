"""How every question measures: contenders take turns, ratios are taken pair by pair, and rows record the results."""

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
Seconds = dict[str, list[float]]  # by contender's title, a value per round


@dataclass(frozen=True)
class Row:
    """One contender's result: a line of the CSV."""

    question: str
    contender: str
    precision: str
    threads: int
    photo: str
    n: int
    """Number of measurements."""
    median: float
    p90: float
    unit: str
    ratio_to_reference: float
    """Median of the ratios round by round; the two values of a ratio were measured within about a second."""
    reference: str
    answers: int = 0
    """Number of photos whose label was compared with the Learner's."""
    answers_differ: int = 0


COLUMNS = tuple(entry.name for entry in fields(Row))


@dataclass(frozen=True)
class Setting:
    """What the rows of one comparison have in common."""

    question: str
    threads: int
    """0 if each contender chooses its own number."""
    photo: str = ""
    unit: str = "ms"


class WrongAnswerError(Exception):
    """A contender that must answer as the Learner does answered something else, so its time means nothing."""


def _unchanged(photo: Any) -> Any:
    return photo


def _most_probable(scores: Any) -> int:
    import numpy as np  # here, because the parent process of a cold start must stay small

    return int(np.asarray(scores).argmax())


@dataclass(frozen=True)
class Contender:
    """Something that classifies."""

    name: str
    precision: str
    run: Callable[[Any], Any]
    """This is timed."""
    prepare: Callable[[Any], Any] = _unchanged
    """Prepares an input for ``run``; not timed."""
    decide: Callable[[Any], int] = _most_probable
    """The class index in the output of ``run``."""

    @property
    def title(self) -> str:
        """Name and precision."""
        return f"{self.name} {self.precision}"


@dataclass
class Findings:
    """The rows of a question, and a line for each contender that could not take part."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def attempt(self, name: str, build: Callable[[], Built]) -> list[Built]:
        """The result of ``build`` in a list. If it fails, an empty list, and a line that says why."""
        try:
            return [build()]
        except ModuleNotFoundError as error:
            reason = f"{error.name} is not installed"
        except Exception as error:  # a rival may fail in any way; the others still take part
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        self.skip(name, reason)
        return []

    def skip(self, name: str, reason: str) -> None:
        """Record and print, once, that a contender does not take part."""
        line = f"{name}: skipped: {reason}"
        if line not in self.skipped:
            self.skipped.append(line)
            print(line, file=sys.stderr)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Findings:
        """Read a file that `save` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls([Row(**row) for row in content["rows"]], content["skipped"])


def count_different(contender: Contender, inputs: Sequence[Any], expected: Sequence[int]) -> int:
    """The number of inputs on which a contender's class is not the expected one, the Learner's.

    Raises:
        WrongAnswerError: the contender computes in fp32 and there is one.
    """
    found = [contender.decide(contender.run(contender.prepare(each))) for each in inputs]
    wrong = [i for i, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other]
    if wrong and contender.precision == "fp32":
        raise WrongAnswerError(f"{contender.title}: another label than the Learner's on photos {wrong}")
    return len(wrong)


def measure_in_turns(contenders: Sequence[Contender], inputs: Sequence[Any], rounds: int, title: str) -> Seconds:
    """Time every contender once per round, on the round's input, in a new random order each round; 3 runs of warm-up."""
    prepared = {each.title: [each.prepare(photo) for photo in inputs] for each in contenders}
    for each in contenders:
        for i in range(3):
            each.run(prepared[each.title][i % len(inputs)])
    seconds: Seconds = {each.title: [] for each in contenders}
    order, generator = list(contenders), random.Random(0)
    for done in range(rounds):
        generator.shuffle(order)
        for each in order:
            seconds[each.title].append(time_one(each, prepared[each.title][done % len(inputs)]))
        show_progress(title, done + 1, rounds)
    return seconds


def time_one(contender: Contender, prepared: Any) -> float:
    """Seconds for one run, after the threads of earlier runs are idle."""
    wait_until_idle()
    start = time.perf_counter()
    contender.run(prepared)
    return time.perf_counter() - start


def wait_until_idle(limit: float = 0.2) -> None:
    """Wait until no thread of this process computes, at most ``limit`` seconds.

    The threads of OpenMP and onnxruntime poll for a while after an answer, on a core that the next contender needs.
    """
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(0.004)
        if time.process_time() - before < 0.001:
            return


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios, pair by pair."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def percentile_90(values: Sequence[float]) -> float:
    """The 90th percentile; a single value is its own."""
    return statistics.quantiles(values, n=10, method="inclusive")[-1] if len(values) > 1 else values[0]


def fastest(contenders: Sequence[Contender], seconds: Seconds) -> Contender:
    """The contender with the lowest median."""
    return min(contenders, key=lambda each: statistics.median(seconds[each.title]))


def make_row(
    setting: Setting, contender: Contender, reference: Contender, measured: Seconds, answers: int = 0, differ: int = 0
) -> Row:
    """A contender's row. ``measured`` is in seconds if the unit is milliseconds, otherwise in the unit itself."""
    values = measured[contender.title]
    scaled = [each * (1000 if setting.unit.startswith("ms") else 1) for each in values]
    return Row(
        question=setting.question,
        contender=contender.name,
        precision=contender.precision,
        threads=setting.threads,
        photo=setting.photo,
        n=len(values),
        median=round(statistics.median(scaled), 4),
        p90=round(percentile_90(scaled), 4),
        unit=setting.unit,
        ratio_to_reference=round(median_ratio(values, measured[reference.title]), 5),
        reference=reference.title,
        answers=answers,
        answers_differ=differ,
    )


def show_progress(title: str, done: int, total: int) -> None:
    """One line on standard error that is overwritten each time."""
    print(f"\r{title}: {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
