"""The command that asks all questions."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from benchmarks.__main__ import merge, slug, write_csv
from benchmarks.measurement import COLUMNS, Findings

from ..conftest import REPOSITORY
from .rows import int8_row


def test_the_csv_has_a_column_for_each_field_of_a_row(tmp_path: Path) -> None:
    write_csv([int8_row(0.25)], tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        header, line = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert dict(zip(header, line, strict=True))["ratio_to_reference"] == "0.25"


def test_merged_findings_name_a_skipped_contender_once() -> None:
    one, other = Findings([int8_row(0.25)], ["a: skipped: b"]), Findings([int8_row(0.3)], ["a: skipped: b"])
    assert merge([one, other]) == Findings([int8_row(0.25), int8_row(0.3)], ["a: skipped: b"])


def test_a_file_name_is_made_from_the_processors_name() -> None:
    assert slug("Intel(R) Xeon(R) Processor @ 2.60GHz") == "intel-xeon"
    assert slug("AMD EPYC 7763 64-Core Processor") == "amd-epyc-7763"


def test_help_is_printed_without_loading_torch() -> None:
    code = "import sys; from benchmarks.__main__ import main; main(['-h'], standalone_mode=False); "
    code += "print({'torch', 'fastai', 'onnxruntime', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("Usage:")
    assert done.stdout.endswith("set()\n")
