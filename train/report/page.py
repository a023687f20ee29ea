"""A run's report: one HTML file with all its pictures inside, readable without a network or JavaScript."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastai.vision.all import Learner
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..artifacts import write_text
from ..distillation import DoubtfulLabel
from ..evaluation import ErrorRate, Evaluation
from ..recipe import Recipe, as_settings
from .pictures import worst_answers
from .plots import COLOURS, draw_plots


@dataclass(frozen=True)
class GroupRow:
    """A breed's or source's errors in each evaluation; None where there are no photos of it."""

    name: str
    errors: list[ErrorRate | None]

    @property
    def wrong(self) -> int:
        """Its errors in all evaluations."""
        return sum(error.errors for error in self.errors if error)


@dataclass(frozen=True)
class RunDetails:
    """What a report shows of a run besides its evaluations."""

    log: list[list[float | None]]
    """For each epoch [train_loss, valid_loss, error_rate]; None is what was not measured."""
    doubtful: Sequence[DoubtfulLabel] = ()
    facts: dict[str, str] = field(default_factory=dict)
    """Such as versions and a date."""


def write_report(
    path: Path, learn: Learner, recipe: Recipe, evaluations: dict[str, Evaluation], details: RunDetails
) -> None:
    """Write the report.

    Args:
        path: the HTML file.
        learn: computes the maps of the worst answers. Its model is in eval mode afterwards.
        recipe: the run's settings.
        evaluations: one or two, by name, such as validation and test; their photos are read again.
        details: what else the report shows.
    """
    worst = {name: worst_answers(learn, evaluation) for name, evaluation in evaluations.items()}
    page = _template().render(
        title=_title(recipe, evaluations),
        evaluations=evaluations,
        plots=draw_plots(evaluations, details.log, recipe),
        breeds=_breeds(evaluations),
        sources=_sources(evaluations),
        without_breed=[_without_breed(evaluation) for evaluation in evaluations.values()],
        worst=worst,
        mapped=any(answer.map for answers in worst.values() for answer in answers),
        doubtful=details.doubtful,
        settings=as_settings(recipe),
        lesson=as_settings(Recipe()),
        changed_losses=_changed_losses(recipe),
        facts=details.facts,
        colours=COLOURS,
    )
    write_text(path, page)


def _template() -> Any:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.filters["interval"] = _interval
    return environment.get_template("report.html.jinja")


def percent(share: float | None, digits: int = 2) -> str:
    """A share as text: ``1.35 %``; a dash for None; ``over 99.99 %`` where rounding would give 100 %."""
    if share is None:
        return "–"
    text = f"{100 * share:.{digits}f}"
    return f"over {100 - 10.0**-digits:.{digits}f} %" if share < 1 and text == f"{100:.{digits}f}" else f"{text} %"


def _interval(error: ErrorRate) -> str:
    low, high = error.interval
    return f"{100 * low:.2f} to {100 * high:.2f} %"


def _title(recipe: Recipe, evaluations: dict[str, Evaluation]) -> str:
    labels = next(iter(evaluations.values())).labels
    words = f"{', '.join(labels[:-1])} and {labels[-1]}" if len(labels) < 4 else f"{len(labels)} labels"
    return f"{recipe.arch}: {words}"


def _changed_losses(recipe: Recipe) -> list[str]:
    """The settings that make the losses during training differ from those with the plain labels."""
    reasons = {"label smoothing": recipe.label_smoothing, "MixUp": recipe.mixup, "a teacher": recipe.teacher}
    return [reason for reason, used in reasons.items() if used]


def _breeds(evaluations: dict[str, Evaluation]) -> list[GroupRow]:
    """Each breed with photos, most errors first."""
    return _groups([{row.breed: row.error for row in evaluation.breeds} for evaluation in evaluations.values()])


def _sources(evaluations: dict[str, Evaluation]) -> list[GroupRow]:
    """Each source with photos, most errors first."""
    return _groups([{row.source: row.error for row in evaluation.sources} for evaluation in evaluations.values()])


def _groups(found: list[dict[str, ErrorRate]]) -> list[GroupRow]:
    rows = [GroupRow(name, [errors.get(name) for errors in found]) for name in sorted(set().union(*found))]
    return sorted(rows, key=lambda row: -row.wrong)


def _without_breed(evaluation: Evaluation) -> ErrorRate | None:
    """The errors among photos whose names contain no breed."""
    known = [row.error for row in evaluation.breeds]
    photos = evaluation.error.photos - sum(error.photos for error in known)
    errors = evaluation.error.errors - sum(error.errors for error in known)
    return ErrorRate.of(errors, photos) if photos else None
