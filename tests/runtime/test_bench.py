"""What `petinfer bench` prints of a measurement, to the character, and what it refuses before it measures."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from petinfer import Classifier
from petinfer.bench.latency import Latency
from petinfer.bench.machine import describe
from petinfer.cli.bench import (
    _peak_sentence,
    _print_description,
    _print_latency,
    _print_throughput,
    _write_csv,
    _write_json,
    _write_table,
    distinct_names,
)
from petinfer.cli.formats import counted

from .several_labels import colours_model, photo
from .test_cli import petinfer

pytest.importorskip("onnx")

Output = pytest.CaptureFixture[str]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A model that answers in microseconds."""
    return colours_model(tmp_path / "small.onnx", None)


@pytest.fixture
def tiny_photo(tmp_path: Path) -> Path:
    """A photo that is red."""
    Image.fromarray(photo(200, 100, 0)).save(tmp_path / "tiny.png")
    return tmp_path / "tiny.png"


def bench(small: Path, tiny_photo: Path, *options: object) -> Any:
    return petinfer("bench", tiny_photo, "--model", small, "--threads", 1, "--duration", 0, *options)


def latency(queries: int, factor: float = 1.0, memory: float | None = 123.4) -> Latency:
    """Queries of 1, 2 … ms times the factor, of which inference takes half."""
    milliseconds = np.arange(1, queries + 1)[:, None] * [0.2, 0.3, 0.5, 1]
    return Latency(milliseconds * factor / 1000, 1.5, memory)


ABOUT: dict[str, Any] = {
    "processor": "Chip 9000",
    "flags": ["avx2", "amx_int8"],
    "governor": "powersave",
    "load": 0.0,
    "provider": "CPUExecutionProvider",
    "threads": 2,
    "precision": "int8",
    "decode": "exact",
    "digest": "0123456789abcdef" * 4,
    "score": {"errors": 21, "photos": 1000},
    "versions": {"petinfer": "1.0", "python": "3.12"},
}


@pytest.mark.parametrize(
    ("changes", "wrong", "device", "state"),
    [
        ({}, ", 21 of 1000 photos wrong", "2 threads, exact", ", powersave, load 0.0"),
        ({"score": {"errors": 21}, "governor": None, "threads": 1}, "", "1 thread, exact", ", load 0.0"),
        ({"score": {}, "load": None, "decode": "fast"}, "", "2 threads, fast", ", powersave"),
    ],
)
def test_the_description_is_four_lines(
    changes: dict[str, Any], wrong: str, device: str, state: str, capsys: Output
) -> None:
    _print_description("a/model.onnx", ABOUT | changes)
    assert capsys.readouterr().out.splitlines() == [
        "",
        f"a/model.onnx, int8, digest 0123456789ab…{wrong}",
        f"CPUExecutionProvider, {device} decoding",
        f"Chip 9000 (avx2 amx_int8){state}",
        "petinfer 1.0, python 3.12",
    ]


TABLE = """
ms              p50      p90      p99    p99.9      max
decode        10.20    18.20    20.00    20.18    20.20
resize        15.30    27.30    30.00    30.27    30.30
inference     25.50    45.50    50.00    50.45    50.50
total         51.00    91.00   100.00   100.90   101.00
the 90th percentile is below 98.00 ms with 99 % confidence
"""


def printed(name: str, classifier: Classifier, latency: Latency, capsys: Output) -> str:
    _print_latency(name, classifier, latency)
    return capsys.readouterr().out


def described(name: str, classifier: Classifier, capsys: Output) -> str:
    _print_description(name, describe(classifier))
    return capsys.readouterr().out


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load is the same whenever it is asked for."""
    monkeypatch.setattr("os.getloadavg", lambda: (0.5, 0.5, 0.5), raising=False)


@pytest.mark.usefixtures("steady")
def test_the_table_has_percentiles_a_step_and_a_bound(small: Path, capsys: Output) -> None:
    classifier = Classifier(small, threads=1)
    about = described("small.onnx", classifier, capsys)
    found = printed("small.onnx", classifier, latency(101), capsys)
    assert found == f"{about}101 queries, 1.50 cores busy, 123 MB\n{TABLE}"


@pytest.mark.usefixtures("steady")
def test_one_query_has_no_bound_and_memory_may_be_unknown(small: Path, capsys: Output) -> None:
    classifier = Classifier(small, threads=1)
    about = described("small.onnx", classifier, capsys)
    lines = printed("small.onnx", classifier, latency(1, memory=None), capsys).removeprefix(about).splitlines()
    assert lines[0] == "1 query, 1.50 cores busy"
    assert lines[-1] == "total          1.00     1.00     1.00     1.00     1.00"


def test_the_last_line_compares_with_the_machines_peak(small: Path, capsys: Output) -> None:
    classifier = Classifier(small, threads=1)
    classifier.spec = replace(classifier.spec, origin={"macs": 10**6})
    lines = printed("small.onnx", classifier, latency(1), capsys).splitlines()
    assert lines[-1].startswith("at this machine's peak, ") and lines[-1].endswith(" of its time")


def test_inference_may_be_slower_or_faster_than_the_peak_allows() -> None:
    roof = {"peak_gmacs": 123.4, "floor": 2.345, "share": 1.0}
    peak = "peak, 123 GMAC/s in a large matrix product"
    assert _peak_sentence(roof) == f"at this machine's {peak}, inference would take 2.35 ms: 1.00 of its time"
    assert _peak_sentence(roof | {"share": 1.01}) == (
        f"inference is faster than this machine's {peak}, would allow: 2.35 ms"
    )


def test_throughput_has_batches_down_and_threads_across(capsys: Output) -> None:
    rates = {(8, 2): 1234.56, (8, 1): 700.0, (1, 2): 2.25, (1, 1): 1.0}
    _print_throughput([{"batch": b, "threads": n, "photos_per_second": rate} for (b, n), rate in rates.items()])
    assert capsys.readouterr().out.splitlines() == [
        "",
        "photos per second     1 thread   2 threads",
        "batches of 8             700.0      1234.6",
        "batches of 1               1.0         2.2",
    ]


@pytest.mark.usefixtures("steady")
def test_two_models_end_with_the_ratio_of_their_times(small: Path, capsys: Output) -> None:
    classifier = Classifier(small, threads=1)
    one, other = latency(100, 3), latency(100, 2)
    expected = printed("one", classifier, one, capsys) + printed("other", classifier, other, capsys)
    answer = {"label": "red", "probability": 0.98765}
    cold = {"process": 1234.5678, "first answer": 2.5001}
    rates = [{"batch": 1, "threads": 1, "photos_per_second": 5.0}]
    about = {"photo": "tiny.png", "answer": answer, "throughput": rates, "cold_start": cold}
    _write_table([("one", classifier, one), ("other", classifier, other)], about)
    assert capsys.readouterr().out == (
        f"tiny.png: red 98.77%\n{expected}\n"
        "one takes 1.500 of other's time (95 % interval 1.500 to 1.500)\n"
        "\nphotos per second     1 thread\nbatches of 1               5.0\n"
        "\ncold start, ms: process 1235, first answer 3\n"
    )


@pytest.mark.usefixtures("steady")
def test_one_model_has_no_more_than_its_table(small: Path, capsys: Output) -> None:
    classifier = Classifier(small, threads=1)
    expected = printed("one", classifier, latency(2), capsys)
    _write_table([("one", classifier, latency(2))], {"photo": "a", "answer": {"label": "red", "probability": 1}})
    assert capsys.readouterr().out == f"a: red 100.00%\n{expected}"


def test_csv_is_each_sample_in_milliseconds(small: Path, capsys: Output) -> None:
    classifier = Classifier(small, threads=1)
    _write_csv([("one", classifier, latency(2)), ("other", classifier, latency(1, 2))], {})
    assert capsys.readouterr().out == (
        "model,decode,resize,inference,total\none,0.2,0.3,0.5,1.0\none,0.4,0.6,1.0,2.0\nother,0.4,0.6,1.0,2.0\n"
    )


@pytest.mark.usefixtures("steady")
def test_json_is_the_description_and_the_measurement(small: Path, capsys: Output) -> None:
    classifier, found = Classifier(small, threads=1), latency(64)
    record = {
        **describe(classifier),
        "milliseconds": found.percentiles(),
        "p90_bound": found.p90_bound(),
        "cores_busy": 1.5,
        "peak_memory_mb": 123.4,
        "roofline": None,
        "samples": {
            step: [factor * n for n in range(1, 65)]
            for step, factor in zip(("decode", "resize", "inference", "total"), (0.2, 0.3, 0.5, 1), strict=True)
        },
    }
    _write_json([("one", classifier, found)], {"photo": "a"})
    written = json.loads(capsys.readouterr().out)
    samples = written.pop("samples")
    assert {step: pytest.approx(values) for step, values in samples.items()} == record.pop("samples")
    assert written == {"photo": "a", **record}


def test_json_of_two_models_has_a_list_of_them(small: Path, tiny_photo: Path) -> None:
    found = json.loads(bench(small, tiny_photo, "--queries", 2, "--compare", small, "--json").stdout)
    assert list(found) == ["photo", "answer", "models"]
    assert [each["model"] for each in found["models"]] == [str(small)] * 2
    assert (found["photo"], found["answer"]["label"]) == (str(tiny_photo), "red")


def test_the_options_arrive_where_they_are_used(small: Path, tiny_photo: Path) -> None:
    found = json.loads(bench(small, tiny_photo, "--queries", 2, "--fast-decode", "--batch", 4096, "--json").stdout)
    assert (found["decode"], found["threads"], len(found["samples"]["total"])) == ("fast", 1, 2)
    assert [each["batch"] for each in found["throughput"]] == [4096] and "cold_start" not in found
    exact = json.loads(bench(small, tiny_photo, "--queries", 1, "--json").stdout)
    assert exact["decode"] == "exact" and "throughput" not in exact


def test_a_cold_start_is_of_the_same_model(small: Path, tiny_photo: Path) -> None:
    found = json.loads(bench(small, tiny_photo, "--queries", 1, "--cold", "--json").stdout)
    assert list(found["cold_start"]) == ["process", "import", "session", "first answer"]
    assert "throughput" not in found


def test_without_a_number_64_queries_are_measured(small: Path, tiny_photo: Path) -> None:
    assert len(json.loads(bench(small, tiny_photo, "--json").stdout)["samples"]["total"]) == 64


def test_help_names_the_defaults() -> None:
    text = " ".join(petinfer("bench", "--help").stdout.split())
    for default in ("`petinfer devices` lists. [default: auto]", "At least this many. [default: 64; x>=1]"):
        assert default in text
    assert "At least this many seconds. [default: 6.0; x>=0]" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--queries", 0], "Invalid value for '--queries': 0 is not in the range x>=1."),
        (["--duration", -1], "Invalid value for '--duration': -1.0 is not in the range x>=0."),
        (["--batch", 0], "Invalid value for '--batch': 0 is not in the range x>=1."),
        (["--plot", "a.bmp"], "a.bmp: its suffix is not .png, .svg or .pdf (rename it)"),
        (["--plot", "no/a.png"], "no/a.png: its folder does not exist (create it, or choose another)"),
        (["--plot", "no/a.SVG"], "no/a.SVG: its folder does not exist (create it, or choose another)"),
        (["--plot", "no/a.pdf"], "no/a.pdf: its folder does not exist (create it, or choose another)"),
    ],
)
def test_what_cannot_be_measured_or_drawn_is_refused(options: list[str], message: str) -> None:
    pytest.importorskip("matplotlib")
    result = petinfer("bench", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].replace("\\", "/") == f"Error: {message}"


def test_a_plot_needs_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    result = petinfer("bench", "--plot", "a.png")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: --plot: needs matplotlib (pip install matplotlib)\n"


def test_files_that_are_one_have_their_whole_paths(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    same = [tmp_path / "model.onnx", tmp_path / "a" / ".." / "model.onnx"]
    assert distinct_names(same) == [str(path) for path in same]


@pytest.mark.skipif(sys.platform == "win32", reason="a path begins with a drive there")
def test_a_whole_path_tells_two_files_apart() -> None:
    assert distinct_names([Path("/a/model.onnx"), Path("/model.onnx")]) == ["a/model.onnx", "/model.onnx"]


def test_numbers_have_their_nouns() -> None:
    found = [counted(1, "thread"), counted(2, "thread"), counted(1, "query", "queries"), counted(0, "query", "queries")]
    assert found == ["1 thread", "2 threads", "1 query", "0 queries"]
