"""A damaged model file is refused, or detected by its digest."""

from __future__ import annotations

from pathlib import Path

from .model_bytes import UNNOTICED, change_bytes, cut


def test_each_single_byte_change_is_refused_or_detected(tmp_path: Path) -> None:
    """20 here; `python -m tests.fuzz.model_bytes` changes 1,000."""
    ends = list(change_bytes(tmp_path / "changed.onnx", 20))
    assert len(ends) == 20
    assert UNNOTICED not in ends


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    ends = list(cut(tmp_path / "cut.onnx"))
    assert ends == ["refused by petinfer"] * 25  # at 1, 2, 4 … 16,777,216 bytes
