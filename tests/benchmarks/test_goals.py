"""Whether measured rows meet the goals."""

from __future__ import annotations

from benchmarks import goals

from .rows import int8_row


def test_a_goal_is_judged_for_each_number_of_threads() -> None:
    lines = goals.table([int8_row(0.25, threads=1), int8_row(0.35, threads=2)])
    judged = [line for line in lines if line.startswith("500x375")]
    assert ["met" in judged[0], "MISSED" in judged[1], len(judged)] == [True, True, 2]


def test_a_goal_without_a_row_is_reported_as_not_measured() -> None:
    assert all(line.endswith("not measured") for line in goals.table([])[2:])
