"""Measures how long petinfer's idle threads should poll for work, next to an idle core and next to a busy one.

usage: python -m benchmarks.spinning [--model FILE] [--rounds 100]

Ratios are to the present setting (petinfer/session/opening.py), round by round. If that is also one of the others, the ratio of
the two shows the noise.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import click
import numpy as np

from petinfer.bench.machine import processor_name
from petinfer.session.model_file import read_spec
from petinfer.session.opening import BUNDLED_MODEL
from petinfer.session.threads import available_cores

from .contenders.network import spinning
from .measurement import ContenderError, Findings, Named, Seconds, Setting, make_row, show_progress
from .question import HELP, table
from .turns import Turns, load, started
from .worker import Build

QUESTION = "spinning"
PRESENT = "the present setting"
SETTINGS = {
    PRESENT: {},
    "none": {"allow_spinning": "0"},
    **{f"{us} µs": {"allow_spinning": "1", "spin_duration_us": str(us)} for us in (20, 100, 500)},
}
NEIGHBOURS = ("idle", "busy")


@click.command(context_settings=HELP)
@click.option("--model", type=click.Path(path_type=Path), default=BUNDLED_MODEL, help="Default: the bundled model.")
@click.option("--rounds", type=click.IntRange(1), default=100, show_default=True, help="Turns of each setting.")
def main(model: Path, rounds: int) -> None:
    """Time petinfer's session with idle threads that poll for none, 20, 100 and 500 µs, each in its own process."""
    threads, resize, findings = available_cores(), read_spec(model).resize, Findings()
    image = np.random.default_rng(0).integers(0, 256, (resize.height, resize.width, 3), np.uint8)
    builds: dict[str, Build] = {
        name: partial(spinning, name, model, threads, entries) for name, entries in SETTINGS.items()
    }
    with started(builds, findings) as workers, busy_process() as neighbour:
        turns = Turns(load(workers, [image], findings), findings)
        seconds = {place: dict[str, list[float]]() for place in NEIGHBOURS}
        for done in range(rounds):
            for place in NEIGHBOURS:
                neighbour.send_signal(SIGCONT if place == "busy" else SIGSTOP)
                take_turns(turns, seconds[place])
            show_progress(QUESTION, done + 1, rounds)
    turns.report()
    click.echo(f"{processor_name()}, {threads} threads")
    for place in NEIGHBOURS:
        setting = Setting(QUESTION, threads, f"{place} neighbour")
        rows = [make_row(setting, Named(name, ""), Named(PRESENT, ""), seconds[place]) for name in SETTINGS]
        click.echo("\n".join(table(rows)))


def take_turns(turns: Turns, seconds: Seconds) -> None:
    """Time every setting once, in random order."""
    for each in random.sample(turns.workers, len(turns.workers)):
        taken = turns.take(each, 0)
        if taken is None:
            raise ContenderError(f"{each.name}: failed (see the messages above)")
        seconds.setdefault(each.title, []).append(taken)


@contextmanager
def busy_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps one core busy whenever it is not stopped."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
