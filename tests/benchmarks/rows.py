"""A row that several tests use."""

from __future__ import annotations

from benchmarks.measurement import Row


def int8_row(ratio: float, threads: int = 2) -> Row:
    """petinfer's, on 500 x 375 px."""
    return Row("photo to answer", "petinfer", "int8", threads, "500x375", 9, 1.0, 2.0, "ms", ratio, "fastai fp32")
