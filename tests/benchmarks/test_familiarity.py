"""The limits and intervals of the familiarity benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.familiarity import draw, limit_for


def test_the_limit_is_reached_by_at_least_the_share() -> None:
    familiar = np.arange(100.0)
    assert (limit_for(familiar, 0.95), limit_for(familiar, 0.99)) == (5, 1)
    assert (familiar >= limit_for(familiar, 0.991)).mean() >= 0.991


def test_the_plot_shows_both_groups(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    draw(random.normal(1, 0.3, 200), random.normal(-3, 1, 200), tmp_path / "plot.png")
    colours = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).reshape(-1, 3).astype(int)
    green = (colours[:, 1] > colours[:, 0] + 30).sum()
    red = (colours[:, 0] > colours[:, 1] + 60).sum()
    assert green > 1000 and red > 1000
