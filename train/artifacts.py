"""The files of a run: the Learner as fastai saves it, and weights and settings that rebuild it without a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastai.vision.all import Learner, Normalize, Resize, load_learner
from safetensors.torch import save as as_safetensors

from .efficientnet_lite import NAME, weights_file
from .errors import TrainingError, one_line
from .labels import LABELLINGS
from .recipe import Recipe, as_settings

_PACKAGES = ("fastai", "torch", "torchvision", "numpy", "pillow", "safetensors")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name next to ``path``, then rename it: readers never see half a file.

    Raises:
        TrainingError: it cannot be written, as on a full disk. The file that was there before is unchanged.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError on a full disk
        raise TrainingError(
            f"{path}: cannot be written: {one_line(error)} (free some space, or another --out)"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, see `replacing`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, see `replacing`."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Write a safetensors file, see `replacing`; the file has the mode of its neighbours, not ``save_file``'s 0600."""
    with replacing(path) as part:
        part.write_bytes(as_safetensors({name: t.contiguous().cpu() for name, t in tensors.items()}, {"format": "pt"}))


def save(learn: Learner, recipe: Recipe, weights: Path | None, facts: dict[str, Any], out: Path) -> None:
    """Write ``learner.pkl``, ``model.safetensors`` and ``recipe.json``.

    Args:
        learn: the trained Learner.
        recipe: its settings.
        weights: the file of its starting weights; None for ImageNet's.
        facts: added to ``recipe.json``.
        out: the run's folder.
    """
    save_network(learn, out)
    labelling = LABELLINGS[recipe.labels]
    content = {
        "settings": as_settings(recipe),
        "labels": [labelling.word(category) for category in learn.dls.vocab],
        "vocab": [str(category) for category in learn.dls.vocab],
        "preprocessing": _preprocessing(learn),
        **facts,
        "weights": _weights(weights, recipe),
        **({"teacher": _file(weights_file())} if recipe.teacher else {}),
        "versions": {"python": sys.version.split()[0], **versions()},
        "date": datetime.now(UTC).date().isoformat(),
    }
    write_json(out / "recipe.json", content)


def save_network(learn: Learner, out: Path) -> None:
    """Write ``learner.pkl`` and ``model.safetensors``."""
    learn.path = out
    with replacing(out / "learner.pkl") as part:
        learn.export(part.name)
    write_tensors(out / "model.safetensors", learn.model.state_dict())


def _weights(path: Path | None, recipe: Recipe) -> dict[str, str]:
    if path is None and recipe.arch == NAME:
        path = weights_file()
    return _file(path) if path else {"file": "ImageNet's, by fastai"}


def _file(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": file_sha256(path)}


def load(run: Path) -> tuple[Learner, Recipe]:
    """The saved Learner of a run, with its settings. Loading a pickle runs the code in it.

    Raises:
        TrainingError: there is no such run, or it is not finished.
    """
    require_run(run)
    recipe = Recipe.load(run / "recipe.json")
    try:
        return load_learner(run / "learner.pkl"), recipe
    except OSError as error:
        raise TrainingError(
            f"{run}: no learner.pkl yet (finish the run: python -m train --out {run} --resume)"
        ) from error


def require_run(run: Path) -> None:
    """Refuse a folder that is not a run."""
    if not run.is_dir():
        raise TrainingError(f"{run}: no such folder (give the folder of a run, what --out named)")
    if not (run / "recipe.json").is_file():
        raise TrainingError(f"{run}: not a run, it has no recipe.json (give the folder that --out named)")


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """The installed version of each package."""
    return {package: version(package) for package in packages}


def _preprocessing(learn: Learner) -> dict[str, Any]:
    """The resize and normalisation of a photo at validation, read from the Learner."""
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
