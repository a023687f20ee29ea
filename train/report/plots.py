"""The plots of a report, as data URIs: training curves, confusion, reliability, selective answering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
from PIL import Image

from ..evaluation import Answered, Evaluation
from ..recipe import Recipe
from .pictures import data_uri

_INK, _FAINT = "#22303c", "#8a96a0"
COLOURS = ("#2b6a99", "#c8592f")  # one for each evaluation, also in the page's style
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "text.color": _INK,
    "text.parse_math": False,  # a label may contain a dollar sign
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ec",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
_NUMBERED_CLASSES = 12  # up to this many, the confusion matrix is small and shows its zeros
_MANY = 0.05  # share of the photos; for fewer, the interval is too wide to plot


def draw_plots(evaluations: dict[str, Evaluation], log: list[list[float | None]], recipe: Recipe) -> dict[str, Any]:
    """All plots of a report, by name; no training curves without a ``log``."""
    with matplotlib.rc_context(_STYLE):
        return _draw_plots(evaluations, log, recipe)


def _draw_plots(evaluations: dict[str, Evaluation], log: list[list[float | None]], recipe: Recipe) -> dict[str, Any]:
    return {
        "loss": _plot(3.1, _draw_losses, log, recipe.freeze_epochs) if log else None,
        "error": _plot(3.1, _draw_error_rate, log, recipe.freeze_epochs) if log else None,
        "confusion": {name: _confusion_plot(evaluation) for name, evaluation in evaluations.items()},
        "wide_confusion": len(next(iter(evaluations.values())).labels) > _NUMBERED_CLASSES,
        "reliability": _reliability_plot(evaluations),
        "answered": _plot(4.0, _draw_answered, evaluations),
    }


def _plot(height: float, draw: Callable[..., None], *content: Any) -> str:
    figure = Figure(figsize=(4.4, height), layout="constrained")
    draw(figure.add_subplot(), *content)
    return _png(figure)


def _png(figure: Figure) -> str:
    file = BytesIO()
    figure.savefig(file, format="png", dpi=200)
    image = Image.open(file).convert("RGB").quantize(64, dither=Image.Dither.NONE)  # a third of the size
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return data_uri("image/png", file.getvalue())


def _column(log: list[list[float | None]], i: int) -> list[float]:
    """One quantity by epoch; matplotlib leaves a gap at nan."""
    values = [row[i] if i < len(row) else None for row in log]
    return [float("nan") if value is None else value for value in values]


def _draw_losses(axes: Axes, log: list[list[float | None]], freeze_epochs: int) -> None:
    epochs = range(1, len(log) + 1)
    axes.plot(epochs, _column(log, 0), "o--", color=_FAINT, markersize=4, label="training")
    axes.plot(epochs, _column(log, 1), "o-", color=COLOURS[0], markersize=5, label="validation")
    axes.set_ylabel("loss")
    axes.legend()
    _epoch_axis(axes, len(log), freeze_epochs)


def _draw_error_rate(axes: Axes, log: list[list[float | None]], freeze_epochs: int) -> None:
    rates = [100 * value for value in _column(log, 2)]
    axes.plot(range(1, len(log) + 1), rates, "o-", color=COLOURS[0], markersize=5)
    if not np.nanmax([*rates, 0]):
        axes.set_ylim(0, 1)  # matplotlib would end an axis of zeros at 0.05 %
    axes.set_ylabel("error rate on validation, %")
    _epoch_axis(axes, len(log), freeze_epochs)


def _epoch_axis(axes: Axes, epochs: int, freeze_epochs: int) -> None:
    """Label whole epochs, start the other axis at zero, and shade the epochs with a frozen body."""
    axes.set_xlim(0.5, epochs + 0.5)
    axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    frozen = min(freeze_epochs, epochs)
    if frozen:
        axes.axvspan(0.5, frozen + 0.5, color="#f1f3f5", zorder=0)
        corner = (0.5, 0)
        axes.annotate("body frozen", corner, (4, 4), textcoords="offset points", color=_FAINT, size=8)


def _confusion_plot(evaluation: Evaluation) -> str:
    classes = len(evaluation.labels)
    few = classes <= _NUMBERED_CLASSES
    figure = Figure(figsize=(4.4, 3.4) if few else (8.8, 8.8), layout="constrained")
    _draw_confusion(figure.add_subplot(), evaluation, 10 if few else 6, zeros=few)
    return _png(figure)


def _draw_confusion(axes: Axes, evaluation: Evaluation, font: float, zeros: bool) -> None:
    counts = np.array(evaluation.confusion)
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        if count or zeros:
            shade = "white" if shares[row, column] > 0.6 else _INK
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=shade, size=font)
    places = range(len(counts))
    axes.set_xticks(places, evaluation.labels, rotation=0 if len(counts) < 5 else 90, size=font)
    axes.set_yticks(places, evaluation.labels, size=font)
    axes.set(xlabel="predicted", ylabel="label")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _reliability_plot(evaluations: dict[str, Evaluation]) -> str:
    figure = Figure(figsize=(4.4, 4.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _draw_reliability(upper, evaluations)
    _draw_counts(lower, evaluations)
    return _png(figure)


def _draw_reliability(axes: Axes, evaluations: dict[str, Evaluation]) -> None:
    lowest = min(bin.low for evaluation in evaluations.values() for bin in evaluation.calibration.bins if bin.photos)
    axes.plot([lowest, 1], [lowest, 1], "--", color=_FAINT, linewidth=1.2)
    for shift, (name, evaluation), colour in _series(evaluations):
        for bin in evaluation.calibration.bins:
            if bin.confidence is not None and bin.accuracy is not None:
                x = bin.confidence + 0.004 * shift
                axes.plot([x, x], bin.interval, color=colour, linewidth=1, alpha=0.5)
                axes.plot(x, bin.accuracy, "o", color=colour, markersize=5)
        axes.plot([], [], "o", color=colour, label=name)
    axes.set(ylabel="share of correct answers", ylim=(0, 1.03), xlim=(lowest, 1.01))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)


def _draw_counts(axes: Axes, evaluations: dict[str, Evaluation]) -> None:
    for shift, (_, evaluation), colour in _series(evaluations):
        bins = evaluation.calibration.bins
        width = 0.36 * (bins[0].high - bins[0].low)
        middles = [(bin.low + bin.high) / 2 + shift * width / 2 for bin in bins]
        axes.bar(middles, [bin.photos for bin in bins], width, color=colour)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(ylabel="photos", xlabel="probability of the answer")


def _series(evaluations: dict[str, Evaluation]) -> list[tuple[int, tuple[str, Evaluation], str]]:
    """Each evaluation with its horizontal shift, -1 or 1 (0 if it is alone), and its colour."""
    sides: Sequence[int] = (0,) if len(evaluations) == 1 else (-1, 1)
    return list(zip(sides, evaluations.items(), COLOURS, strict=False))


def _draw_answered(axes: Axes, evaluations: dict[str, Evaluation]) -> None:
    for _, (name, evaluation), colour in _series(evaluations):
        rows = _with_enough(evaluation)
        shares, rates = [100 * row.share for row in rows], [100 * (row.error.rate or 0) for row in rows]
        low, high = 100 * np.array([row.error.interval for row in rows]).reshape(-1, 2).T
        axes.fill_between(shares, low, high, color=colour, alpha=0.1, linewidth=0)
        axes.plot(shares, rates, "o-", color=colour, markersize=4, label=name)
        if name == list(evaluations)[-1]:
            _label_thresholds(axes, [f"{row.bar:g}" for row in rows], shares, rates, colour)
    axes.set(xlabel="photos answered, %", ylabel="errors among them, %")
    axes.set_ylim(0, 100 * _top_of_axis(evaluations))
    axes.margins(x=0.14)  # room for the first threshold's label
    axes.legend(loc="upper left")


def _with_enough(evaluation: Evaluation) -> list[Answered]:
    """The thresholds that enough photos reach."""
    return [row for row in evaluation.answered if row.share >= _MANY]


def _top_of_axis(evaluations: dict[str, Evaluation]) -> float:
    """The upper end of the axis, above all intervals drawn."""
    rows = [row for evaluation in evaluations.values() for row in _with_enough(evaluation)]
    return 1.1 * max((row.error.interval[1] for row in rows), default=1.0)


def _label_thresholds(axes: Axes, bars: list[str], shares: list[float], rates: list[float], colour: str) -> None:
    """Label some thresholds at their points; the labels of all would overlap."""
    for bar, share, rate in zip(bars, shares, rates, strict=True):
        if bar in ("0.5", "0.9", "0.99", "0.999"):
            axes.annotate(bar, (share, rate), (-4, 5), textcoords="offset points", ha="right", size=8, color=colour)
