"""Wrong answers are counted or refused, and rows record ratios."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.measurement import (
    COLUMNS,
    Contender,
    Findings,
    Named,
    Setting,
    WrongAnswerError,
    count_different,
    make_row,
    median_ratio,
)

from .rows import int8_row


def test_a_ratio_is_the_median_of_pairs_not_the_ratio_of_medians() -> None:
    assert median_ratio([1.0, 9.0, 10.0], [2.0, 3.0, 20.0]) == 0.5


def test_a_row_is_in_milliseconds_and_names_its_reference() -> None:
    one, other = Named("one", "fp32"), Named("other", "fp32")
    row = make_row(Setting("step", 2), one, other, {"one fp32": [0.001, 0.003], "other fp32": [0.002, 0.006]})
    assert (row.median, row.ratio_to_reference, row.reference, row.n) == (2.0, 0.5, "other fp32", 2)


def test_a_row_in_megabytes_is_not_scaled() -> None:
    one = Named("one", "fp32")
    assert make_row(Setting("size", 0, unit="MB"), one, one, {"one fp32": [12.0]}).median == 12.0


def test_a_wrong_answer_in_fp32_is_an_error() -> None:
    with pytest.raises(WrongAnswerError, match=r"one fp32: another label than the Learner's on photos \[1\]"):
        count_different(Named("one", "fp32"), [1, 1], [1, 0])


def test_a_wrong_answer_in_int8_is_counted() -> None:
    assert count_different(Named("one", "int8"), [1, 1], [1, 0]) == 1


def test_a_missing_answer_is_an_error() -> None:
    with pytest.raises(WrongAnswerError, match="one int8: 1 answers for 2 photos"):
        count_different(Named("one", "int8"), [1], [1, 0])


def test_a_missing_rival_is_skipped_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def build() -> Contender:
        raise ModuleNotFoundError("No module named 'rival'", name="rival")

    findings = Findings()
    assert findings.attempt("Rival", build) == findings.attempt("Rival", build) == []
    assert findings.skipped == ["Rival: skipped: rival is not installed"]
    assert capsys.readouterr().err == "Rival: skipped: rival is not installed\n"


def test_findings_are_equal_after_saving_and_loading(tmp_path: Path) -> None:
    findings = Findings([int8_row(0.25)], ["a: skipped: b"], ["c"])
    findings.save(tmp_path / "findings.json")
    assert Findings.load(tmp_path / "findings.json") == findings


def test_the_first_columns_identify_a_row() -> None:
    assert COLUMNS[:6] == ("question", "contender", "precision", "threads", "photo", "n")
