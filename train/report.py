"""A run's report: one HTML file with every picture inside, for people to read without network or JavaScript."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from fastai.vision.all import Learner, hook_output
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
from PIL import Image

from .evaluation import Answered, ErrorRate, Evaluation, TopLoss, as_array
from .recipe import Recipe, as_settings

_INK, _FAINT = "#22303c", "#8a96a0"
_COLOURS = ("#2b6a99", "#c8592f")  # one an evaluation, here and in the page's style
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "text.color": _INK,
    "text.parse_math": False,  # a label may hold a dollar sign
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
_NUMBERED_CLASSES = 12  # up to here the confusion matrix is a small picture with words and zeros in it
_MAPPED = 8  # so many of the worst answers get a map
_THUMBNAIL = 224  # px
_MANY = 0.05  # share of the photos; of fewer, an interval says nothing

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class WorstAnswer:
    """One of the top losses, with its pictures as data URIs; no map where none was asked for or the network has none."""

    answer: TopLoss
    photo: str
    map: str | None

    @property
    def wrong(self) -> bool:
        """Whether it is an error, or only a right answer that was given without confidence."""
        return self.answer.predicted != self.answer.truth


@dataclass(frozen=True)
class BreedRow:
    """A breed's errors in each evaluation; None where it has no photos."""

    name: str
    errors: list[ErrorRate | None]

    @property
    def wrong(self) -> int:
        """Its errors in all evaluations."""
        return sum(error.errors for error in self.errors if error)


def write_report(
    path: Path,
    learn: Learner,
    recipe: Recipe,
    evaluations: dict[str, Evaluation],
    log: list[list[float | None]],
    facts: dict[str, str],
) -> None:
    """Write the report, beside and then in place.

    Args:
        path: the HTML file.
        learn: looks at the top losses again, for the maps of what it looked at. Its model is left in eval mode.
        recipe: the run's settings.
        evaluations: one or two, by name, such as validation and test; their photos are read again.
        log: an epoch's [train_loss, valid_loss, error_rate] a row; None is what was not measured.
        facts: whatever else is to be told of the run, such as versions and a date.
    """
    with matplotlib.rc_context(_STYLE):
        plots = _plots(evaluations, log, recipe)
    worst = {name: _worst_answers(learn, evaluation) for name, evaluation in evaluations.items()}
    page = _template().render(
        title=_title(recipe, evaluations),
        evaluations=evaluations,
        plots=plots,
        breeds=_breeds(evaluations),
        breed_not_told=[_breed_not_told(evaluation) for evaluation in evaluations.values()],
        worst=worst,
        mapped=any(answer.map for answers in worst.values() for answer in answers),
        settings=as_settings(recipe),
        lesson=as_settings(Recipe()),
        sharpened=_sharpened(recipe),
        facts=facts,
        colours=_COLOURS,
    )
    beside = path.with_suffix(".part")
    beside.write_text(page, encoding="utf-8")
    os.replace(beside, path)


def _template() -> Any:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.filters["interval"] = _interval
    return environment.get_template("report.html.jinja")


def percent(share: float | None, digits: int = 2) -> str:
    """A share for people: ``1.35 %``; a dash for None; ``over 99.99 %`` for what rounding would call certain."""
    if share is None:
        return "–"
    text = f"{100 * share:.{digits}f}"
    return f"over {100 - 10.0**-digits:.{digits}f} %" if share < 1 and text == f"{100:.{digits}f}" else f"{text} %"


def _interval(error: ErrorRate) -> str:
    low, high = error.interval
    return f"{100 * low:.2f} to {100 * high:.2f} %"


def _title(recipe: Recipe, evaluations: dict[str, Evaluation]) -> str:
    labels = next(iter(evaluations.values())).labels
    told = f"{', '.join(labels[:-1])} and {labels[-1]}" if len(labels) < 4 else f"{len(labels)} labels"
    return f"{recipe.arch} tells {told} apart"


def _sharpened(recipe: Recipe) -> list[str]:
    """What makes the losses of the training not those of the plain labels."""
    reasons = {"label smoothing": recipe.label_smoothing, "MixUp": recipe.mixup, "a teacher": recipe.teacher}
    return [reason for reason, used in reasons.items() if used]


def _breeds(evaluations: dict[str, Evaluation]) -> list[BreedRow]:
    """The breeds that an evaluation has photos of, those with most errors first."""
    found = [{row.breed: row.error for row in evaluation.breeds} for evaluation in evaluations.values()]
    rows = [BreedRow(name, [errors.get(name) for errors in found]) for name in sorted(set().union(*found))]
    return sorted(rows, key=lambda row: -row.wrong)


def _breed_not_told(evaluation: Evaluation) -> ErrorRate | None:
    told = [row.error for row in evaluation.breeds]
    photos = evaluation.error.photos - sum(error.photos for error in told)
    errors = evaluation.error.errors - sum(error.errors for error in told)
    return ErrorRate.of(errors, photos) if photos else None


# Top losses and what the network looked at


def _worst_answers(learn: Learner, evaluation: Evaluation) -> list[WorstAnswer]:
    files = [Path(evaluation.folder) / answer.photo for answer in evaluation.top_losses]
    dl = learn.dls.test_dl(files, bs=len(files), num_workers=0)
    batch = dl.one_batch()[0]
    photos = _pixels(dl.decode((batch,))[0])
    maps = class_activation_maps(learn, batch[:_MAPPED])
    overlays: list[str | None] = [None] * len(files)
    if maps is not None:
        overlays[: len(maps)] = [_jpeg(_overlay(photo, map)) for photo, map in zip(photos, maps, strict=False)]
    return [
        WorstAnswer(answer, _jpeg(photo), overlay)
        for answer, photo, overlay in zip(evaluation.top_losses, photos, overlays, strict=True)
    ]


def _pixels(images: torch.Tensor) -> Pixels:
    """Decoded images [photos, 3, height, width], 0 to 255 or floats up to 1, as bytes [photos, height, width, 3]."""
    values = as_array(images).transpose(0, 2, 3, 1)
    scale = 255 if np.issubdtype(values.dtype, np.floating) else 1
    pixels: Pixels = (values * scale).round().clip(0, 255).astype(np.uint8)
    return pixels


def class_activation_maps(learn: Learner, batch: torch.Tensor) -> npt.NDArray[np.float32] | None:
    """Grad-CAM (arXiv 1610.02391): how much each place of the body's last feature map raises the predicted logit.

    Args:
        learn: a ``vision_learner``: body and head. Its model is left in eval mode, without gradients.
        batch: normalised images [photos, 3, height, width].

    Returns:
        [photos, rows, columns], from 0 to 1, the highest place of each photo at 1; None where the body's output has no
        rows and columns, as a vision transformer's.
    """
    images = batch.detach().as_subclass(torch.Tensor).clone().requires_grad_()  # a frozen body gives no gradient else
    learn.model.eval()
    with torch.enable_grad(), hook_output(learn.model[0], detach=False) as hook:
        logits = learn.model(images)
    features = hook.stored
    if not isinstance(features, torch.Tensor) or features.ndim != 4 or features.shape[2:].numel() == 1:
        return None
    (slopes,) = torch.autograd.grad(logits.max(1).values.sum(), features)
    raised = (slopes.mean((2, 3), keepdim=True) * features).sum(1).relu()
    return as_array(raised / raised.amax((1, 2), keepdim=True).clamp_min(1e-12))


def _overlay(photo: Pixels, map: npt.NDArray[np.float32]) -> Pixels:
    """The map over the photo, which fades to grey where the network did not look."""
    height, width = photo.shape[:2]
    weight = np.asarray(Image.fromarray(map).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)[..., None]
    grey = np.asarray(Image.fromarray(photo).convert("L"), dtype=np.float64)[..., None]
    colour = 255 * matplotlib.colormaps["inferno"](0.25 + 0.7 * weight[..., 0])[..., :3]
    pixels: Pixels = (grey * (1 - 0.6 * weight) + colour * 0.6 * weight).clip(0, 255).astype(np.uint8)
    return pixels


def _jpeg(pixels: Pixels) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = BytesIO()
    image.save(file, "JPEG", quality=82, optimize=True)
    return _data_uri("image/jpeg", file.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


# Plots


def _plots(evaluations: dict[str, Evaluation], log: list[list[float | None]], recipe: Recipe) -> dict[str, Any]:
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
    image = Image.open(file).convert("RGB").quantize(64, dither=Image.Dither.NONE)  # a third of the bytes
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return _data_uri("image/png", file.getvalue())


def _column(log: list[list[float | None]], i: int) -> list[float]:
    """One quantity by epoch; matplotlib leaves a gap at nan."""
    values = [row[i] if i < len(row) else None for row in log]
    return [float("nan") if value is None else value for value in values]


def _draw_losses(axes: Axes, log: list[list[float | None]], freeze_epochs: int) -> None:
    epochs = range(1, len(log) + 1)
    axes.plot(epochs, _column(log, 0), "o--", color=_FAINT, markersize=4, label="training")
    axes.plot(epochs, _column(log, 1), "o-", color=_COLOURS[0], markersize=5, label="validation")
    axes.set_ylabel("loss")
    axes.legend()
    _epoch_axis(axes, len(log), freeze_epochs)


def _draw_error_rate(axes: Axes, log: list[list[float | None]], freeze_epochs: int) -> None:
    rates = [100 * value for value in _column(log, 2)]
    axes.plot(range(1, len(log) + 1), rates, "o-", color=_COLOURS[0], markersize=5)
    axes.set_ylabel("error rate on validation, %")
    _epoch_axis(axes, len(log), freeze_epochs)


def _epoch_axis(axes: Axes, epochs: int, freeze_epochs: int) -> None:
    """Whole epochs from a zero of the other axis, with those shaded in which the body was frozen."""
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
    axes.set(xlabel="answered", ylabel="shown")
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
    axes.set(ylabel="share of right answers", ylim=(0, 1.03), xlim=(lowest, 1.01))
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
    """Each evaluation with a side to stand on, -1 or 1 (0 if it is alone), and its colour."""
    sides: Sequence[int] = (0,) if len(evaluations) == 1 else (-1, 1)
    return list(zip(sides, evaluations.items(), _COLOURS, strict=False))


def _draw_answered(axes: Axes, evaluations: dict[str, Evaluation]) -> None:
    for _, (name, evaluation), colour in _series(evaluations):
        rows = _of_many(evaluation)
        shares, rates = [100 * row.share for row in rows], [100 * (row.error.rate or 0) for row in rows]
        low, high = 100 * np.array([row.error.interval for row in rows]).reshape(-1, 2).T
        axes.fill_between(shares, low, high, color=colour, alpha=0.1, linewidth=0)
        axes.plot(shares, rates, "o-", color=colour, markersize=4, label=name)
        if name == list(evaluations)[-1]:
            _name_bars(axes, [f"{row.bar:g}" for row in rows], shares, rates, colour)
    axes.set(xlabel="photos answered, %", ylabel="errors among them, %")
    axes.set_ylim(0, 100 * _highest_of_many(evaluations))
    axes.margins(x=0.14)  # room for the first bar's name
    axes.legend(loc="upper left")


def _of_many(evaluation: Evaluation) -> list[Answered]:
    """The bars above which many photos are answered."""
    return [row for row in evaluation.answered if row.share >= _MANY]


def _highest_of_many(evaluations: dict[str, Evaluation]) -> float:
    """The top of the intervals that are drawn."""
    rows = [row for evaluation in evaluations.values() for row in _of_many(evaluation)]
    return 1.1 * max((row.error.interval[1] for row in rows), default=1.0)


def _name_bars(axes: Axes, bars: list[str], shares: list[float], rates: list[float], colour: str) -> None:
    """Write some of the bars at their points; all of them would lie on each other where few photos are in doubt."""
    for bar, share, rate in zip(bars, shares, rates, strict=True):
        if bar in ("0.5", "0.9", "0.99", "0.999"):
            axes.annotate(bar, (share, rate), (-4, 5), textcoords="offset points", ha="right", size=8, color=colour)
