"""Draws, for each question, every contender's ratio to the reference; petinfer's in colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .measurement import Row

OURS, THEIRS, MUTED = "#d1495b", "#9aa5b1", "#5b6570"

# Question, photo, and title of each panel.
PANELS = (
    ("model step", "", "the network alone"),
    ("photo to answer", "500x375", "500 × 375 photo → answer"),
    ("photo to answer", "12 Mpx", "12-megapixel photo → answer"),
    ("cold start", "", "whole process, one photo: time"),
    ("peak memory", "", "the same process: peak memory"),
    ("folder", "", "a folder of photos"),
    ("installed size", "", "installed size"),
)


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw the rows of one machine into an image file."""
    from matplotlib.figure import Figure

    panels = [(heading, chosen) for question, photo, heading in PANELS if (chosen := choose(rows, question, photo))]
    columns = panels[: len(panels) // 2], panels[len(panels) // 2 :]
    figure = Figure(figsize=(12, 7.2), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    parts: Any = figure.subfigures(1, 2)
    for part, column in zip(parts, columns, strict=True):
        if column:
            heights = [len(chosen) + 1.5 for _, chosen in column]
            axes = part.subplots(len(column), 1, height_ratios=heights, squeeze=False)[:, 0]
            for each, (heading, chosen) in zip(axes, column, strict=True):
                _panel(each, heading, chosen)
    figure.savefig(path, dpi=90)


def choose(rows: Sequence[Row], question: str, photo: str) -> list[Row]:
    """The rows of a panel, smallest ratio first: those with the most threads, compared with the first reference."""
    matching = [row for row in rows if row.question == question and row.photo.startswith(photo)]
    if not matching:
        return []
    threads = max(row.threads for row in matching)
    first = next(row.reference for row in matching if row.threads == threads)
    chosen = [row for row in matching if row.threads == threads and row.reference == first]
    return sorted(chosen, key=lambda row: row.ratio_to_reference)


def _panel(axes: Any, heading: str, rows: Sequence[Row]) -> None:
    threads = f", {rows[0].threads} thread{'s' * (rows[0].threads > 1)}" if rows[0].threads else ""
    names = [f"{row.contender} {row.precision}".strip() for row in rows]
    ratios = [row.ratio_to_reference for row in rows]
    colours = [OURS if row.contender.startswith("petinfer") else THEIRS for row in rows]
    axes.barh(names, ratios, color=colours, height=0.72)
    for place, ratio in enumerate(ratios):
        axes.text(ratio, place, f" {ratio:.2f}" if ratio >= 0.1 else f" {ratio:.3f}", va="center", fontsize=8)
    axes.axvline(1, color=MUTED, linewidth=0.8, linestyle=":")
    axes.set_title(f"{heading}{threads}", fontsize=9, loc="left", color=MUTED)
    axes.set(xlim=(0, max(ratios) * 1.12), xticks=[])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.contender.startswith("petinfer") else "normal")
