"""``petinfer classify``: a record for each photo."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import click

from .. import PhotoError
from .formats import NONE, UNSURE, WRITERS, Columns, Record
from .inputs import Search, expand, in_options, model_options, read_list, sources, without_repeats

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from .. import Classifier, Prediction
    from .heat import HeatMaps
    from .sorting import Sorter


class _Options(NamedTuple):
    """The command's options; a dataclass would take ten times as long to make, at every start."""

    photos: tuple[str, ...]
    files_from: str | None
    exclude: tuple[str, ...]
    no_recursive: bool
    model: str | None
    device: str
    threads: int | None
    upright: bool
    stored: bool
    fast_decode: bool
    max_bytes: int | None
    max_pixels: int | None
    min_probability: float
    min_familiarity: float | None
    min_coverage: float | None
    heat: Path | None
    top: int | None
    as_json: bool
    as_jsonl: bool
    as_csv: bool
    output: Path | None
    copy_to: Path | None
    move_to: Path | None
    quiet: bool

    def check(self) -> None:
        """Refuse, before anything is read, what contradicts itself or cannot be written."""
        if not self.photos and self.files_from is None:
            context = click.get_current_context()
            raise click.MissingParameter(ctx=context, param_hint="'PHOTO...'", param_type="argument")
        if (*self.photos, self.files_from).count("-") > 1:
            raise click.UsageError("standard input (-) can be read only once")
        if "-" in self.photos and self.sort_to:
            raise click.UsageError("a photo on standard input (-) cannot be copied or moved")
        self.one_of("as_json", "as_jsonl", "as_csv", "output")
        if self.output:
            from .output_file import check_output

            check_output(self.output)

    def one_of(self, *names: str) -> str | None:
        """The name of the option that is given; two are a usage error."""
        given = [name for name in names if getattr(self, name)]
        if len(given) > 1:
            options = (f"--{name.removeprefix('as_').replace('_', '-')}" for name in given)
            raise click.UsageError(" and ".join(options) + " exclude each other")
        return given[0] if given else None

    @property
    def sort_to(self) -> Path | None:
        """The folder of ``--copy-to`` or ``--move-to``."""
        name = self.one_of("copy_to", "move_to")
        return cast("Path", getattr(self, name)) if name else None


def _complete_files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shells complete paths; a `click.Path` would too, but look at each file at every start."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


@click.command()
@click.argument("photos", nargs=-1, metavar="PHOTO...", shell_complete=_complete_files)
@click.option(
    "--files-from",
    metavar="FILE",
    shell_complete=_complete_files,
    help="Also the paths in FILE, one per line or separated by NULs; - is standard input.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="Leave out what a folder contains under this name, such as 'thumb*'; may be given again.",
)
@click.option("--no-recursive", is_flag=True, help="Only the photos directly in a folder.")
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
    "--min-probability",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="P",
    help="No label below this probability.  [default: the most probable class]",
)
@click.option(
    "--min-familiarity",
    type=float,
    metavar="F",
    help="No label for photos that resemble the training photos less; 0 leaves out 1 % of photos of the classes.",
)
@click.option(
    "--min-coverage",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="The same limit by the share of photos of the classes that keep their label, such as 0.95.",
)
@click.option(
    "--heat", type=click.Path(path_type=Path), metavar="DIR", help="Write each photo's heat map to DIR, a PNG."
)
@click.option(
    "--top", type=click.IntRange(1), metavar="K", help="Only the K most probable classes.  [default: all; table: 1]"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="One JSON object per line.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values with a header.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write into FILE (.csv, .jsonl, .json or .parquet), which appears when it is complete.",
)
@click.option(
    "--copy-to",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Copy each photo to DIR/label; overwrites nothing.",
)
@click.option(
    "--move-to",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Move each photo to DIR/label; overwrites nothing.",
)
@click.option("-q", "--quiet", is_flag=True, help="No summary, no progress: only answers and errors.")
@click.pass_context
def classify(context: click.Context, /, **given: Any) -> None:
    """Classify photos.

    PHOTO is a file, a folder (all photos below it, sorted by name) or - for a photo on standard input.
    Exits with 1 if a photo could not be read, copied or moved; all others are classified.
    """
    options = _Options(**given)
    options.check()
    classifier = _classifier(options)
    _require_one_label(classifier, options)
    tally = _Tally()
    paths = _paths(options, tally.skipped)
    records = _records(classifier, paths, options)
    first = next(records)
    _ = classifier.session  # raises what opening it raised, before anything is written, even if no photo can be read
    records, sorter = chain([first], records), _sorter(options)
    if sorter:
        records = sorter.sort(records)
    summarised = not options.quiet and (len(paths) > 1 or bool(tally.skipped) or sorter is not None)
    with _summary_at_the_end(tally, sorter) if summarised else nullcontext():
        _write(_shown(tally.counted(records), len(paths), options), classifier, options, sorter)
    context.exit(1 if tally.failed else 0)


def _require_one_label(classifier: Classifier, options: _Options) -> None:
    """Refuse to sort photos into the folders of their labels where a photo has several labels or none."""
    if options.sort_to and classifier.spec.threshold is not None:
        option = "--move-to" if options.move_to else "--copy-to"
        problem = f"{classifier.path} gives a photo several labels or none, so it has no one folder"
        raise click.UsageError(f"{option}: {problem} (write the labels with -o FILE)")


def _paths(options: _Options, skipped: Counter[str]) -> list[str]:
    listed = read_list(options.files_from) if options.files_from is not None else []
    search = Search(not options.no_recursive, options.exclude, options.sort_to)
    paths = expand((*options.photos, *listed), skipped, search)
    return without_repeats(paths) if options.sort_to else paths


def _sorter(options: _Options) -> Sorter | None:
    if options.sort_to is None:
        return None
    from .sorting import Sorter

    return Sorter(options.sort_to, move=options.move_to is not None)


def _shown(records: Iterator[Record], total: int, options: _Options) -> Iterator[Record]:
    """The records, with the progress on the terminal where somebody watches it."""
    if options.quiet or total == 1:
        return records
    from .progress import shows_progress, with_progress

    return with_progress(records, total) if shows_progress(to_file=options.output is not None) else records


def _write(records: Iterator[Record], classifier: Classifier, options: _Options, sorter: Sorter | None) -> None:
    spec, place = classifier.spec, sorter.entry if sorter else None
    columns = Columns(spec.labels, options.top, place, spec.familiarity is not None, spec.threshold is not None)
    if options.output:
        from .output_file import write_file

        write_file(records, columns, options.output)
    else:
        form = options.one_of("as_json", "as_jsonl", "as_csv") or "as_table"
        WRITERS[form.removeprefix("as_")](records, columns, sys.stdout)


@contextmanager
def _summary_at_the_end(tally: _Tally, sorter: Sorter | None) -> Iterator[None]:
    """Print what was done, also where Ctrl-C or a full disk ends it; not after a closed pipe, which ends quietly."""
    try:
        yield
    except OSError:
        raise
    except BaseException:
        _print_summary(tally, sorter)
        raise
    _print_summary(tally, sorter)


def _print_summary(tally: _Tally, sorter: Sorter | None) -> None:
    click.echo(tally.summary() + (f"; {sorter.summary()}" if sorter else ""), err=True)


def _counted_as(record: Record) -> list[str]:
    if record.get("sure") is False:
        return [UNSURE]
    return (record["labels"] or [NONE]) if "labels" in record else [record["label"]]


class _Tally:
    """Counts the records, for the summary and the exit code."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        """Per reason, the image files that folders contain and that are not read."""
        self.unreadable = self.failed = 0

    def counted(self, records: Iterator[Record]) -> Iterator[Record]:
        """The records, each counted before it is written."""
        for record in records:
            self.failed += "error" in record
            if "label" in record:
                self.labels.update(_counted_as(record))
            else:
                self.unreadable += 1
            yield record

    def summary(self) -> str:
        """Such as ``2,031 dog, 968 cat, 1 unreadable, 40 skipped (40 hidden)``; of more than ten labels, the first ten."""
        from ..image import printable

        ranked = self.labels.most_common()
        parts = [f"{number:,} {printable(label)}" for label, number in ranked[:10]]
        if rest := ranked[10:]:
            classes = "class" if len(rest) == 1 else "classes"
            parts.append(f"{sum(number for _, number in rest):,} in {len(rest):,} other {classes}")
        parts += [f"{self.unreadable:,} unreadable"] if self.unreadable else []
        if self.skipped:
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in self.skipped.items())
            parts.append(f"{self.skipped.total():,} skipped ({reasons})")
        return ", ".join(parts) or "0 photos"


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
        min_probability=options.min_probability,
        min_familiarity=options.min_familiarity,
        min_coverage=options.min_coverage,
        max_bytes=options.max_bytes or MAX_BYTES,
        max_pixels=options.max_pixels or MAX_PIXELS,
        wait=False,
    )


def _records(classifier: Classifier, paths: list[str], options: _Options) -> Iterator[Record]:
    """A record per path."""
    maps = _heat_maps(options)
    predictions = maps.predictions(classifier, paths) if maps else classifier.predict_stream(sources(paths))
    same = {"orientation": classifier.orientation, "model": classifier.spec.sha256}
    several = classifier.spec.threshold is not None
    for path, prediction in zip(paths, predictions, strict=True):
        record = _record(path, prediction, options.top, several)
        yield record | same | (maps.entry() if maps and "error" not in record else {})


def _heat_maps(options: _Options) -> HeatMaps | None:
    if options.heat is None:
        return None
    from .heat import HeatMaps

    return HeatMaps(options.heat)


def _record(path: str, prediction: Prediction | PhotoError, top: int | None, several: bool) -> Record:
    """What JSON says of a photo, but for what is the same for all."""
    if isinstance(prediction, PhotoError):
        return {"path": path, "error": in_options(str(prediction))}
    return {
        "path": path,
        "label": prediction.label,
        **({"labels": list(prediction.labels)} if several else {}),
        "probability": prediction.probability,
        "probabilities": dict(list(prediction.probabilities.items())[:top]),
        **({} if prediction.familiarity is None else {"familiarity": prediction.familiarity}),
        **({} if prediction.sure else {"sure": False}),
        **({"note": prediction.note} if prediction.note else {}),
    }
