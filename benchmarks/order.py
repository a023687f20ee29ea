"""Measures whether the order of the contenders matters: petinfer's int8 alone, first, last, and after each of the others.

usage: python -m benchmarks.order RUN PHOTOS

The rows "at once after X" are measured without the wait for X's threads to sleep.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import learner
from .conversions import Conversions
from .measurement import ContenderError, Findings, Named, Row, Setting, make_row, show_progress
from .model_step import prepared_images, recipes
from .question import command, thread_counts
from .turns import Recipes, Turns, load, started
from .worker import Worker

QUESTION = "order"
OURS = "petinfer int8"
INPUTS = 8
PAUSE = 0.3  # s, in which no contender computes
ALONE, FIRST, LAST = "alone, without other processes", "first, after a pause", "last, after all others"

Images = Sequence[NDArray[np.uint8]]
Times = dict[str, list[float]]  # seconds per round, by position


def ask(conversions: Conversions, rounds: int) -> Findings:
    """Time petinfer's network alone, first, last and after each other contender, on all cores."""
    findings = Findings()
    threads = thread_counts()[-1]
    images = prepared_images(conversions, INPUTS)
    statistics = learner.statistics_of(learner.load(conversions.run))
    builds = recipes(conversions, statistics, threads, findings)
    before = alone(builds, images, rounds, findings)
    with started(builds, findings) as workers:
        times = positions(Turns(load(workers, images, findings), findings), rounds)
    after = alone(builds, images, rounds, findings)
    times[ALONE] = [*before[::2], *after[1::2]]  # half before the others start, half after they have ended
    findings.rows += make_rows(times, rounds, threads)
    return findings


def alone(builds: Recipes, images: Images, rounds: int, findings: Findings) -> list[float]:
    """Seconds per round of petinfer's process while no other contender's exists."""
    with started({OURS: builds[OURS]}, findings) as workers:
        turns = Turns(load(workers, images, findings), findings)
        return [ours(turns, done) for done in range(rounds)]


def ours(turns: Turns, done: int) -> float:
    """Seconds of petinfer's turn in a round. Raises ContenderError if it fails."""
    taken = turns.take(turns.find(OURS), done % INPUTS)
    if taken is None:
        raise ContenderError(f"{OURS}: failed (see the messages above)")
    return taken


def positions(turns: Turns, rounds: int) -> Times:
    """Seconds per round of petinfer's turn in each position but alone."""
    times: Times = {}
    others = [each for each in turns.workers if each.title != OURS]
    for done in range(rounds):
        for name, seconds in one_round(turns, others, done).items():
            times.setdefault(name, []).append(seconds)
        show_progress(QUESTION, done + 1, rounds)
    turns.report()
    return times


def one_round(turns: Turns, others: Sequence[Worker], done: int) -> dict[str, float]:
    """Seconds of petinfer's turn in each position of one round."""
    time.sleep(PAUSE)
    seconds = {FIRST: ours(turns, done)}
    for each in others:
        if each in turns.workers:
            turns.take(each, done % INPUTS)
    seconds[LAST] = ours(turns, done)
    for name, resting in (("after", True), ("at once after", False)):
        for each in others:
            if each in turns.workers and turns.take(each, done % INPUTS, resting) is not None:
                seconds[f"{name} {each.title}"] = ours(turns, done)
    return seconds


def make_rows(times: Times, rounds: int, threads: int) -> list[Row]:
    """A row per position that every round has, compared with the first."""
    measured = {Named(name, "").title: seconds for name, seconds in times.items() if len(seconds) == rounds}
    names = sorted((title.strip() for title in measured), key=lambda name: name not in (ALONE, FIRST, LAST))
    return [make_row(Setting(QUESTION, threads), Named(name, ""), Named(FIRST, ""), measured) for name in names]


main = command(ask, "rounds", 40, "Rounds, and turns of petinfer alone.")

if __name__ == "__main__":
    main()
