"""Which operators of a model file take the time, with one thread and with several, by onnxruntime's profiler.

usage: python -m benchmarks.operators [--model FILE] [--threads 2] [--runs 100]

Profiling itself adds a microsecond or so to each operation, so small ones look larger than they are.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnxruntime

from petinfer.bench.machine import processor_name
from petinfer.session.model_file import read_spec
from petinfer.session.opening import model_path, session_options

from .question import HELP

_KERNEL = "_kernel_time"
_LEAST = 0.01  # of the whole time: operators that take less are summed up


@dataclass(frozen=True)
class Operator:
    """What all operations of one kind take in a run."""

    operations: int
    microseconds: float


@click.command(context_settings=HELP)
@click.option("--model", help="A model file, or lite. Default: the bundled model.")
@click.option("--threads", type=click.IntRange(2), default=2, show_default=True)
@click.option("--runs", type=click.IntRange(1), default=100, show_default=True)
def main(model: str | None, threads: int, runs: int) -> None:
    """Print the median time of each kind of operator in a run, with one thread and with several."""
    path = model_path(model)
    alone, together = (profile(path, count, runs) for count in (1, threads))
    total = _sum(alone.values())
    click.echo(f"{processor_name()}, {path.name}")
    click.echo(_line("microseconds", "number", "1 thread", f"{threads} threads", "speed-up"))
    small = [name for name, each in alone.items() if each.microseconds < _LEAST * total.microseconds]
    for name, each in sorted(alone.items(), key=lambda item: -item[1].microseconds):
        if name not in small:
            click.echo(_compared(name, each, together[name]))
    click.echo(_compared("others", *(_sum(found[name] for name in small) for found in (alone, together))))
    click.echo(_compared("all", total, _sum(together.values())))


def profile(path: Path, threads: int, runs: int) -> dict[str, Operator]:
    """The kinds of operators of a model file, after onnxruntime's optimizations, and their times on one image."""
    image = np.random.default_rng(0).integers(0, 256, (1, *read_spec(path).pixels_shape), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(["probabilities"], {"image": image})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    durations: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        if event["name"].endswith(_KERNEL):
            durations[event["args"]["op_name"], event["name"]].append(event["dur"])
    kinds: dict[str, list[float]] = defaultdict(list)
    for (kind, _), times in durations.items():
        kinds[kind].append(statistics.median(times))
    return {kind: Operator(len(times), sum(times)) for kind, times in kinds.items()}


def _sum(found: Iterable[Operator]) -> Operator:
    chosen = list(found)
    return Operator(sum(each.operations for each in chosen), sum(each.microseconds for each in chosen))


def _compared(name: str, alone: Operator, together: Operator) -> str:
    speed_up = alone.microseconds / together.microseconds if together.microseconds else 1.0
    times = (f"{each.microseconds:,.0f}" for each in (alone, together))
    return _line(name, str(alone.operations), *times, f"{speed_up:.2f}")


def _line(name: str, *values: str) -> str:
    return f"{name:20}" + "".join(f"{value:>12}" for value in values)


if __name__ == "__main__":
    main()
