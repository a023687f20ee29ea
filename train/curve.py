"""The validation error against the crops that training has seen, over all stages of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .artifacts import replacing
from .errors import TrainingError
from .evaluation import wilson_interval
from .recipe import load_content

_LINES = ("#2b6a99", "#c8592f", "#2a7f62", "#7a5195")


@dataclass(frozen=True)
class Point:
    """The state after an epoch."""

    crops: int
    """Seen since the run began; crops of frozen epochs count too."""
    error: float
    """Share of the validation photos that is classified wrongly."""
    photos: int
    """How many validation photos there are."""
    kept: bool
    """Whether the stage's weights are those of this epoch."""


def read_curve(run: Path) -> list[Point]:
    """A point for each epoch of the finished stages of a run, in order.

    Raises:
        TrainingError: there is no run, or it logged no epoch.
    """
    points: list[Point] = []
    crops = 0
    for stage in (*sorted(run.glob("stage-*"), key=lambda path: int(path.name.partition("-")[2])), run):
        content = load_content(stage / "recipe.json") if (stage / "recipe.json").exists() else {}
        photos, settings = content.get("photos", {}), content.get("settings", {})
        batch, log = settings.get("batch_size", 1), content.get("outcome", {}).get("log", [])
        losses = [valid_loss for _, valid_loss, _ in log]
        kept = losses.index(min(losses)) if losses and settings.get("keep_best") else len(log) - 1
        for i, (_, _, error) in enumerate(log):
            crops += photos["train"] // batch * batch  # fastai leaves out the last batch if it is smaller
            points.append(Point(crops, error, photos["valid"], i == kept))
    if not points:
        raise TrainingError(f"{run}: logged no epoch (give the folder of a run that trained a network)")
    return points


def draw_curves(runs: Sequence[Path], out: Path) -> None:
    """Plot the curves of some runs, with 95 % Wilson intervals, into a PNG or SVG file."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, PercentFormatter

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for i, run in enumerate(runs):
        points, colour = read_curve(run), _LINES[i % len(_LINES)]
        crops = [point.crops for point in points]
        ranges = [wilson_interval(round(point.error * point.photos), point.photos) for point in points]
        low, high = [low for low, _ in ranges], [high for _, high in ranges]
        last = [point for point in points if point.kept][-1]
        label = f"{run.name}: {last.error:.1%} of {last.photos:,} photos after {last.crops:,} crops"
        axes.fill_between(crops, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(crops, [point.error for point in points], "o-", color=colour, label=label)
        axes.plot(last.crops, last.error, "o", color=colour, markersize=10, fillstyle="none")
    axes.set(xscale="log", xlabel="crops seen", ylabel="validation photos that are wrong", ylim=(0, None))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for formatting in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatting(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with replacing(out) as part, part.open("wb") as file:
        figure.savefig(file, format=out.suffix[1:], dpi=120)
