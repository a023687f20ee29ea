"""A recipe in stages: several runs, each of which starts from the weights, projections and split of the one before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .artifacts import write_json
from .errors import TrainingError
from .options import Options, input_paths, with_previous_inputs
from .processes import is_first
from .recipe import load_content, load_stages
from .run import train

_PLAN = "stages.json"


def train_in_stages(options: Options, run: Callable[[Options], bool] = train) -> bool:
    """Carry out a recipe: one run into ``out``, or several, all but the last into ``out/stage-N``.

    Args:
        options: ``recipe_file`` may contain a list ``stages``. With ``resume``, finished stages are skipped and the
            unfinished one is resumed.
        run: carries out one stage.

    Returns:
        Whether the last stage was completed.
    """
    stages = _stages(options)
    if not stages:
        return run(options)
    folders = [options.out / f"stage-{i}" for i in range(1, len(stages))] + [options.out]
    for i, (settings, out) in enumerate(zip(stages, folders, strict=True)):
        if not _is_finished(out) and not run(_stage(options, settings, out, folders[i - 1] if i else None)):
            return False
    return True


def _stages(options: Options) -> list[dict[str, Any]]:
    """The settings of each stage; none for a recipe without stages."""
    plan = options.out / _PLAN
    if options.resume:
        return load_stages(plan) if plan.exists() else []
    stages = load_stages(options.recipe_file) if options.recipe_file else []
    if not stages:
        return []
    if is_first() and plan.exists():
        raise TrainingError(f"{options.out}: already contains a run (use another --out, or --resume to continue it)")
    if options.find_lr:
        raise TrainingError("--find-lr: not for a recipe in stages (use a recipe of one stage)")
    stages = [settings | options.settings for settings in stages]
    if is_first():
        options.out.mkdir(parents=True, exist_ok=True)
        write_json(plan, {"stages": stages, "sources": input_paths(options)})
    return stages


def _stage(options: Options, settings: dict[str, Any], out: Path, before: Path | None) -> Options:
    """The options of one stage; ``before`` is the folder of the stage before it. Only the last one is tested."""
    if options.resume:
        options = with_previous_inputs(options, load_content(options.out / _PLAN))
    test = options.test if out == options.out else None
    if (out / "recipe.json").exists():
        return replace(options, out=out, test=test, recipe_file=None, settings={}, resume=True)
    if before is None and options.resume:
        raise TrainingError(f"{options.out}: its first stage has not begun (delete the folder, and start again)")
    one = replace(options, out=out, test=test, recipe_file=None, settings=settings, resume=False)
    if before is None:
        return one
    start = replace(one, weights=before / "model.safetensors", split_file=before / "split.json")
    return replace(start, hold_out=(), without=None, limit=None, per_source=None)


def _is_finished(out: Path) -> bool:
    recipe = out / "recipe.json"
    return recipe.exists() and bool(load_content(recipe).get("outcome", {}).get("completed"))
