"""Scores of how familiar a photo is, compared on a model file's features and logits.

usage: python -m benchmarks.familiarity_scores MODEL TRAINING PHOTOS OTHERS --unfamiliar FOLDER

Every score is fitted on the photos of TRAINING, some of them on those of FOLDER too. For each, prints the share of OTHERS that
reach the limits which 95 % and 99 % of PHOTOS reach. The file's own familiarity is not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from export.onnx_file.familiarity import Array, direction_from, fit, unit_length
from export.parity.compare import file_outputs
from export.photos import photos_below
from export.progress import progress_bar
from petinfer import Classifier

from .familiarity import limit_for
from .question import HELP

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_PRINCIPAL = 64  # directions of the Mahalanobis distance and of ViM's principal space

Score = Callable[["Outputs"], Array]


@dataclass(frozen=True)
class Outputs:
    """Of a model file, for some photos."""

    features: Array
    """[photos, features]"""
    logits: Array
    """[photos, classes]"""


@click.command(context_settings=HELP)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("training", type=_FOLDER)
@click.argument("photos", type=_FOLDER)
@click.argument("others", type=_FOLDER)
@click.option("--unfamiliar", type=_FOLDER, help="Photos of other things, to fit on; none of them in OTHERS.")
def main(model: Path, training: Path, photos: Path, others: Path, unfamiliar: Path | None) -> None:
    """Compare scores on PHOTOS of a model file's classes and on OTHERS."""
    classifier = Classifier(model)
    trained, familiar, strange = (_outputs(classifier, folder) for folder in (training, photos, others))
    found = scores(trained, _outputs(classifier, unfamiliar) if unfamiliar else None)
    click.echo(f"{'others that reach the limit of … of the photos':50} {'95 %':>7} {'99 %':>7}")
    for name, score in found.items():
        accepted = [(score(strange) >= limit_for(score(familiar), share)).mean() for share in (0.95, 0.99)]
        click.echo(f"{name:50} {accepted[0]:7.1%} {accepted[1]:7.1%}")


def _outputs(classifier: Classifier, folder: Path) -> Outputs:
    paths = progress_bar(photos_below(folder, {}), folder.name)
    return Outputs(*file_outputs(classifier, paths, "features", "logits"))


def scores(trained: Outputs, unfamiliar: Outputs | None = None) -> dict[str, Score]:
    """Each score by its name; a larger one is more familiar.

    Args:
        trained: of training photos.
        unfamiliar: of photos of other things; without them, the scores that need them are left out.
    """
    found: dict[str, Score] = {
        "largest logit": lambda of: of.logits.max(1),
        "energy (arXiv 2010.03759)": _energy,
        "margin between the two largest logits": _margin,
        "length of the features": lambda of: np.linalg.norm(of.features, axis=1),
        "ViM (arXiv 2203.10807)": _vim(trained),
        "Mahalanobis distance (arXiv 1807.03888)": _mahalanobis(trained.features),
        "second nearest neighbour (arXiv 2204.06507)": _nearest(trained.features, 2),
        "tenth nearest neighbour": _nearest(trained.features, 10),
    }
    if unfamiliar is None:
        name, measure = "neighbours and Mahalanobis distance", fit(trained.features)
    else:
        found["regression against other things"] = _regression(trained.features, unfamiliar.features)
        name, measure = "neighbours and regression", fit(trained.features, unfamiliar.features)
    chosen = found[f"{name}, as in a file"] = lambda of: measure(of.features)
    found["… and margin"] = _sum(chosen, _margin, trained)
    return found


def _energy(of: Outputs) -> Array:
    return np.asarray(np.logaddexp.reduce(of.logits, axis=1))


def _margin(of: Outputs) -> Array:
    ranked = np.sort(of.logits, axis=1)
    return np.asarray(ranked[:, -1] - ranked[:, -2])


def _sum(one: Score, other: Score, trained: Outputs) -> Score:
    """Both, each divided by its standard deviation on the training photos."""
    scales = [score(trained).std() for score in (one, other)]
    return lambda of: one(of) / scales[0] + other(of) / scales[1]


def _nearest(trained: Array, number: int) -> Score:
    """Minus the squared distance of unit features to the nearest of the training photos', by number."""
    known = unit_length(trained)
    return lambda of: 2 * np.partition(unit_length(of.features) @ known.T, -number, axis=1)[:, -number] - 2


def _regression(trained: Array, unfamiliar: Array) -> Score:
    """The logit of a training photo against one of other things, on unit features."""
    direction = direction_from(unfamiliar, trained)
    return lambda of: unit_length(of.features) @ direction


def _mahalanobis(trained: Array) -> Score:
    """Of unit features: each principal direction has its variance, and all others have one (probabilistic PCA)."""
    mean, variances, principal = _principal(unit_length(trained))
    rest = (np.square(unit_length(trained) - mean).sum(1).mean() - variances.sum()) / (len(mean) - len(variances))

    def score(of: Outputs) -> Array:
        centred = unit_length(of.features) - mean
        squares = np.square(centred @ principal.T)
        outside = np.square(centred).sum(1) - squares.sum(1)
        return np.asarray(-(squares / variances).sum(1) - outside / rest)

    return score


def _principal(features: Array) -> tuple[Array, Array, Array]:
    """The mean, and the largest variances and their directions, [directions, features]."""
    mean = features.mean(0)
    _, singular, directions = np.linalg.svd(features - mean, full_matrices=False)
    rank = min(_PRINCIPAL, len(features) // 4, len(mean) // 4)
    return mean, np.square(singular[:rank]) / len(features), directions[:rank]


def _vim(trained: Outputs) -> Score:
    """Energy less the length of the features outside their principal space, at the scale of the largest logits.

    The origin is the features' mean: the paper's needs a last layer that takes the features themselves.
    """
    mean, _, principal = _principal(trained.features)

    def outside(features: Array) -> Array:
        centred = features - mean
        return np.asarray(np.linalg.norm(centred - centred @ principal.T @ principal, axis=1))

    factor = trained.logits.max(1).mean() / outside(trained.features).mean()
    return lambda of: _energy(of) - factor * outside(of.features)


if __name__ == "__main__":
    main()
