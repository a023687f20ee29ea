"""What the benchmarks report, apart from the times themselves."""

from __future__ import annotations

import csv
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from benchmarks import chart, goals, installed_size
from benchmarks.__main__ import slug, write_csv
from benchmarks.conversions import ConversionError, Conversions
from benchmarks.measurement import (
    COLUMNS,
    Contender,
    Findings,
    Row,
    WrongAnswerError,
    differing,
    in_turn,
    median_ratio,
    row_of,
)
from benchmarks.question import table


def contender(name: str = "one", precision: str = "fp32", scores: tuple[float, ...] = (0.2, 0.8)) -> Contender:
    return Contender(name, precision, lambda _: scores)


def int8_row(ratio: float, threads: int = 2) -> Row:
    return Row("photo to answer", "petinfer", "int8", threads, "500x375", 9, 1.0, 2.0, "ms", ratio, "fastai fp32")


def test_a_ratio_is_the_median_of_the_pairs_not_the_ratio_of_the_medians() -> None:
    assert median_ratio([1.0, 9.0, 10.0], [2.0, 3.0, 20.0]) == 0.5


def test_a_row_is_in_milliseconds_beside_its_reference() -> None:
    one, other = contender("one"), contender("other")
    row = row_of("step", one, other, {"one fp32": [0.001, 0.003], "other fp32": [0.002, 0.006]}, threads=2)
    assert (row.median, row.ratio_to_reference, row.reference, row.n) == (2.0, 0.5, "other fp32", 2)


def test_every_contender_is_timed_once_a_round() -> None:
    seconds = in_turn([contender("one"), contender("other")], [0, 1], 3, "test")
    assert {title: len(each) for title, each in seconds.items()} == {"one fp32": 3, "other fp32": 3}


def test_a_wrong_answer_in_fp32_ends_the_race() -> None:
    with pytest.raises(WrongAnswerError, match=r"one fp32: another label than the Learner's on photos \[1\]"):
        differing(contender(), [0, 1], [1, 0])


def test_a_wrong_answer_in_int8_is_counted() -> None:
    assert differing(contender(precision="int8"), [0, 1], [1, 0]) == 1


def test_a_missing_rival_is_skipped_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def build() -> Contender:
        raise ModuleNotFoundError("No module named 'rival'", name="rival")

    findings = Findings()
    assert findings.attempt("Rival", build) == findings.attempt("Rival", build) == []
    assert findings.skipped == ["Rival: skipped: rival is not installed"]
    assert capsys.readouterr().err == "Rival: skipped: rival is not installed\n"


def test_a_form_that_cannot_be_made_says_why_in_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(ConversionError, match="exit code 1"):
        Conversions(tmp_path, tmp_path, tmp_path).path("ncnn")


def test_the_csv_has_a_column_for_each_entry_of_a_row(tmp_path: Path) -> None:
    write_csv([int8_row(0.25)], tmp_path / "rows.csv")
    header, line = csv.reader((tmp_path / "rows.csv").open(encoding="utf-8"))
    assert tuple(header) == COLUMNS
    assert COLUMNS[:6] == ("question", "contender", "precision", "threads", "photo", "n")
    assert dict(zip(header, line, strict=True))["ratio_to_reference"] == "0.25"


def test_findings_survive_their_file(tmp_path: Path) -> None:
    findings = Findings([int8_row(0.25)], ["a: skipped: b"])
    findings.save(tmp_path / "findings.json")
    assert Findings.load(tmp_path / "findings.json") == findings


def test_a_goal_is_judged_at_each_number_of_threads() -> None:
    lines = goals.table([int8_row(0.25, threads=1), int8_row(0.35, threads=2)])
    judged = [line for line in lines if line.startswith("500x375")]
    assert ["met" in judged[0], "MISSED" in judged[1], len(judged)] == [True, True, 2]


def test_the_table_groups_rows_by_their_reference() -> None:
    lines = table([int8_row(0.25), int8_row(0.3)])
    assert [line for line in lines if line.endswith("ratio to fastai fp32")] == [
        "photo to answer, 500x375, 2 threads: ratio to fastai fp32"
    ]


def test_installed_size_follows_what_is_required() -> None:
    names = {each.metadata["Name"].lower() for each in installed_size.with_requirements(["petinfer"])}
    assert names >= {"petinfer", "numpy", "pillow", "onnxruntime", "click"}
    assert names & {"torch", "fastai", "pytest"} == set()


def test_a_distribution_is_as_large_as_its_files() -> None:
    click = distribution("click")
    expected = sum(Path(str(click.locate_file(file))).stat().st_size for file in click.files or [])
    assert installed_size.total([click]) == expected > 100_000


def test_libraries_for_gpus_are_told_from_the_rest() -> None:
    kept = [
        name
        for name in ("libtorch_cpu.so", "libtorch_cuda.so", "cuda.py")
        if installed_size.is_for_processors(Path(name))
    ]
    assert kept == ["libtorch_cpu.so", "cuda.py"]


def test_a_processor_gives_a_file_name() -> None:
    assert slug("Intel(R) Xeon(R) Processor @ 2.60GHz") == "intel-xeon"
    assert slug("AMD EPYC 7763 64-Core Processor") == "amd-epyc-7763"


def test_the_plot_is_a_small_picture(tmp_path: Path) -> None:
    chart.draw([int8_row(0.25)], "a machine", tmp_path / "plot.png")
    assert 1000 < (tmp_path / "plot.png").stat().st_size < 150_000
