"""A recipe in stages: what each stage starts from, and which stages a resumed run repeats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from train.errors import TrainingError
from train.options import Options, input_paths
from train.recipe import load_stages
from train.stages import train_in_stages

RECIPE = {"settings": {"arch": "resnet18"}, "stages": [{"label_weight": 0.0}, {"lr": 0.1}, {"keep_head": True}]}


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """A run of three stages that validates on one source."""
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    start = {"data": (tmp_path / "photos",), "weights": tmp_path / "start.safetensors", "test": tmp_path / "test"}
    recipe = {"recipe_file": tmp_path / "recipe.json", "settings": {"epochs": 3}}
    return Options(tmp_path / "run", hold_out=("phones",), **start, **recipe)  # type: ignore[arg-type]


def recorder(seen: list[Options], stop_at: int = 9) -> Callable[[Options], bool]:
    """In place of a training: notes its options and writes its recipe.json; does not complete stage ``stop_at``."""

    def run(options: Options) -> bool:
        seen.append(options)
        completed = len(seen) != stop_at
        options.out.mkdir(parents=True, exist_ok=True)
        content = {"settings": options.settings, "sources": input_paths(options), "outcome": {"completed": completed}}
        (options.out / "recipe.json").write_text(json.dumps(content))
        return completed

    return run


def test_each_stage_starts_from_the_one_before(options: Options) -> None:
    seen: list[Options] = []
    assert train_in_stages(options, recorder(seen))
    folders = [options.out / "stage-1", options.out / "stage-2", options.out]
    assert [one.out for one in seen] == folders
    assert [one.weights for one in seen] == [options.weights, *(folder / "model.safetensors" for folder in folders[:2])]
    assert [one.split_file for one in seen] == [None, *(folder / "split.json" for folder in folders[:2])]
    assert [one.hold_out for one in seen] == [("phones",), (), ()]
    assert [one.test for one in seen] == [None, None, options.test]


def test_a_stage_has_the_shared_settings_its_own_and_the_command_lines(options: Options) -> None:
    seen: list[Options] = []
    train_in_stages(options, recorder(seen))
    assert [one.settings for one in seen] == [{"arch": "resnet18", "epochs": 3} | own for own in RECIPE["stages"]]


def test_a_resumed_run_repeats_no_finished_stage(options: Options) -> None:
    seen: list[Options] = []
    assert not train_in_stages(options, recorder(seen, stop_at=2))
    assert train_in_stages(Options(options.out, resume=True), recorder(seen))
    assert [one.out.name for one in seen] == ["stage-1", "stage-2", "stage-2", "run"]
    assert [one.resume for one in seen] == [False, False, True, False]
    assert seen[-1].data == options.data and seen[-1].test == options.test
    assert seen[-1].weights == options.out / "stage-2" / "model.safetensors"


def test_a_recipe_without_stages_is_one_run(options: Options, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"lr": 0.1}')
    seen: list[Options] = []
    assert train_in_stages(options, recorder(seen)) and seen == [options]


def test_a_run_in_stages_is_not_overwritten(options: Options) -> None:
    train_in_stages(options, recorder([]))
    with pytest.raises(TrainingError, match="already contains a run"):
        train_in_stages(options, recorder([]))


def test_an_unknown_setting_in_a_stage_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"stages": [{"era": 1}]}')
    with pytest.raises(TrainingError, match="unknown settings: era"):
        load_stages(tmp_path / "recipe.json")
