"""What a measurement says, apart from the times themselves."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from petinfer import Classifier
from petinfer.bench.latency import (
    Latency,
    cold_start,
    measure,
    over_latencies_allowed,
    ratio,
    thread_counts,
    throughput,
)
from petinfer.bench.machine import describe
from petinfer.classifier import BUNDLED_MODEL
from petinfer.cli import main
from petinfer.cli.bench import distinct_names

from ..conftest import cli_runner


def latency(totals: list[float]) -> Latency:
    return Latency(np.array([[0, 0, 0, total] for total in totals]) / 1000, 1.0)


def test_mlperfs_quick_setting_of_64_queries_allows_one_slower_query() -> None:
    assert [over_latencies_allowed(n) for n in (43, 44, 63, 64, 1000)] == [None, 0, 0, 1, 78]


def test_the_bound_is_computed_for_many_queries() -> None:
    assert over_latencies_allowed(20_000) == 1901


def test_the_bound_leaves_out_as_many_of_the_slowest() -> None:
    assert latency([*range(1, 64), 1000]).p90_bound() == pytest.approx(63)


def test_percentiles_are_milliseconds_a_step() -> None:
    table = latency(list(range(1, 102))).percentiles()
    assert (table["total"]["p50"], table["total"]["max"], table["decode"]["max"]) == pytest.approx((51, 101, 0))


def test_a_ratio_has_its_interval() -> None:
    median, low, high = ratio(latency([2.0] * 50 + [4.0] * 50), latency([1.0] * 100))
    assert (low, median, high) == pytest.approx((2, 3, 4))


def test_classifiers_take_turns_and_are_measured_as_often(cat_photo: Path) -> None:
    one = Classifier(threads=1)
    first, second = measure([one, one], cat_photo.read_bytes(), queries=2, duration=0, warm_up=1)
    assert first.seconds.shape == second.seconds.shape == (2, 4)


def test_the_description_names_what_ran() -> None:
    about = describe(Classifier(threads=1))
    assert (about["provider"], about["threads"], about["model"]) == ("CPUExecutionProvider", 1, str(BUNDLED_MODEL))
    assert len(about["digest"]) == 64 and about["processor"]


def test_a_cold_start_has_its_parts(cat_photo: Path) -> None:
    assert list(cold_start(cat_photo, Classifier(threads=1), processes=1)) == [
        "process",
        "import",
        "session",
        "first answer",
    ]


def test_throughput_is_of_each_batch_size_at_each_number_of_threads() -> None:
    found = throughput(Classifier(threads=1), [1, 3], seconds=0)
    assert [(entry["batch"], entry["threads"]) for entry in found] == [(1, 1), (3, 1)]
    assert all(entry["photos_per_second"] > 0 for entry in found)


def test_threads_are_doubled_up_to_the_most() -> None:
    assert [thread_counts(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_without_a_photo_a_golden_one_is_measured_and_what_ran_is_named() -> None:
    options = ["--queries", "2", "--duration", "0", "--batch", "2", "--threads", "1"]
    printed = cli_runner().invoke(main, ["bench", *options]).stdout
    assert "cat.jpg: cat" in printed
    assert "CPUExecutionProvider, 1 thread, exact decoding" in printed
    assert f"onnxruntime {onnxruntime.__version__}" in printed
    assert re.search(r"photos per second +1 thread\nbatches of 2 +\d", printed)


def test_samples_are_written_as_csv_and_drawn(cat_photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    options = ["--queries", "2", "--duration", "0", "--csv", "--plot", str(tmp_path / "latency.png")]
    printed = cli_runner().invoke(main, ["bench", str(cat_photo), *options]).stdout
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [row["model"] for row in rows] == ["pets-int8.onnx"] * 2
    assert Image.open(tmp_path / "latency.png").size == (1080, 432)


def test_output_that_cannot_be_written_is_refused_before_measuring(cat_photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for options, problem in (
        (["--plot", str(tmp_path / "absent" / "latency.png")], "its folder does not exist"),
        (["--csv", "--cold"], "--cold and --batch have no samples to write as CSV"),
        (["--csv", "--batch", "2"], "--cold and --batch have no samples to write as CSV"),
    ):
        result = cli_runner().invoke(main, ["bench", str(cat_photo), *options])
        assert result.exit_code == 2 and problem in result.stderr


def test_models_with_one_name_are_distinguished_by_their_folders(tmp_path: Path) -> None:
    same, other = tmp_path / "a" / "model-int8.onnx", tmp_path / "b" / "model-int8.onnx"
    assert distinct_names([same, other]) == ["a/model-int8.onnx", "b/model-int8.onnx"]
    assert distinct_names([same, tmp_path / "a" / "model-fp32.onnx"]) == ["model-int8.onnx", "model-fp32.onnx"]
    assert distinct_names([same]) == distinct_names([same, same])[:1] == ["model-int8.onnx"]


def test_two_models_are_compared_by_their_ratio(cat_photo: Path) -> None:
    options = ["--queries", "3", "--duration", "0", "--compare", str(BUNDLED_MODEL)]
    printed = cli_runner().invoke(main, ["bench", str(cat_photo), *options]).stdout
    assert "pets-int8.onnx takes " in printed and " of pets-int8.onnx's time (" in printed
