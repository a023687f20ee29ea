"""The validation error against crops seen: stages follow each other, and the plot appears when it is complete."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.__main__ import main
from train.curve import Point, read_curve
from train.errors import TrainingError

from ..conftest import cli_runner


def write(folder: Path, errors: list[float], train: int = 130) -> None:
    folder.mkdir(parents=True)
    log = [[0.5, 0.4, error] for error in errors]
    content = {"settings": {"batch_size": 64}, "photos": {"train": train, "valid": 200}, "outcome": {"log": log}}
    (folder / "recipe.json").write_text(json.dumps(content))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three stages, as `train` leaves it."""
    write(tmp_path / "run" / "stage-10", [0.05])
    write(tmp_path / "run" / "stage-9", [0.2, 0.1])
    (tmp_path / "run" / "recipe.json").write_text((tmp_path / "run" / "stage-10" / "recipe.json").read_text())
    return tmp_path / "run"


def test_the_crops_of_all_stages_add_up_without_the_last_small_batch(run: Path) -> None:
    kept = [False, True, True, True]
    errors = [0.2, 0.1, 0.05, 0.05]
    assert read_curve(run) == [Point(128 * (i + 1), errors[i], 200, kept[i]) for i in range(4)]


def test_a_run_that_kept_its_best_epoch_says_which(tmp_path: Path) -> None:
    write(tmp_path / "run", [])
    content = json.loads((tmp_path / "run" / "recipe.json").read_text())
    content["settings"]["keep_best"] = True
    content["outcome"]["log"] = [[0.6, 0.3, 0.2], [0.5, 0.2, 0.15], [0.4, 0.25, 0.1]]
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(content))
    assert [(point.error, point.kept) for point in read_curve(tmp_path / "run")] == [
        (0.2, False),
        (0.15, True),
        (0.1, False),
    ]


def test_a_run_that_is_not_finished_has_its_finished_stages(run: Path) -> None:
    (run / "recipe.json").write_text(json.dumps({"settings": {}, "photos": {"train": 130, "valid": 200}}))
    assert [point.crops for point in read_curve(run)] == [128, 256, 384]


def test_a_run_without_epochs_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "linear", [])
    for folder in (tmp_path / "linear", tmp_path / "nowhere"):
        with pytest.raises(TrainingError, match="logged no epoch"):
            read_curve(folder)


def test_the_command_draws_each_run_in_a_colour_of_its_own(run: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", [0.3, 0.25])
    plot = tmp_path / "curve.png"
    done = cli_runner().invoke(main, ["curve", str(run), str(tmp_path / "other"), "--out", str(plot)])
    assert (done.exit_code, done.output) == (0, "")
    colours = np.asarray(Image.open(plot).convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((0x2B, 0x6A, 0x99), (0xC8, 0x59, 0x2F)):
        assert (np.abs(colours - colour).sum(1) < 12).sum() > 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "other", "run"]


def test_a_plot_of_another_kind_is_a_usage_error(run: Path) -> None:
    done = cli_runner().invoke(main, ["curve", str(run), "--out", "curve.txt"])
    assert done.exit_code == 2 and "curve.txt does not end in .png or .svg" in done.stderr
