"""Conversions of a run's weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.conversions import ConversionError, Conversions


@pytest.mark.skipif(sys.platform == "win32", reason="uses the program false")
def test_a_failed_conversion_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(ConversionError, match="exit code 1"):
        Conversions(tmp_path, tmp_path, tmp_path).path("ncnn")


def test_an_existing_file_is_not_converted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    (tmp_path / "ncnn.param").touch()
    assert Conversions(tmp_path, tmp_path, tmp_path).path("ncnn") == tmp_path / "ncnn.param"
