"""The plot of the results."""

from __future__ import annotations

from pathlib import Path

from benchmarks import chart

from .rows import int8_row


def test_the_plot_is_a_small_image(tmp_path: Path) -> None:
    chart.draw([int8_row(0.25)], "a machine", tmp_path / "plot.png")
    assert 1000 < (tmp_path / "plot.png").stat().st_size < 150_000
