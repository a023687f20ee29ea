"""The drawing of latencies: what its axes and its legend say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petinfer.bench.latency import Latency
from petinfer.bench.plot import plot

figure = pytest.importorskip("matplotlib.figure")


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The figure of two models, of 1.004, 2.008 … 9.036 ms and of twice as much."""
    made = []
    make = figure.Figure.__init__

    def remember(self: Any, *arguments: Any, **options: Any) -> None:
        made.append(self)
        make(self, *arguments, **options)

    monkeypatch.setattr(figure.Figure, "__init__", remember)
    seconds = np.arange(1, 10)[:, None] * [0.1, 0.2, 0.7, 1.004] / 1000
    plot({"one": Latency(seconds, 1.0), "other": Latency(2 * seconds, 1.0)}, tmp_path / "latency.svg")
    (found,) = made
    return found


def test_each_query_is_a_point_and_the_legend_names_the_median(drawn: Any) -> None:
    course, _ = drawn.axes
    points = [line.get_xydata().tolist() for line in course.lines]
    assert points == [[pytest.approx([n, factor * 1.004 * (n + 1)]) for n in range(9)] for factor in (1, 2)]
    assert [line.get_linestyle() for line in course.lines] == ["None", "None"]
    labels = [text.get_text() for text in course.get_legend().get_texts()]
    assert labels == ["one, median 5.0 ms", "other, median 10.0 ms"]
    assert not course.get_legend().get_frame_on()


def test_the_axes_are_named_and_begin_at_zero(drawn: Any) -> None:
    course, spread = drawn.axes
    assert (course.get_xlabel(), course.get_ylabel()) == ("query", "ms from bytes to answer")
    assert (spread.get_xlabel(), spread.get_ylabel()) == ("queries", "")
    assert course.get_ylim()[0] == spread.get_ylim()[0] == 0
    assert course.get_ylim()[1] >= 18


def test_the_histogram_lies_beside_the_course_on_the_same_scale(drawn: Any) -> None:
    course, spread = drawn.axes
    assert course.get_ylim() == spread.get_ylim()
    assert sum(bar.get_width() for bar in spread.patches) == 18  # of each model, its nine queries
    assert len(spread.patches) == 80
    left, right = course.get_position(), spread.get_position()
    assert left.x1 < right.x0 and left.y0 == pytest.approx(right.y0)
    assert left.width == pytest.approx(3 * right.width, rel=0.01)


def test_only_the_lower_and_the_left_edge_are_drawn(drawn: Any) -> None:
    for axes in drawn.axes:
        shown = {side: axes.spines[side].get_visible() for side in ("left", "bottom", "top", "right")}
        assert shown == {"left": True, "bottom": True, "top": False, "right": False}


def test_the_suffix_names_the_format(drawn: Any, tmp_path: Path) -> None:
    text = (tmp_path / "latency.svg").read_text()
    assert text.startswith("<?xml") and re.search(r"<!-- other, median 10\.0 ms -->", text)
