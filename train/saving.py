"""What is kept of a run: the Learner as fastai saves it, and weights and settings that rebuild it without a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastai.vision.all import Learner, Normalize, Resize, load_learner
from safetensors.torch import save_file

from .data import LABELLINGS
from .errors import TrainingError
from .recipe import Recipe, as_settings

_PACKAGES = ("fastai", "torch", "torchvision", "numpy", "pillow", "safetensors")


def save(learn: Learner, recipe: Recipe, weights: Path | None, facts: dict[str, Any], out: Path) -> None:
    """Write ``learner.pkl``, ``model.safetensors`` and, with these facts in it, ``recipe.json`` into the run's folder."""
    learn.path = out
    learn.export("learner.part")
    os.replace(out / "learner.part", out / "learner.pkl")
    state = {name: tensor.contiguous() for name, tensor in learn.model.state_dict().items()}
    save_file(state, out / "model.part", {"format": "pt"})
    os.replace(out / "model.part", out / "model.safetensors")
    labelling = LABELLINGS[recipe.labels]
    content = {
        "settings": as_settings(recipe),
        "labels": [labelling.word(category) for category in learn.dls.vocab],
        "preprocessing": _preprocessing(learn),
        **facts,
        "weights": {"file": weights.name, "sha256": file_sha256(weights)}
        if weights
        else {"file": "ImageNet's, by fastai"},
        "versions": {"python": sys.version.split()[0], **versions()},
        "date": datetime.now(UTC).date().isoformat(),
    }
    write_json(out / "recipe.json", content)


def load(run: Path) -> tuple[Learner, Recipe]:
    """The saved Learner of a run, with its settings. Loading a pickle runs the code in it.

    Raises:
        TrainingError: the run has none.
    """
    recipe = Recipe.load(run / "recipe.json")
    try:
        return load_learner(run / "learner.pkl"), recipe
    except OSError as error:
        raise TrainingError(f"{run}: holds no learner.pkl (finish it: python -m train --out {run} --resume)") from error


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """The installed version of each package."""
    return {package: version(package) for package in packages}


def _preprocessing(learn: Learner) -> dict[str, Any]:
    """What validation does to a photo, read off the Learner: its resize and its statistics."""
    resize = next(f for f in learn.dls.valid.after_item.fs if isinstance(f, Resize))
    normalize = next((f for f in learn.dls.valid.after_batch.fs if isinstance(f, Normalize)), None)
    statistics = normalize and {"mean": normalize.mean.flatten().tolist(), "std": normalize.std.flatten().tolist()}
    width, height = resize.size
    return {
        "resize": {
            "method": resize.method,
            "size": [height, width],
            "pad_mode": resize.pad_mode,
            "resample": int(resize.mode),
        },
        "normalize": statistics,
    }


def file_sha256(path: Path) -> str:
    """The hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write beside, then rename."""
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, path)
