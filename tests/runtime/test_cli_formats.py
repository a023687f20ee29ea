"""Each format, to the character, of records that a model could have given."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from petinfer.cli.formats import WRITERS, Columns
from petinfer.cli.inputs import in_options

LABELS = ("dog", "wire-haired cat")
RECORDS: list[dict[str, Any]] = [
    {
        "path": "a b.jpg",
        "label": "wire-haired cat",
        "probability": 0.975,
        "probabilities": {"wire-haired cat": 0.975, "dog": 0.025},
        "moved_to": "sorted/a b.jpg",
    },
    {
        "path": 'c,"\n.jpg',
        "label": "dog",
        "probability": 1.0,
        "probabilities": {"dog": 1.0, "wire-haired cat": 0.0},
        "note": "16 bits",
    },
    {"path": "gone.jpg", "error": "gone.jpg: no such file (check the path)"},
]


def written(
    form: str, records: list[dict[str, Any]] = RECORDS, top: int | None = None, place: str | None = None
) -> str:
    out = io.StringIO()
    WRITERS[form](records, Columns(LABELS, top, place), out)
    return out.getvalue()


def test_json_is_an_array_with_a_record_per_line() -> None:
    first, *lines, last = written("json").split("\n")
    assert (first, last, lines[-1]) == ("[", "", "]")
    assert [json.loads(line.removesuffix(",")) for line in lines[:-1]] == RECORDS
    assert json.loads(written("json")) == RECORDS
    assert json.loads(written("json", [])) == []


def test_jsonl_is_a_record_per_line() -> None:
    assert [json.loads(line) for line in written("jsonl").splitlines()] == RECORDS


def test_csv_quotes_and_leaves_missing_values_empty() -> None:
    assert written("csv") == (
        "path,label,probability,dog,wire-haired cat,error,note\n"
        "a b.jpg,wire-haired cat,0.975,0.025,0.975,,\n"
        '"c,""\n.jpg",dog,1.0,1.0,0.0,,16 bits\n'
        "gone.jpg,,,,,gone.jpg: no such file (check the path),\n"
    )


def test_csv_escapes_what_is_not_utf8() -> None:
    record = {"path": "\udcff.jpg", "error": "\udcff.jpg: empty"}
    assert written("csv", [record]).splitlines()[1] == "\\udcff.jpg,,,,,\\udcff.jpg: empty,"


def test_csv_ends_with_the_new_place_of_sorted_photos() -> None:
    assert [line.split(",")[-3:] for line in written("csv", RECORDS[::2], place="moved_to").splitlines()] == [
        ["error", "note", "moved_to"],
        ["", "", "sorted/a b.jpg"],
        ["gone.jpg: no such file (check the path)", "", ""],
    ]


def test_the_table_aligns_labels_and_sends_errors_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert written("table") == (
        "wire-haired cat   97.50%  a b.jpg\n"
        'dog              100.00%  c,"\\n.jpg\n'
    )  # fmt: skip
    assert capsys.readouterr().err == "Error: gone.jpg: no such file (check the path)\n"


def test_the_table_names_as_many_classes_as_asked_for() -> None:
    assert written("table", RECORDS[:1], top=2) == (
        "wire-haired cat   97.50%   dog                2.50%  a b.jpg\n"
    )  # fmt: skip
    assert written("table", RECORDS[:1], top=1) == written("table", RECORDS[:1])


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "table"])
def test_each_record_is_flushed_before_the_next_one_is_made(form: str) -> None:
    """Who reads a pipe sees each answer at once, and Ctrl-C loses none."""
    flushed = []

    class Out(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    out = Out()

    def records() -> Any:
        yield RECORDS[0]
        assert flushed and "a b.jpg" in flushed[-1]
        yield RECORDS[1]

    WRITERS[form](records(), Columns(LABELS, None), out)
    assert "a b.jpg" in out.getvalue()


@pytest.mark.parametrize(
    ("message", "translated"),
    [
        ("threads: 9 requested, 2 available (use 1 to 2)", "--threads: 9 requested, 2 available (use 1 to 2)"),
        ("device: 'x' is unknown (use auto)", "--device: 'x' is unknown (use auto)"),
        ('device cuda: no driver (use device="cpu")', "device cuda: no driver (use --device cpu)"),
        ("a.jpg: 9 MB, over the limit (raise max_bytes)", "a.jpg: 9 MB, over the limit (raise --max-bytes)"),
        ("a.jpg: 9 px, over the limit (raise max_pixels)", "a.jpg: 9 px, over the limit (raise --max-pixels)"),
        ("my threads: x.jpg: no such file", "my threads: x.jpg: no such file"),
    ],
)
def test_messages_name_options_in_place_of_arguments(message: str, translated: str) -> None:
    assert in_options(message) == translated
