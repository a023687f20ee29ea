"""How well a model file's familiarity separates photos of its classes from photos of other things.

usage: python -m benchmarks.familiarity MODEL PHOTOS OTHERS --out docs/familiarity.png

Neither folder may have been used for the export. Prints, for limits that 95 % and 99 % of PHOTOS reach, the share of OTHERS
that reaches them too, and the OTHERS that are the most familiar; the plot has both histograms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from export.parity.compare import wilson_interval
from petinfer import Classifier, PhotoError, Prediction
from petinfer.folder import find_photos

from .question import HELP

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_SHARES = (0.95, 0.99)

Array = NDArray[np.float64]


@click.command(context_settings=HELP)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("photos", type=_FOLDER)
@click.argument("others", type=_FOLDER)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a plot here (.png or .svg).")
def main(model: Path, photos: Path, others: Path, out: Path | None) -> None:
    """Measure a model file's familiarity on PHOTOS of its classes and on OTHERS."""
    classifier = Classifier(model)
    names, answers = zip(*(_answers(classifier, folder) for folder in (photos, others)), strict=True)
    familiar, strange = (np.array([each.familiarity for each in found], dtype=np.float64) for found in answers)
    for share in _SHARES:
        limit = limit_for(familiar, share)
        accepted = int((strange >= limit).sum())
        low, high = wilson_interval(accepted, len(strange))
        click.echo(
            f"{share:.0%} of {len(familiar):,} photos reach {limit:.3f}, and {accepted:,} of {len(strange):,} others:"
            f" {accepted / len(strange):.1%} ({low:.1%} to {high:.1%})"
        )
    for i in np.argsort(-strange)[:10]:
        answer = answers[1][i]
        click.echo(f"{strange[i]:7.3f}  {answer.label} {answer.probability:.1%}  {names[1][i]}")
    if out:
        draw(familiar, strange, out)


def _answers(classifier: Classifier, folder: Path) -> tuple[list[str], list[Prediction]]:
    """The photos of a folder that can be read, and their predictions."""
    paths = find_photos(str(folder)).photos
    found = list(zip(paths, classifier.predict_stream(paths), strict=True))
    answered = [(path, each) for path, each in found if not isinstance(each, PhotoError)]
    return [path for path, _ in answered], [each for _, each in answered]


def limit_for(familiar: Array, share: float) -> float:
    """The largest familiarity that at least this share of photos reaches."""
    ranked = np.sort(familiar)[::-1]
    return float(ranked[math.ceil(share * len(ranked)) - 1])


def draw(familiar: Array, strange: Array, out: Path) -> None:
    """Both histograms, and the limits that 95 % and 99 % of the photos reach."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    low, high = np.quantile(np.concatenate([familiar, strange]), [0.002, 0.998]).tolist()
    edges = np.linspace(low, high, 60).tolist()
    groups: Sequence[tuple[Array, str, str]] = (
        (familiar, f"{len(familiar):,} photos of the classes", "#2a7f62"),
        (strange, f"{len(strange):,} photos of other things", "#c8553d"),
    )
    for values, label, colour in groups:
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values, edges, weights=weights, label=label, color=colour, alpha=0.6)
    for share in _SHARES:
        limit = limit_for(familiar, share)
        axes.axvline(limit, color="#333333", linestyle="--", linewidth=1)
        axes.text(limit, axes.get_ylim()[1] * 0.98, f" {share:.0%}", va="top", fontsize=9)
    axes.set(xlabel="familiarity", ylabel="share of the photos")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main()
