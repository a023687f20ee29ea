"""What a measurement says, apart from the times themselves."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from petinfer import Classifier, PetinferError
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
from .several_labels import colours_model, photo


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A model that answers in microseconds."""
    pytest.importorskip("onnx")
    return colours_model(tmp_path / "small.onnx")


@pytest.fixture
def tiny_photo() -> bytes:
    out = io.BytesIO()
    Image.fromarray(photo(200, 100, 0)).save(out, "png")
    return out.getvalue()


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


def test_each_step_has_its_own_percentiles() -> None:
    """Of 0, 1 … 1000 ms, and twice, three and four times as much."""
    seconds = np.arange(1001)[:, None] * [1, 2, 3, 4] / 1000
    expected = {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "max": 1000}
    assert Latency(seconds, 1.0).percentiles() == {
        step: pytest.approx({name: factor * value for name, value in expected.items()})
        for factor, step in enumerate(("decode", "resize", "inference", "total"), 1)
    }


def test_a_ratio_has_its_interval() -> None:
    median, low, high = ratio(latency([2.0] * 50 + [4.0] * 50), latency([1.0] * 100))
    assert (low, median, high) == pytest.approx((2, 3, 4))


@pytest.mark.parametrize(
    ("ratios", "interval"), [(1, (1, 1, 1)), (2, (1, 1.5, 2)), (10, (2, 5.5, 10)), (100, (41, 50.5, 61))]
)
def test_the_interval_of_a_ratio_is_of_its_order_statistics(ratios: int, interval: tuple[float, ...]) -> None:
    """Of n ratios 1, 2, … n: 95 % of Binomial(n, 1/2) lie within 0.98 √n of n/2."""
    one = latency([2.0 * ratio for ratio in range(ratios, 0, -1)])
    median, low, high = ratio(one, latency([2.0] * ratios))
    assert (low, median, high) == pytest.approx(interval)


def test_classifiers_take_turns_and_are_measured_as_often(cat_photo: Path) -> None:
    one = Classifier(threads=1)
    first, second = measure([one, one], cat_photo.read_bytes(), queries=2, duration=0, warm_up=1)
    assert first.seconds.shape == second.seconds.shape == (2, 4)


class Counting(Classifier):
    """A classifier that counts its queries."""

    queries = 0

    def predict_pixels(self, pixels: Any) -> Any:
        """Count one more."""
        self.queries += 1
        return super().predict_pixels(pixels)


@pytest.mark.parametrize(("options", "queries"), [({"warm_up": 2}, 5), ({}, 11)])
def test_the_warm_up_is_not_counted(options: dict[str, int], queries: int, small: Path, tiny_photo: bytes) -> None:
    classifier = Counting(small, threads=1)
    (found,) = measure([classifier], tiny_photo, queries=3, duration=0, **options)
    assert (len(found.seconds), classifier.queries) == (3, queries)


def test_a_measurement_lasts_at_least_its_duration(small: Path, tiny_photo: bytes) -> None:
    start = time.perf_counter()
    (found,) = measure([Classifier(small, threads=1)], tiny_photo, queries=1, duration=0.2, warm_up=0)
    assert 0.2 <= time.perf_counter() - start < 20
    assert len(found.seconds) > 1 and 0 < found.seconds[:, -1].sum() < 20


def test_the_steps_of_a_query_make_its_total(small: Path, tiny_photo: bytes) -> None:
    (found,) = measure([Classifier(small, threads=1)], tiny_photo, queries=20, duration=0)
    assert found.seconds.min() > 0 and found.seconds.max() < 20
    assert found.seconds[:, :3].sum(1) == pytest.approx(found.seconds[:, 3])


@pytest.mark.parametrize(("duration", "queries"), [(0, 1), (5, 1), (5.5, 2), (11, 3)])
def test_figures_follow_from_the_clocks(
    duration: float, queries: int, small: Path, tiny_photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clock goes on by a second whenever it is read: four times a query, and once after it. The other one by two."""
    clocks = SimpleNamespace(perf_counter=count().__next__, process_time=count(0, 2).__next__)
    monkeypatch.setattr("petinfer.bench.latency.time", clocks)
    (found,) = measure([Classifier(small, threads=1)], tiny_photo, queries=1, duration=duration, warm_up=0)
    assert found.seconds.tolist() == [[1, 1, 1, 3]] * queries
    assert found.cores_busy == pytest.approx(2 / 3)
    assert found.peak_memory_mb is None or found.peak_memory_mb > 20


def test_the_description_names_what_ran() -> None:
    about = describe(Classifier(threads=1))
    assert (about["provider"], about["threads"], about["model"]) == ("CPUExecutionProvider", 1, str(BUNDLED_MODEL))
    assert len(about["digest"]) == 64 and about["processor"]


def test_a_cold_start_has_its_parts_in_milliseconds(cat_photo: Path) -> None:
    found = cold_start(cat_photo, Classifier(threads=1), processes=1)
    assert list(found) == ["process", "import", "session", "first answer"]
    whole, *parts = found.values()
    assert min(parts) > 0 and 20 < sum(parts) < whole < 100_000


def test_a_cold_start_is_made_with_the_same_settings(
    small: Path, tiny_photo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python imports the module sitecustomize as it starts, and this one writes down how it was started."""
    (tmp_path / "tiny.png").write_bytes(tiny_photo)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import atexit, json, os, sys\n"
        f"file = open({str(tmp_path / 'started')!r}, 'a')\n"
        "told = lambda: file.write(json.dumps([sys.argv[1:], 'OPENBLAS_NUM_THREADS' in os.environ]) + '\\n')\n"
        "atexit.register(told)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    cold_start(tmp_path / "tiny.png", Classifier(small, "cpu", 1, "stored", "fast"), processes=2)
    started = [json.loads(line) for line in (tmp_path / "started").read_text().splitlines()]
    same = {"model": str(small), "device": "cpu", "threads": 1, "orientation": "stored", "decode": "fast"}
    assert [(photo, json.loads(settings), openblas) for (photo, settings), openblas in started] == [
        (str(tmp_path / "tiny.png"), same, False)
    ] * 2


def test_a_process_that_fails_is_one_line(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['PIL'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        PetinferError, match=r"^--cold: a new process ended with exit code 1: .*PIL.* \(check the"
    ) as caught:
        cold_start(tmp_path / "photo.png", Classifier(small), processes=1)
    assert "\n" not in str(caught.value)


def test_a_frozen_program_has_no_cold_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    result = cli_runner().invoke(main, ["bench", "--queries", "1", "--duration", "0", "--cold"])
    problem = "--cold: cannot start Python from a frozen program (run it with an installed petinfer)"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {problem}\n")


def test_throughput_is_photos_per_second(small: Path) -> None:
    """A small model answers thousands of photos per second, and more in a large batch than one by one."""
    found = throughput(Classifier(small, threads=1), [1, 4096], seconds=0.05)
    one, many = (entry["photos_per_second"] for entry in found)
    assert 10 < one < many < 1e9


def test_throughput_is_of_each_batch_size_at_each_number_of_threads() -> None:
    found = throughput(Classifier(threads=1), [1, 3], seconds=0)
    assert [(entry["batch"], entry["threads"]) for entry in found] == [(1, 1), (3, 1)]
    assert all(entry["photos_per_second"] > 0 for entry in found)


def test_throughput_is_measured_with_fewer_threads_too(small: Path) -> None:
    classifier = Classifier(small, threads=1)
    classifier.threads = 2  # which this machine may not have
    found = throughput(classifier, [5, 6], seconds=0)
    assert [(entry["batch"], entry["threads"]) for entry in found] == [(5, 1), (5, 2), (6, 1), (6, 2)]


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
    with Image.open(tmp_path / "latency.png") as drawn:
        assert drawn.size == (1080, 432)


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
