"""``petinfer bench``: latency, throughput and cold start."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click

from .. import PetinferError
from .formats import Record, counted
from .inputs import model_options

if TYPE_CHECKING:
    from .. import Classifier
    from ..bench.latency import Latency

Measured: TypeAlias = "list[tuple[str, Classifier, Latency]]"


@dataclass(frozen=True)
class _Options:
    """The command's options."""

    model: str | None
    device: str
    threads: int | None
    fast_decode: bool
    queries: int
    duration: float
    compare: str | None
    batches: tuple[int, ...]
    cold: bool
    plot_file: Path | None
    as_json: bool
    as_csv: bool

    def check(self) -> None:
        """Refuse before anything is measured what could not be written afterwards."""
        if self.as_json and self.as_csv:
            raise click.UsageError("--json and --csv exclude each other")
        if self.as_csv and (self.cold or self.batches):
            raise click.UsageError("--cold and --batch have no samples to write as CSV (use --json)")
        if self.plot_file:
            _require_plot(self.plot_file)
        if self.cold:
            from ..bench.latency import require_interpreter

            require_interpreter()


@click.command()
@click.argument("photo", type=click.Path(path_type=Path), required=False)
@model_options
@click.option("--fast-decode", is_flag=True, help="As classify does with it.")
@click.option("--queries", type=click.IntRange(1), default=64, show_default=True, help="At least this many.")
@click.option(
    "--duration", type=click.FloatRange(0), default=6.0, show_default=True, help="At least this many seconds."
)
@click.option("--compare", type=click.Path(), help="Another model file: both take turns.")
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1),
    multiple=True,
    metavar="N",
    help="Also the throughput on batches of N photos, by threads; may be given again.",
)
@click.option("--cold", is_flag=True, help="Also start fresh processes.")
@click.option(
    "--plot", "plot_file", type=click.Path(path_type=Path), help="Draw the latencies into this file (.png, .svg, .pdf)."
)
@click.option("--json", "as_json", is_flag=True, help="All results and each sample.")
@click.option("--csv", "as_csv", is_flag=True, help="Each sample, ms.")
def bench(photo: Path | None, **given: Any) -> None:
    """Measure the latency from a photo to the answer.

    Times PHOTO's bytes to the answer, one query after the other; without PHOTO, those of a photo of a cat. The defaults
    are those of MLPerf mobile's quick setting: at least 64 queries and 6 seconds.
    """
    options = _Options(**given)
    options.check()
    from ..bench.latency import GOLDEN_PHOTO, cold_start, measure, throughput
    from ..bench.plot import plot

    photo = photo or GOLDEN_PHOTO
    if photo == Path("-"):
        raise click.UsageError("bench measures a file; standard input (-) cannot be read again by new processes")
    classifiers = _classifiers(options)
    about: Record = {"photo": str(photo), "answer": asdict(classifiers[0].predict(photo))}
    latencies = measure(classifiers, photo.read_bytes(), options.queries, options.duration)
    names = distinct_names([classifier.path for classifier in classifiers])
    measured = list(zip(names, classifiers, latencies, strict=True))
    if options.batches:
        about["throughput"] = throughput(classifiers[0], options.batches)
    if options.cold:
        about["cold_start"] = cold_start(photo, classifiers[0])
    if options.plot_file:
        plot(dict(zip(names, latencies, strict=True)), options.plot_file)
    write = _write_json if options.as_json else _write_csv if options.as_csv else _write_table
    write(measured, about)


def _classifiers(options: _Options) -> list[Classifier]:
    from .. import Classifier

    files = [options.model, options.compare] if options.compare else [options.model]
    decode: Literal["exact", "fast"] = "fast" if options.fast_decode else "exact"
    return [Classifier(file, options.device, options.threads, decode=decode) for file in files]


def distinct_names(paths: list[Path]) -> list[str]:
    """The shortest end of each path that no other path has: ``export`` gives all files the same names."""
    if len(set(paths)) < len(paths):
        return [path.name for path in paths]
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = [Path(*each[-length:]).as_posix() for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _require_plot(path: Path) -> None:
    from ..bench.plot import require_matplotlib

    require_matplotlib()
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise PetinferError(f"{path}: its suffix is not .png, .svg or .pdf (rename it)")
    if not path.parent.is_dir():
        raise PetinferError(f"{path}: its folder does not exist (create it, or choose another)")


def _write_json(measured: Measured, about: Record) -> None:
    """One object; with --compare, its ``models`` are two objects with what otherwise follows the photo."""
    records = [_latency_record(classifier, latency) for _, classifier, latency in measured]
    click.echo(json.dumps(about | (records[0] if len(records) == 1 else {"models": records})))


def _latency_record(classifier: Classifier, latency: Latency) -> Record:
    from ..bench.latency import STEPS
    from ..bench.machine import describe
    from ..bench.peak import roofline

    samples = dict(zip(STEPS, (latency.seconds * 1000).T.tolist(), strict=True))
    found = {
        "milliseconds": latency.percentiles(),
        "p90_bound": latency.p90_bound(),
        "cores_busy": latency.cores_busy,
        "peak_memory_mb": latency.peak_memory_mb,
        "roofline": roofline(classifier, latency),
    }
    return {**describe(classifier), **found, "samples": samples}


def _write_csv(measured: Measured, about: Record) -> None:
    import csv

    from ..bench.latency import STEPS

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["model", *STEPS])
    for name, _, latency in measured:
        writer.writerows([name, *row] for row in (latency.seconds * 1000).tolist())


def _write_table(measured: Measured, about: Record) -> None:
    from ..bench.latency import ratio

    answer = about["answer"]
    click.echo(f"{about['photo']}: {answer['label']} {answer['probability']:.2%}")
    for name, classifier, latency in measured:
        _print_latency(name, classifier, latency)
    if len(measured) > 1:
        (one, _, one_latency), (other, _, other_latency) = measured
        median, low, high = ratio(one_latency, other_latency)
        click.echo(f"\n{one} takes {median:.3f} of {other}'s time (95 % interval {low:.3f} to {high:.3f})")
    if "throughput" in about:
        _print_throughput(about["throughput"])
    if "cold_start" in about:
        click.echo("\ncold start, ms: " + ", ".join(f"{name} {ms:.0f}" for name, ms in about["cold_start"].items()))


def _print_latency(name: str, classifier: Classifier, latency: Latency) -> None:
    from ..bench.machine import describe
    from ..bench.peak import roofline

    _print_description(name, describe(classifier))
    memory = f", {latency.peak_memory_mb:.0f} MB" if latency.peak_memory_mb else ""
    click.echo(f"{counted(len(latency.seconds), 'query', 'queries')}, {latency.cores_busy:.2f} cores busy{memory}\n")
    table = latency.percentiles()
    click.echo(f"{'ms':10}" + "".join(f"{name:>9}" for name in table["total"]))
    for step, row in table.items():
        click.echo(f"{step:10}" + "".join(f"{value:9.2f}" for value in row.values()))
    if (bound := latency.p90_bound()) is not None:
        click.echo(f"the 90th percentile is below {bound:.2f} ms with 99 % confidence")
    if roof := roofline(classifier, latency):
        click.echo(_peak_sentence(roof))


def _peak_sentence(roof: dict[str, float]) -> str:
    peak = f"{roof['peak_gmacs']:.0f} GMAC/s in a large matrix product"
    if roof["share"] > 1:  # convolutions can reuse data better than that product does
        return f"inference is faster than this machine's peak, {peak}, would allow: {roof['floor']:.2f} ms"
    return (
        f"at this machine's peak, {peak}, inference would take {roof['floor']:.2f} ms: {roof['share']:.2f} of its time"
    )


def _print_description(name: str, about: Record) -> None:
    """The model, its score, the device and the versions."""
    score = about["score"]
    wrong = f", {score['errors']} of {score['photos']} photos wrong" if {"errors", "photos"} <= set(score) else ""
    click.echo(f"\n{name}, {about['precision']}, digest {about['digest'][:12]}…{wrong}")
    click.echo(f"{about['provider']}, {counted(about['threads'], 'thread')}, {about['decode']} decoding")
    state = f", {about['governor']}" if about["governor"] else ""
    state += f", load {about['load']}" if about["load"] is not None else ""
    click.echo(f"{about['processor']} ({' '.join(about['flags'])}){state}")
    click.echo(", ".join(f"{name} {version}" for name, version in about["versions"].items()))


def _print_throughput(found: list[Record]) -> None:
    """Batch sizes down, threads across."""
    threads = sorted({entry["threads"] for entry in found})
    rates = {(entry["batch"], entry["threads"]): entry["photos_per_second"] for entry in found}
    click.echo(f"\n{'photos per second':18}" + "".join(f"{counted(n, 'thread'):>12}" for n in threads))
    for size in dict.fromkeys(entry["batch"] for entry in found):
        click.echo(f"{f'batches of {size}':18}" + "".join(f"{rates[size, n]:12.1f}" for n in threads))
