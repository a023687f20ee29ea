"""``petinfer classify``: a record for each photo."""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import click

from .. import PhotoError
from .formats import WRITERS, Record
from .inputs import expand, in_options, model_options, sources

if TYPE_CHECKING:
    from .. import Classifier, Prediction


class _Options(NamedTuple):
    """The command's options; a dataclass would take ten times as long to make, at every start."""

    model: Path | None
    device: str
    threads: int | None
    upright: bool
    stored: bool
    fast_decode: bool
    max_bytes: int | None
    max_pixels: int | None
    top: int | None
    as_json: bool
    as_jsonl: bool
    as_csv: bool

    def one_of(self, *names: str) -> str | None:
        """The name of the flag that is set; two are a usage error."""
        given = [name for name in names if getattr(self, name)]
        if len(given) > 1:
            raise click.UsageError(
                " and ".join(f"--{name.removeprefix('as_')}" for name in given) + " exclude each other"
            )
        return given[0] if given else None


@click.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@model_options
@click.option("--upright", is_flag=True, help="Turn photos as their EXIF entry asks.")
@click.option(
    "--stored", is_flag=True, help="Do not turn photos, as fastai does not.  [default: as the model file says]"
)
@click.option(
    "--fast-decode", is_flag=True, help="Decode large JPEGs at a fraction of their size: faster, other pixels."
)
@click.option("--max-bytes", type=click.IntRange(1), help="Refuse larger photo files.  [default: 256 MiB]")
@click.option("--max-pixels", type=click.IntRange(1), help="Refuse photos with more pixels.  [default: 100 million]")
@click.option(
    "--top", type=click.IntRange(1), metavar="K", help="Only the K most probable classes.  [default: all; table: 1]"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="One JSON object per line.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values with a header.")
@click.pass_context
def classify(context: click.Context, /, photos: tuple[str, ...], **given: Any) -> None:
    """Classify photos.

    PHOTO is a file, a folder (all photos below it, sorted by name) or - for a photo on standard input.
    Exits with 1 if a photo could not be read; all others are classified.
    """
    if photos.count("-") > 1:
        raise click.UsageError("standard input (-) can be read only once")
    options = _Options(**given)
    form = options.one_of("as_json", "as_jsonl", "as_csv")
    classifier = _classifier(options)
    skipped: Counter[str] = Counter()
    paths = expand(photos, skipped)
    failed: list[str] = []
    records = _records(classifier, paths, options.top, failed)
    first = next(records)
    _ = classifier.session  # raises what opening it raised, before anything is written, even if no photo can be read
    records = chain([first], records)
    if form is not None:  # a table's errors go to the terminal
        records = _counted(records, len(paths))
    WRITERS[(form or "as_table").removeprefix("as_")](records, classifier.labels, options.top)
    _report(skipped)
    context.exit(1 if failed else 0)


def _classifier(options: _Options) -> Classifier:
    """A classifier whose session still opens, so that the first photo is decoded meanwhile."""
    from ..classifier import Classifier
    from ..image import MAX_BYTES, MAX_PIXELS

    return Classifier(
        options.model,
        options.device,
        options.threads,
        cast("Literal['upright', 'stored'] | None", options.one_of("upright", "stored")),
        "fast" if options.fast_decode else "exact",
        max_bytes=options.max_bytes or MAX_BYTES,
        max_pixels=options.max_pixels or MAX_PIXELS,
        wait=False,
    )


def _records(classifier: Classifier, paths: list[str], top: int | None, failed: list[str]) -> Iterator[Record]:
    """A record per path; the paths of photos that cannot be read are added to ``failed``."""
    for path, prediction in zip(paths, classifier.predict_stream(sources(paths)), strict=True):
        if isinstance(prediction, PhotoError):
            failed.append(path)
        yield _record(path, prediction, classifier.spec.sha256, top)


def _record(path: str, prediction: Prediction | PhotoError, model: str, top: int | None) -> Record:
    """What JSON says of a photo; ``model`` is the sha256 that the model file's description contains."""
    if isinstance(prediction, PhotoError):
        return {"path": path, "error": in_options(str(prediction)), "model": model}
    return {
        "path": path,
        "label": prediction.label,
        "probability": prediction.probability,
        "probabilities": dict(list(prediction.probabilities.items())[:top]),
        "orientation": prediction.orientation,
        "model": model,
    }


def _counted(records: Iterator[Record], total: int) -> Iterator[Record]:
    """The records, with a progress bar on the terminal where they go to a file."""
    if sys.stderr is None or not sys.stderr.isatty() or not stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
        yield from records
        return
    with click.progressbar(records, total, label="photos", show_pos=True, file=sys.stderr) as bar:
        yield from bar


def _report(skipped: Counter[str]) -> None:
    """Say on standard error which image files were skipped."""
    if skipped:
        reasons = ", ".join(f"{number} {reason}" for reason, number in skipped.items())
        click.echo(f"{skipped.total()} image files skipped ({reasons})", err=True)
