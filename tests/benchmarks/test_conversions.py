"""Conversions of a run's weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from fastai.vision.all import create_head, nn

from benchmarks.conversions import ConversionError, Conversions, program, without_adaptive_pools


@pytest.mark.skipif(sys.platform == "win32", reason="uses the program false")
def test_a_failed_conversion_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(ConversionError, match="exit code 1"):
        Conversions(tmp_path, tmp_path, tmp_path).path("ncnn")


def test_an_existing_file_is_not_converted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    (tmp_path / "ncnn.param").touch()
    assert Conversions(tmp_path, tmp_path, tmp_path).path("ncnn") == tmp_path / "ncnn.param"


def test_a_program_that_is_not_installed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConversionError, match=r"^ncnn2table is not on the PATH$"):
        program("ncnn2table")


def test_the_answers_without_adaptive_pools_are_the_same() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), create_head(8, 2)).eval()
    pixels = torch.rand(1, 3, 12, 10)
    with torch.inference_mode():
        before = network(pixels)
        after = without_adaptive_pools(network)(pixels)
    assert not any(isinstance(module, nn.AdaptiveMaxPool2d) for module in network.modules())
    torch.testing.assert_close(after, before)
