"""petinfer beside what a user could pick instead: all questions, one command.

usage: python -m benchmarks RUN PHOTOS --out benchmarks/results

RUN is a folder that ``python -m train`` and ``python -m export`` filled: learner.pkl, onnx/model-fp32.onnx and
onnx/model-int8.onnx. The rivals are no dependencies of petinfer; one that is missing is passed over with a line:

    pip install openvino nncf ncnn pnnx

(not onnxruntime-openvino, which overwrites onnxruntime). Every question is a script of its own, run in a process of its
own, and all contenders take turns in it. Written are, named after the processor: a CSV of all rows, a JSON of
versions and circumstances, and a plot.
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
from .question import table

# Each script, with the option that says how much it measures.
QUESTIONS = {
    "model_step": "rounds",
    "photo_to_answer": "rounds",
    "cold_start": "rounds",
    "folder": "number",
    "installed_size": "",
}
PACKAGES = (
    "torch",
    "torchvision",
    "fastai",
    "openvino",
    "nncf",
    "ncnn",
    "pnnx",
)


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results"), show_default=True)
@click.option("--only", type=click.Choice(list(QUESTIONS)), multiple=True, help="Ask this question; may be repeated.")
@click.option("--rounds", type=click.IntRange(1), help="In place of each question's own number of rounds.")
@click.option("--folder-photos", type=click.IntRange(1), help="In place of the folder's 1000 photos.")
def main(
    run: Path, photos: Path, out: Path, only: tuple[str, ...], rounds: int | None, folder_photos: int | None
) -> None:
    """Ask every question about the weights in RUN, on the photos below PHOTOS."""
    counts = {"rounds": rounds, "number": folder_photos}
    asked = {name: counts.get(count) for name, count in QUESTIONS.items() if not only or name in only}
    findings, failed, started = Findings(), [], time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        for name, count in asked.items():
            answer = ask(name, run, photos, Path(work), count)
            failed += [] if answer else [name]
            findings = merged(findings, answer or Findings())
    name = write(findings, run, out)
    click.echo("\n".join(table(findings.rows) + goals.table(findings.rows)))
    minutes = (time.perf_counter() - started) / 60
    click.echo(f"\nwritten in {minutes:.1f} minutes: {out / name}.csv, .json, .png", err=True)
    if failed:
        raise click.ClickException(f"{', '.join(failed)}: failed, as told above")


def ask(question: str, run: Path, photos: Path, work: Path, count: int | None) -> Findings | None:
    """A question's findings, from a process of its own; None when it failed."""
    print(f"== {question.replace('_', ' ')}", file=sys.stderr)
    target = work / f"{question}.json"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        f"benchmarks.{question}",
        str(run.resolve()),
        str(photos.resolve()),
    ]
    command += ["--work", str(work), "--findings", str(target)]
    command += [f"--{QUESTIONS[question]}", str(count)] if count else []
    done = subprocess.run(command, cwd=REPOSITORY)
    return Findings.load(target) if done.returncode == 0 else None


def merged(one: Findings, other: Findings) -> Findings:
    """The rows of both; each skipped rival once."""
    return Findings(one.rows + other.rows, list(dict.fromkeys(one.skipped + other.skipped)))


def write(findings: Findings, run: Path, out: Path) -> str:
    """Write CSV, JSON and plot; gives the name that they share."""
    about = circumstances(run)
    name = f"{slug(about['processor'])}-{about['cores']}-cores"
    out.mkdir(parents=True, exist_ok=True)
    write_csv(findings.rows, out / f"{name}.csv")
    content = {**about, "skipped": findings.skipped}
    (out / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    architecture = f"{about['architecture']}, " if about["architecture"] else ""
    machine = f"{about['processor']}, {about['cores']} cores"
    title = f"{architecture}the same weights and photos on {machine}: ratio to what has 1.00, less is better"
    for _ in findings.attempt("plot", lambda: chart.draw(findings.rows, title, out / f"{name}.png")):
        pass
    return name


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One line a row, under the names of its columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)


def circumstances(run: Path) -> dict[str, Any]:
    """What the numbers depend on."""
    from petinfer import Classifier
    from petinfer.bench.machine import describe

    about = describe(Classifier(run / "onnx" / "model-int8.onnx"))
    recipe = run / "recipe.json"
    settings = json.loads(recipe.read_text(encoding="utf-8"))["settings"] if recipe.exists() else {}
    return {
        **{key: about[key] for key in ("processor", "flags", "governor", "sha256", "score")},
        "cores": about["threads"],
        "architecture": settings.get("arch", ""),
        "system": platform.platform(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": about["versions"] | {name: version_of(name) for name in PACKAGES},
    }


def version_of(package: str) -> str | None:
    """The installed version; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def slug(processor: str) -> str:
    """A processor's name as part of a file name: ``Intel(R) Xeon(R) Processor @ 2.60GHz`` is ``intel-xeon``."""
    name = re.sub(r"\((r|tm)\)|\b(cpu|processor|\d+-core)\b|@.*", " ", processor.lower())
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-") or "unknown"


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
