"""The command line over the public names. Answers go to standard output, everything else to standard error."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from . import DeviceError, PetinferError, PhotoError, __version__

if TYPE_CHECKING:
    from PIL.Image import Image

    from . import Classifier, Prediction
    from .bench import Latency
    from .image import Photo
    from .verify import Verdict

_Command = TypeVar("_Command", bound=Callable[..., Any])
Record = dict[str, Any]
Measured: TypeAlias = "list[tuple[Classifier, Latency]]"


class _Group(click.Group):
    """Turn what stops a command into one line and its exit code: 2 for our errors, 130 for Ctrl-C."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except PetinferError as error:
            click.echo(f"Error: {error}", err=True)
            context.exit(2)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head`, which click ends quietly
                raise
            click.echo(f"Error: cannot write: {error.strerror} (check where the answers go)", err=True)
            context.exit(2)
        except KeyboardInterrupt:
            context.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="petinfer")
def main() -> None:
    """Run an image classifier trained with fastai, without fastai."""
    warnings.filterwarnings("ignore", module="PIL")  # of large or odd photos, which are answered all the same
    if sys.stdout is None:
        raise PetinferError("standard output: closed, so that no answer could be given (open it)")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not fit the terminal's encoding
            stream.reconfigure(errors="backslashreplace")


def model_options(command: _Command) -> _Command:
    """The options that say which model runs, and on what."""
    for option in (
        click.option(
            "--model", type=click.Path(path_type=Path), help="Model file; without it, the bundled one (cat or dog)."
        ),
        click.option(
            "--device", default="auto", show_default=True, help="auto, cpu, or what `petinfer devices` lists."
        ),
        click.option("--threads", type=int, help="Threads to compute with.  [default: the cores at hand]"),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@model_options
@click.option("--upright", "orientation", flag_value="upright", help="Turn photos as their EXIF entry asks.")
@click.option(
    "--stored",
    "orientation",
    flag_value="stored",
    help="Do not turn photos, as fastai does not.  [default: as the model says]",
)
@click.option(
    "--fast-decode", is_flag=True, help="Decode large JPEGs at a part of their size: faster, not equal to the pixel."
)
@click.option(
    "--top",
    type=click.IntRange(1),
    metavar="K",
    help="Give the K most probable classes.  [default: all; the table shows 1]",
)
@click.option("--json", "form", flag_value="json", help="One JSON array.")
@click.option("--jsonl", "form", flag_value="jsonl", help="One JSON object a line.")
@click.option("--csv", "form", flag_value="csv", help="Comma-separated values with a header.")
@click.pass_context
def classify(
    context: click.Context,
    photos: tuple[str, ...],
    model: Path | None,
    device: str,
    threads: int | None,
    orientation: str | None,
    fast_decode: bool,
    top: int | None,
    form: str | None,
) -> None:
    """Classify photos.

    PHOTO is a file, a folder (all photos below it, in the order of their names) or - for a photo on standard input.
    Exits with 1 when a photo could not be read; all others are answered.
    """
    from .classifier import Classifier, begin
    from .image import printable

    if photos.count("-") > 1:
        raise click.UsageError("standard input (-) can be read once")
    opening = context.obj or begin(model, device, threads)
    single = None if fast_decode or len(photos) > 1 else _decoded(photos[0])
    decode = "fast" if fast_decode else "exact"
    classifier = Classifier(orientation=orientation, decode=decode, opening=opening)
    paths = list(_photos(photos))
    if all(os.path.isdir(path) for path in paths):
        raise PetinferError(f"{printable(paths[0])}: no photos in this folder (give photos or a folder of photos)")
    sources: Iterable[Photo] = map(_source, paths) if single is None else [single]
    failed = 0

    def records() -> Iterator[Record]:
        nonlocal failed
        for path, answer in zip(paths, classifier.predict_stream(sources), strict=True):
            failed += isinstance(answer, PhotoError)
            yield _record(path, answer, top)

    if form is None:  # its errors go to the terminal
        _write_table(records(), classifier.spec.labels, top)
    else:
        _WRITERS[form](_counted(records(), len(paths)), classifier.spec.labels, top)
    context.exit(1 if failed else 0)


def _counted(records: Iterator[Record], total: int) -> Iterator[Record]:
    """The records as they come, under a progress bar where they go to a file and somebody watches the terminal."""
    if sys.stderr is None or not sys.stderr.isatty() or not stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
        yield from records
        return
    with click.progressbar(records, total, label="photos", show_pos=True, file=sys.stderr) as bar:
        yield from bar


def _photos(arguments: Iterable[str]) -> Iterator[str]:
    """The photos that the arguments name: a folder stands for the photos below it, sorted.

    A folder without photos, or that cannot be read, stands for itself, and becomes a record with an error.
    """
    from .image import SUFFIXES

    for argument in arguments:
        if not os.path.isdir(argument):
            yield argument
            continue
        found, unreadable = 0, list[OSError]()
        for folder, folders, files in os.walk(argument, onerror=unreadable.append):
            folders.sort()
            photos = [os.path.join(folder, name) for name in sorted(files) if name.lower().endswith(tuple(SUFFIXES))]
            photos = [photo for photo in photos if os.path.isfile(photo) or os.path.islink(photo)]  # a pipe would wait
            found += len(photos)
            yield from photos
        yield from (error.filename for error in unreadable)
        if not found and not unreadable:
            yield argument


def _source(path: str) -> str | bytes:
    """The path, or for ``-`` the bytes on standard input; none where it is closed."""
    if path != "-":
        return path
    return b"" if sys.stdin is None else sys.stdin.buffer.read()


def _decoded(path: str) -> Image | None:
    """A photo that is decoded while the session opens; None for what is no file, or no photo, as `_source` tells later."""
    from .image import decode

    try:
        return decode(path) if path != "-" and os.path.isfile(path) else None  # a pipe could be read but once
    except PhotoError:
        return None


def _record(path: str, answer: Prediction | PhotoError, top: int | None) -> Record:
    if isinstance(answer, PhotoError):
        return {"path": path, "error": str(answer)}
    probabilities = dict(list(answer.probabilities.items())[:top])
    return {"path": path, "label": answer.label, "probability": answer.probability, "probabilities": probabilities}


def _write_json(records: Iterable[Record], labels: tuple[str, ...], top: int | None) -> None:
    """An array, a record a line; complete after Ctrl-C too."""
    print("[", end="")
    separator = "\n"
    try:
        for record in records:
            print(separator + json.dumps(record), end="", flush=True)
            separator = ",\n"
    finally:
        print("\n]")


def _write_jsonl(records: Iterable[Record], labels: tuple[str, ...], top: int | None) -> None:
    for record in records:
        print(json.dumps(record), flush=True)


def _write_csv(records: Iterable[Record], labels: tuple[str, ...], top: int | None) -> None:
    """A column for each class; with ``--top``, the classes that are not among the K are empty."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "label", "probability", *labels, "error"])
    for record in records:
        probabilities = record.get("probabilities", {})
        row = (
            record["path"],
            record.get("label"),
            record.get("probability"),
            *map(probabilities.get, labels),
            record.get("error"),
        )
        writer.writerow(["" if value is None else value for value in row])
        sys.stdout.flush()


def _write_table(records: Iterable[Record], labels: tuple[str, ...], top: int | None) -> None:
    """Label and probability, then the path, which may be of any length."""
    from .image import printable

    width = max(map(len, labels))
    for record in records:
        if "error" in record:
            click.echo(f"Error: {record['error']}", err=True)
            continue
        ranked = list(record["probabilities"].items())[: top or 1]
        answers = "   ".join(f"{label:{width}}  {probability:7.2%}" for label, probability in ranked)
        print(f"{answers}  {printable(record['path'])}", flush=True)


_WRITERS = {"json": _write_json, "jsonl": _write_jsonl, "csv": _write_csv}


@main.command()
@click.argument("photo", type=click.Path(path_type=Path), required=False)
@model_options
@click.option("--fast-decode", is_flag=True, help="As classify does with it.")
@click.option("--queries", type=click.IntRange(1), default=64, show_default=True, help="At least this many.")
@click.option(
    "--duration", type=click.FloatRange(0), default=6.0, show_default=True, help="At least this many seconds."
)
@click.option("--compare", type=click.Path(path_type=Path), help="Another model file: both take turns.")
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
@click.option("--json", "form", flag_value="json", help="Everything that was measured, each sample too.")
@click.option("--csv", "form", flag_value="csv", help="Each sample, ms.")
def bench(
    photo: Path | None,
    model: Path | None,
    device: str,
    threads: int | None,
    fast_decode: bool,
    queries: int,
    duration: float,
    compare: Path | None,
    batches: tuple[int, ...],
    cold: bool,
    plot_file: Path | None,
    form: str | None,
) -> None:
    """Measure the latency from PHOTO's bytes to the answer, one query after the other; without PHOTO, on a photo of a cat.

    The defaults are those of MLPerf mobile's quick setting: 64 queries and 6 seconds at least.
    """
    from . import Classifier
    from .bench import GOLDEN_PHOTO, cold_start, measure, plot, throughput

    if form == "csv" and (cold or batches):
        raise click.UsageError("--cold and --batch have no samples to write as CSV (use --json)")
    _require_plot(plot_file)
    photo = photo or GOLDEN_PHOTO
    files = [model, compare] if compare else [model]
    classifiers = [Classifier(file, device, threads, decode="fast" if fast_decode else "exact") for file in files]
    about: Record = {"photo": str(photo), "answer": asdict(classifiers[0].predict(photo))}
    measured = list(zip(classifiers, measure(classifiers, photo.read_bytes(), queries, duration), strict=True))
    if batches:
        about["throughput"] = throughput(classifiers[0], batches)
    if cold:
        about["cold_start"] = cold_start(photo, classifiers[0])
    if plot_file:
        plot({classifier.path.name: latency for classifier, latency in measured}, plot_file)
    _LATENCY_WRITERS[form or "table"](measured, about)


def _require_plot(path: Path | None) -> None:
    """Refuse what could not be drawn in the end, before anything is measured."""
    from .bench import require_matplotlib

    if path is None:
        return
    require_matplotlib()
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise PetinferError(f"{path}: neither .png nor .svg nor .pdf (name one of these)")
    if not path.parent.is_dir():
        raise PetinferError(f"{path}: its folder is not there (make it, or name another)")


def _write_latencies_json(measured: Measured, about: Record) -> None:
    """One object; with --compare, its ``models`` hold what else stands beside the photo."""
    records = [_latency_record(*each) for each in measured]
    click.echo(json.dumps(about | (records[0] if len(records) == 1 else {"models": records})))


def _latency_record(classifier: Classifier, latency: Latency) -> Record:
    from .bench import STEPS, roofline, surroundings

    samples = dict(zip(STEPS, (latency.seconds * 1000).T.tolist(), strict=True))
    found = {
        "milliseconds": latency.percentiles(),
        "p90_bound": latency.p90_bound(),
        "cores_busy": latency.cores_busy,
        "peak_memory_mb": latency.peak_memory_mb,
        "roofline": roofline(classifier, latency),
    }
    return {**surroundings(classifier), **found, "samples": samples}


def _write_latencies_csv(measured: Measured, about: Record) -> None:
    import csv

    from .bench import STEPS

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["model", *STEPS])
    for classifier, latency in measured:
        writer.writerows([classifier.path.name, *row] for row in (latency.seconds * 1000).tolist())


def _write_latencies_table(measured: Measured, about: Record) -> None:
    from .bench import ratio

    answer = about["answer"]
    click.echo(f"{about['photo']}: {answer['label']} {answer['probability']:.2%}")
    for classifier, latency in measured:
        _print_latency(classifier, latency)
    if len(measured) > 1:
        (one, one_latency), (other, other_latency) = measured
        median, low, high = ratio(one_latency, other_latency)
        told = f"{one.path.name} takes {median:.3f} of {other.path.name}'s time"
        click.echo(f"\n{told} (95 % interval {low:.3f} to {high:.3f})")
    if "throughput" in about:
        _print_throughput(about["throughput"])
    if "cold_start" in about:
        click.echo("\ncold start, ms: " + ", ".join(f"{name} {ms:.0f}" for name, ms in about["cold_start"].items()))


def _print_latency(classifier: Classifier, latency: Latency) -> None:
    from .bench import roofline, surroundings

    _print_surroundings(surroundings(classifier))
    memory = f", {latency.peak_memory_mb:.0f} MB" if latency.peak_memory_mb else ""
    click.echo(f"{len(latency.seconds)} queries, {latency.cores_busy:.2f} cores busy{memory}\n")
    table = latency.percentiles()
    click.echo(f"{'ms':10}" + "".join(f"{name:>9}" for name in table["total"]))
    for step, row in table.items():
        click.echo(f"{step:10}" + "".join(f"{value:9.2f}" for value in row.values()))
    if (bound := latency.p90_bound()) is not None:
        click.echo(f"the 90th percentile is under {bound:.2f} ms, with 99 % confidence")
    if roof := roofline(classifier, latency):
        peak = f"{roof['peak_gmacs']:.0f} GMAC/s in a large matrix product"
        click.echo(f"at this machine's peak, {peak}, inference would take {roof['floor']:.2f} ms: {roof['share']:.0%}")


def _print_surroundings(about: Record) -> None:
    """What ran, where, and how the model scored."""
    score = about["score"]
    wrong = f", {score['errors']} of {score['photos']} photos wrong" if {"errors", "photos"} <= set(score) else ""
    click.echo(f"\n{Path(about['model']).name}, {about['precision']}, sha256 {about['sha256'][:12]}…{wrong}")
    click.echo(f"{about['provider']}, {about['threads']} threads, {about['decode']} decoding")
    driven = f", {about['governor']}" if about["governor"] else ""
    driven += f", load {about['load']}" if about["load"] is not None else ""
    click.echo(f"{about['processor']} ({' '.join(about['flags'])}){driven}")
    click.echo(", ".join(f"{name} {version}" for name, version in about["versions"].items()))


def _print_throughput(found: list[Record]) -> None:
    """Batch sizes down, threads across."""
    threads = sorted({entry["threads"] for entry in found})
    rates = {(entry["batch"], entry["threads"]): entry["photos_per_second"] for entry in found}
    click.echo(f"\n{'photos a second':18}" + "".join(f"{f'{n} threads':>12}" for n in threads))
    for size in dict.fromkeys(entry["batch"] for entry in found):
        click.echo(f"{f'batches of {size}':18}" + "".join(f"{rates[size, n]:12.1f}" for n in threads))


_LATENCY_WRITERS = {"json": _write_latencies_json, "csv": _write_latencies_csv, "table": _write_latencies_table}


@main.command()
@model_options
@click.option("--providers", is_flag=True, help="Verify on each device whose provider is installed and works here.")
@click.option("--json", "as_json", is_flag=True, help="Everything that was found.")
@click.pass_context
def verify(
    context: click.Context, model: Path | None, device: str, threads: int | None, providers: bool, as_json: bool
) -> None:
    """Prove on this device that the model sees and answers what the Learner saw and answered.

    Exits with 1 when it does not.
    """
    from .classifier import Classifier
    from .device import available_devices, thread_count
    from .verify import verify as check

    if providers and device != "auto":
        raise click.UsageError("--providers tries every device; leave --device out")

    found = []
    thread_count(threads)
    for name in available_devices() if providers else [device]:
        try:
            classifier = Classifier(model, name, threads)
        except DeviceError as error:
            if not providers:
                raise
            click.echo(f"not verified: {error}", err=True)
            continue
        found.append((classifier, check(classifier)))
    if as_json:
        reports = [_verdict_record(*each) for each in found]
        click.echo(json.dumps(reports if providers else reports[0]))
    else:
        for each in found:
            _print_verdict(*each)
    context.exit(1 if any(verdict.failures for _, verdict in found) else 0)


def _verdict_record(classifier: Classifier, verdict: Verdict) -> Record:
    about = {"model": str(classifier.path), "provider": classifier.provider, "precision": classifier.spec.precision}
    return {**about, "passed": not verdict.failures, **asdict(verdict)}


def _print_verdict(classifier: Classifier, verdict: Verdict) -> None:
    click.echo(
        f"{classifier.path}, {classifier.spec.precision} on {classifier.provider}, {classifier.threads} threads\n"
    )
    click.echo(f"{'photo':26}{'pixels':>10}{'|Δp| file':>12}{'|Δp| Learner':>14}")
    for found in verdict.checks:
        pixels = "equal" if found.pixels_equal else "differ" if found.decoded_equal else "decoder"
        flipped = "  flipped" if found.flipped else ""
        click.echo(f"{found.photo:26}{pixels:>10}{found.moved:12.1e}{found.from_learner:14.1e}{flipped}")
    for note in verdict.notes:
        click.echo(f"\nnote: {note}")
    for failure in verdict.failures:
        click.echo(f"Error: {failure}", err=True)
    equal, flips = (sum(getattr(check, name) for check in verdict.checks) for name in ("pixels_equal", "flipped"))
    end = "NOT verified" if verdict.failures else "verified"
    click.echo(f"\n{equal} of {len(verdict.checks)} photos equal to the pixel, {flips} decisions flipped: {end}")


@main.command()
@click.option("--model", type=click.Path(path_type=Path), help="Model file to try; without it, the bundled one.")
def devices(model: Path | None) -> None:
    """List the devices: which run a model here, and why the others do not."""
    from .classifier import Classifier
    from .device import DEVICES
    from .verify import onnxruntime_wheels

    for device in DEVICES:
        try:
            click.echo(f"{device:13} ready: {Classifier(model, device).provider}")
        except DeviceError as error:
            click.echo(f"{device:13} no: {str(error).partition(': ')[2]}")
    wheels = onnxruntime_wheels()
    if len(wheels) > 1:
        click.echo(
            f"Error: {' and '.join(wheels)} overwrite each other (pip uninstall all, then install one)", err=True
        )
