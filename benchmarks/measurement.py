"""What every question records: ratios taken pair by pair, rows, and contenders that could not take part."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

Built = TypeVar("Built")
AnyNamed = TypeVar("AnyNamed", bound="Named")
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


class ContenderError(Exception):
    """A contender cannot take part, or no longer: its process crashed, did not answer, or raised an error."""


@dataclass(frozen=True)
class Named:
    """What a row says about a contender."""

    name: str
    precision: str

    @property
    def title(self) -> str:
        """Name and precision."""
        return f"{self.name} {self.precision}"


@dataclass(frozen=True)
class Contender(Named):
    """Something that classifies."""

    run: Callable[[Any], Any]
    """This is timed."""
    prepare: Callable[[Any], Any] = _unchanged
    """Prepares an input for ``run``; not timed."""
    decide: Callable[[Any], Any] = _most_probable
    """The class index in the output of ``run``, or a list of them where an input is several photos."""


@dataclass
class Findings:
    """The rows of a question, a line for each contender that could not take part, and what else a reader must know."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def attempt(self, name: str, build: Callable[[], Built]) -> list[Built]:
        """The result of ``build`` in a list. If it fails, an empty list, and a line that says why."""
        try:
            return [build()]
        except WrongAnswerError:
            raise
        except Exception as error:  # a rival may fail in any way; the others still take part
            self.skip(name, reason_of(error))
        return []

    def skip(self, name: str, reason: str) -> None:
        """Record and print, once, that a contender does not take part."""
        line = f"{name}: skipped: {reason}"
        if line not in self.skipped:
            self.skipped.append(line)
            print(line, file=sys.stderr)

    def note(self, line: str) -> None:
        """Record and print a line, once."""
        if line not in self.notes:
            self.notes.append(line)
            print(line, file=sys.stderr)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Findings:
        """Read a file that `save` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls([Row(**row) for row in content["rows"]], content["skipped"], content["notes"])


def reason_of(error: Exception) -> str:
    """Why a contender does not take part, in one line."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    kind = "" if isinstance(error, ContenderError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())[:200]


def count_different(contender: Named, found: Sequence[int], expected: Sequence[int]) -> int:
    """The number of a contender's classes that are not the expected ones, the Learner's.

    Raises:
        WrongAnswerError: the contender computes in fp32 and there is one, or the numbers of photos differ.
    """
    if len(found) != len(expected):
        raise WrongAnswerError(f"{contender.title}: {len(found)} answers for {len(expected)} photos")
    wrong = [i for i, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other]
    if wrong and contender.precision == "fp32":
        raise WrongAnswerError(f"{contender.title}: another label than the Learner's on photos {wrong}")
    return len(wrong)


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios, pair by pair."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def percentile_90(values: Sequence[float]) -> float:
    """The 90th percentile; a single value is its own."""
    return statistics.quantiles(values, n=10, method="inclusive")[-1] if len(values) > 1 else values[0]


def fastest(contenders: Sequence[AnyNamed], seconds: Seconds) -> AnyNamed:
    """The contender with the lowest median."""
    return min(contenders, key=lambda each: statistics.median(seconds[each.title]))


def make_row(
    setting: Setting, contender: Named, reference: Named, measured: Seconds, answers: int = 0, differ: int = 0
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
