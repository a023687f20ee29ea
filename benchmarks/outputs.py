"""What each further output of a model file costs: its time relative to the same file without it.

usage: python -m benchmarks.outputs [--model FILE] [--threads 1] [--rounds 250]

The files differ in their outputs alone, and each run computes all of them. "again" is a second copy of the file without
further outputs: its ratio shows the noise.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from petinfer.bench.machine import processor_name
from petinfer.session.model_file import read_spec
from petinfer.session.opening import model_path

from .contenders.network import all_outputs
from .measurement import Contender, Findings, Named, Setting, make_row, show_progress
from .question import HELP, table
from .spinning import take_turns
from .turns import Turns, load, started
from .worker import Build

QUESTION = "further outputs"
ALWAYS = ("probabilities", "logits")
WITHOUT = "without"


@click.command(context_settings=HELP)
@click.option("--model", default="lite", show_default=True, help="A model file, or lite.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=250, show_default=True, help="Turns of each file.")
def main(model: str, threads: int, rounds: int) -> None:
    """Time a model file with and without its further outputs, each in its own process."""
    path = model_path(model)
    with tempfile.TemporaryDirectory() as folder:
        compare_files(QUESTION, path, write_variants(path, Path(folder)), all_outputs, threads, rounds)


def compare_files(
    question: str, model: Path, files: dict[str, Path], contender: Callable[..., Contender], threads: int, rounds: int
) -> None:
    """Time variants of ``model`` in turns on one image, and print their times relative to the first one's."""
    findings = Findings()
    builds: dict[str, Build] = {name: partial(contender, name, file, threads) for name, file in files.items()}
    image = np.random.default_rng(0).integers(0, 256, read_spec(model).pixels_shape, np.uint8)
    with started(builds, findings) as workers:
        turns = Turns(load(workers, [image], findings), findings)
        seconds: dict[str, list[float]] = {}
        for done in range(rounds):
            take_turns(turns, seconds)
            show_progress(question, done + 1, rounds)
    turns.report()
    click.echo(f"{processor_name()}, {model.name}")
    first = next(iter(files))
    rows = [make_row(Setting(question, threads), Named(name, ""), Named(first, ""), seconds) for name in files]
    click.echo("\n".join(table(rows)))


def write_variants(path: Path, folder: Path) -> dict[str, Path]:
    """Copies of a model file with some of its outputs, by name."""
    model = onnx.load(path)
    further = [each.name for each in model.graph.output if each.name not in ALWAYS]
    variants: dict[str, Collection[str]] = {WITHOUT: (), "again": (), **{name: (name,) for name in further}}
    if len(further) > 1:
        variants["all"] = further
    written = {}
    for name, outputs in variants.items():
        written[name] = folder / f"{name}.onnx"
        onnx.save(with_outputs(model, {*ALWAYS, *outputs}), written[name])
    return written


def with_outputs(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """A copy of the model that has only these outputs, and only what they need."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    needed, nodes = set(names), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    _keep(graph.node, nodes[::-1])
    _keep(graph.output, [each for each in graph.output if each.name in names])
    _keep(graph.initializer, [each for each in graph.initializer if each.name in needed])
    return found


def _keep(field: Any, entries: list[Any]) -> None:
    """Let a repeated field of a protobuf message have these of its entries alone."""
    kept = copy.deepcopy(entries)
    del field[:]
    field.extend(kept)


if __name__ == "__main__":
    main()
