"""The project's goals, and whether the measured rows meet them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .measurement import Row


@dataclass(frozen=True)
class Goal:
    """The largest ratio that one of petinfer's rows may have."""

    description: str
    limit: float
    question: str
    contender: str
    photo: str = ""
    reference: str = ""
    """Part of the reference's name, where a contender is compared with several."""
    precision: str = "int8"

    def matches(self, row: Row) -> bool:
        """Whether this goal applies to a row."""
        return (
            (row.question, row.contender, row.precision) == (self.question, self.contender, self.precision)
            and row.photo.startswith(self.photo)
            and self.reference in row.reference
        )


GOALS = (
    Goal("model step, int8, to the fastest fp32 peer", 0.40, "model step", "petinfer", reference="fp32"),
    Goal("model step, int8, to OpenVINO's int8", 1.05, "model step", "petinfer", reference="int8"),
    Goal("500x375 photo to answer, to learn.predict", 0.30, "photo to answer", "petinfer", "500x375"),
    Goal("12 Mpx photo to answer, exact, to learn.predict", 0.40, "photo to answer", "petinfer", "12 Mpx"),
    Goal("12 Mpx photo to answer, fast, to learn.predict", 0.25, "photo to answer", "petinfer fast", "12 Mpx"),
    Goal("cold start of a process, to fastai's", 0.03, "cold start", "petinfer classify"),
    Goal("peak memory of that process, to fastai's", 0.08, "peak memory", "petinfer classify"),
    Goal(
        "installed size, to fastai and torch",
        0.04,
        "installed size",
        "petinfer with its model",
        reference="fastai and torch ",
        precision="",
    ),
    Goal("folder, whole process, to learn.get_preds", 0.17, "folder", "petinfer classify --jsonl"),
)


def table(rows: Sequence[Row]) -> list[str]:
    """A line per goal and number of threads; ``own`` means that each contender chose its own number."""
    lines = ["", f"{'goal':50}{'threads':>8}{'ratio':>8}{'at most':>9}  to"]
    for goal in GOALS:
        found = [row for row in rows if goal.matches(row)]
        lines += [_line(goal, row) for row in found] or [
            f"{goal.description:50}{'':8}{'–':>8}{goal.limit:9.2f}  not measured"
        ]
    return lines


def _line(goal: Goal, row: Row) -> str:
    met = "met" if row.ratio_to_reference <= goal.limit else "MISSED"
    threads = str(row.threads or "own")
    return f"{goal.description:50}{threads:>8}{row.ratio_to_reference:8.3f}{goal.limit:9.2f}  {met}: {row.reference}"
