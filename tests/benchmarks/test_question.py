"""The table of a question."""

from __future__ import annotations

from benchmarks.question import table

from .rows import int8_row


def test_the_table_groups_rows_by_their_reference() -> None:
    lines = table([int8_row(0.25), int8_row(0.3)])
    assert [line for line in lines if line.endswith("ratio to fastai fp32")] == [
        "photo to answer, 500x375, 2 threads: ratio to fastai fp32"
    ]
