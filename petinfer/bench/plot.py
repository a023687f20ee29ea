"""Draws latencies; needs matplotlib."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import PetinferError
from .latency import Latency


def require_matplotlib() -> None:
    """Raise `PetinferError` if matplotlib is missing, so that it is known before anything is measured."""
    if find_spec("matplotlib") is None:
        raise PetinferError("--plot: needs matplotlib (pip install matplotlib)")


def plot(latencies: dict[str, Latency], path: Path) -> None:
    """Draw each query's latency over time, and a histogram, into a .png, .svg or .pdf file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    course, spread = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    for name, latency in latencies.items():
        milliseconds = latency.seconds[:, -1] * 1000
        course.plot(milliseconds, ".", markersize=3, label=f"{name}, median {np.median(milliseconds):.1f} ms")
        spread.hist(milliseconds, bins=40, orientation="horizontal", alpha=0.6)
    course.set(xlabel="query", ylabel="ms from bytes to answer", ylim=(0, None))
    spread.set(xlabel="queries")
    course.legend(frameon=False, loc="lower left")
    for axes in (course, spread):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
