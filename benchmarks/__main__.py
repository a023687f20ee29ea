"""Asks all questions and writes the results.

usage: python -m benchmarks RUN PHOTOS --out benchmarks/results

RUN is a folder that ``python -m train`` and ``python -m export`` filled: learner.pkl, onnx/model-fp32.onnx and
onnx/model-int8.onnx. The alternatives are not dependencies of petinfer; a missing one is skipped with a line:

    pip install openvino nncf ncnn pnnx executorch litert-torch

(not onnxruntime-openvino, which overwrites onnxruntime). Every question is a script, where each contender has
its own process and they take turns. The results are named after the processor: a CSV of all rows, a JSON of versions and
conditions, and a plot.
"""

from __future__ import annotations

import csv
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from . import chart, goals
from .conversions import REPOSITORY
from .measurement import COLUMNS, Findings, Row
from .question import HELP, table

# Each script, and the option for how much it measures.
QUESTIONS = {
    "model_step": "rounds",
    "photo_to_answer": "rounds",
    "cold_start": "rounds",
    "folder": "number",
    "installed_size": "",
}
PACKAGES = (
    *("torch", "torchvision", "fastai", "openvino", "nncf", "ncnn", "pnnx"),
    *("executorch", "litert-torch", "ai-edge-litert", "ai-edge-quantizer"),
)

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(context_settings=HELP)
@click.argument("run", type=_FOLDER)
@click.argument("photos", type=_FOLDER)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("benchmarks/results"),
    show_default=True,
    help="Folder for the results.",
)
@click.option(
    "--only", type=click.Choice(list(QUESTIONS)), multiple=True, help="Ask this question only; may be repeated."
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds.  [default: each question's own number]")
@click.option("--folder-photos", type=click.IntRange(1), help="Photos in the folder.  [default: 1000]")
def main(
    run: Path, photos: Path, out: Path, only: tuple[str, ...], rounds: int | None, folder_photos: int | None
) -> None:
    """Compare petinfer with its alternatives: the weights in RUN, on the photos below PHOTOS.

    RUN is a run folder with exported models in RUN/onnx.
    """
    counts = {"rounds": rounds, "number": folder_photos}
    chosen = {name: counts.get(count) for name, count in QUESTIONS.items() if not only or name in only}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        answers = {name: ask(name, run, photos, Path(work), count) for name, count in chosen.items()}
    findings = merge([each for each in answers.values() if each])
    name = write(findings, run, out)
    click.echo("\n".join(table(findings.rows) + goals.table(findings.rows)))
    minutes = (time.perf_counter() - started) / 60
    click.echo(f"\nwritten in {minutes:.1f} minutes: {out / name}.csv, .json, .png", err=True)
    failed = [question for question, answer in answers.items() if answer is None]
    if failed:
        raise click.ClickException(f"{', '.join(failed)}: failed (see the messages above)")


def ask(question: str, run: Path, photos: Path, work: Path, count: int | None) -> Findings | None:
    """A question's findings, from a separate process; None if it failed."""
    print(f"== {question.replace('_', ' ')}", file=sys.stderr)
    target = work / f"{question}.json"
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{question}"]
    command += [str(run.resolve()), str(photos.resolve()), "--work", str(work), "--findings", str(target)]
    command += [f"--{QUESTIONS[question]}", str(count)] if count else []
    done = subprocess.run(command, cwd=REPOSITORY)
    return Findings.load(target) if done.returncode == 0 else None


def merge(parts: Sequence[Findings]) -> Findings:
    """All rows, and each skipped contender and each note once."""
    skipped = dict.fromkeys(line for part in parts for line in part.skipped)
    notes = dict.fromkeys(line for part in parts for line in part.notes)
    return Findings([row for part in parts for row in part.rows], list(skipped), list(notes))


def write(findings: Findings, run: Path, out: Path) -> str:
    """Write CSV, JSON and plot; returns their common name."""
    about = conditions(run)
    name = f"{slug(about['processor'])}-{about['cores']}-cores"
    out.mkdir(parents=True, exist_ok=True)
    write_csv(findings.rows, out / f"{name}.csv")
    content = {**about, "skipped": findings.skipped, "notes": findings.notes}
    (out / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    architecture = f"{about['architecture']}, " if about["architecture"] else ""
    machine = f"{about['processor']}, {about['cores']} cores"
    title = f"{architecture}the same weights and photos on {machine}: ratio to the one at 1.00, less is better"
    for _ in findings.attempt("plot", lambda: chart.draw(findings.rows, title, out / f"{name}.png")):
        pass
    return name


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write a header and a line per row."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)


def conditions(run: Path) -> dict[str, Any]:
    """What the results depend on: machine, model, versions."""
    from petinfer import Classifier
    from petinfer.bench.machine import describe

    about = describe(Classifier(run / "onnx" / "model-int8.onnx"))
    recipe = run / "recipe.json"
    settings = json.loads(recipe.read_text(encoding="utf-8"))["settings"] if recipe.exists() else {}
    return {
        **{key: about[key] for key in ("processor", "flags", "governor", "digest", "score")},
        "cores": about["threads"],
        "architecture": settings.get("arch", ""),
        "system": platform.platform(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": about["versions"] | {name: version_of(name) for name in PACKAGES},
    }


def version_of(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def slug(processor: str) -> str:
    """A processor's name as part of a file name: ``Intel(R) Xeon(R) Processor @ 2.60GHz`` becomes ``intel-xeon``."""
    name = re.sub(r"\((r|tm)\)|\b(cpu|processor|\d+-core)\b|@.*", " ", processor.lower())
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-") or "unknown"


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
