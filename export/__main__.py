"""``python -m export RUN_OR_PKL --out FOLDER``: one model file per precision, compared with the Learner."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from petinfer.spec import ORIENTATIONS, PRECISIONS

from .exits import in_one_line
from .options import Options, parse_labels

_FOLDER = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=_FOLDER)
@click.option("--out", type=_FOLDER, required=True, help="Folder for the model files, their cards and the comparison.")
@click.option("--data", type=_FOLDER, help="Folder of a run's photos.  [default: where the run found them]")
@click.option("--photos", type=_FOLDER, help="Photos to compare on.  [default: the run's validation photos]")
@click.option("--calibrate", type=_FOLDER, help="Training photos, for int8 and familiarity.  [default: the run's]")
@click.option("--calibration-photos", type=click.IntRange(1), default=512, show_default=True, help="How many of them.")
@click.option("--unfamiliar", type=_FOLDER, help="Photos of none of the classes: fit familiarity on them, too.")
@click.option("--others", type=_FOLDER, help="Other photos of none of the classes: measure how many are familiar.")
@click.option("--limit", type=click.IntRange(1), help="Compare on this many photos.  [default: all]")
@click.option(
    "--truth",
    type=click.Choice(["breed", "folder", "species"]),
    help="How the photos' names give their labels.  [default: as the run did]",
)
@click.option("--labels", help="Words for the classes, separated by commas, in the order of the Learner's vocab.")
@click.option(
    "--orientation",
    type=click.Choice(ORIENTATIONS),
    default="upright",
    show_default=True,
    help="The file's default: turn photos as their EXIF entry asks, or take them as stored, as fastai does.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    help="Write this precision; can be given several times.  [default: all]",
)
@click.option("--allow-worse", is_flag=True, help="Keep a file that exceeds its tolerance; the file records it.")
@click.pass_context
def main(context: click.Context, /, labels: str | None, precisions: tuple[str, ...], **options: Any) -> None:
    """Export SOURCE, the folder of a `python -m train` run or a file that learn.export() wrote.

    Loading a pickled Learner can run any code: export only files that you trust.
    """
    with in_one_line(context):
        chosen = Options(labels=parse_labels(labels), precisions=precisions or PRECISIONS, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch and fastai, as they are imported
            from .pipeline import export  # here, since that takes seconds

        export(chosen)


if __name__ == "__main__":
    main()
