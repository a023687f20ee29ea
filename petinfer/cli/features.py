"""``petinfer features``: what the network sees of each photo, as numbers for search, duplicates or a new last layer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from .. import PhotoError
from .inputs import Search, expand, in_options, model_options, sources
from .output_file import replacing


@click.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The .npz file to write.")
@model_options
@click.pass_context
def features(
    context: click.Context, photos: tuple[str, ...], out: Path, model: str | None, device: str, threads: int | None
) -> None:
    """Write the features of photos into a NumPy file.

    It contains `features`, float32 [photos, features], `paths`, a text per row, and `model`, the digest of the model file:
    features of two models cannot be compared. Exits with 1 if a photo could not be read; it has no row.
    """
    from ..classifier import Classifier

    if out.suffix != ".npz":
        raise click.BadParameter(f"{out} does not end in .npz (rename it)", param_hint="'--out'")
    classifier = Classifier(model, device, threads)
    skipped: Counter[str] = Counter()
    paths, rows, failed = expand(photos, skipped, Search()), [], 0
    kept = []
    for path, found in zip(paths, classifier.features_stream(sources(paths)), strict=True):
        if isinstance(found, PhotoError):
            click.echo(f"Error: {in_options(str(found))}", err=True)
            failed += 1
        else:
            kept.append(path)
            rows.append(found)
    if rows:
        _write(out, features=rows, paths=kept, model=classifier.spec.sha256)
    click.echo(f"{len(rows):,} photos written to {out}" if rows else "nothing was written", err=True)
    context.exit(1 if failed else 0)


def _write(path: Path, **arrays: Any) -> None:
    import numpy as np

    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)
