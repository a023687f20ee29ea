"""Training and export, killed at random moments: minutes each."""

from __future__ import annotations

from pathlib import Path

import pytest

kills = pytest.importorskip("tests.faults.kills", reason="needs torch and fastai", exc_type=ImportError)


@pytest.mark.slow
def test_a_killed_training_leaves_no_partial_file_and_resumes(tmp_path: Path) -> None:
    kills.prepare(tmp_path)
    kills.kill_train(tmp_path, 20)


@pytest.mark.slow
def test_a_killed_export_leaves_no_partial_file(tmp_path: Path) -> None:
    kills.prepare(tmp_path)
    kills.kill_export(tmp_path, 20)
