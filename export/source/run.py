"""A run of ``python -m train``: its Learner is rebuilt from ``model.safetensors`` and ``recipe.json``; nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torchvision
from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock, Learner, Normalize, vision_learner
from fastai.vision.all import Resize as FastaiResize
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from petinfer.spec import Resize

from ..errors import ExportError, one_line
from .efficientnet_lite import NAME, efficientnet_lite2
from .preprocessing import Statistics
from .source_model import SourceModel, freeze, learner_file


def load_run(folder: Path, photo: Path) -> SourceModel:
    """Load a run's folder; ``photo`` is any photo, since fastai needs one to build a Learner.

    Raises:
        ExportError: the run is not finished, or is damaged.
    """
    try:
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        state = load_file(folder / "model.safetensors")
        source = _rebuild(recipe, state, photo)
        source.learn.model.load_state_dict(state)
        source.origin["learner"] = learner_file(folder / "model.safetensors")
    except (OSError, KeyError, ValueError, TypeError, SafetensorError, RuntimeError) as error:
        problem = one_line(error, 200)
        raise ExportError(
            f"{folder}: not a finished run: {problem} (python -m train --out {folder} --resume)"
        ) from error
    return source


def fastai_resize(resize: Resize) -> FastaiResize:
    """The fastai transform that a model file's resize describes."""
    resamples = (Image.Resampling[resize.resample.upper()], Image.Resampling.NEAREST)
    return FastaiResize((resize.height, resize.width), resize.method, resize.padding, resamples)


def _rebuild(recipe: dict[str, Any], state: dict[str, Any], photo: Path) -> SourceModel:
    """The Learner that a recipe describes, with random weights."""
    arch, labels = recipe["settings"]["arch"], tuple(recipe["labels"])
    resize, normalize = recipe["preprocessing"]["resize"], recipe["preprocessing"]["normalize"]
    height, width = resize["size"]
    resample = Image.Resampling(resize["resample"]).name.lower()
    described = Resize(height, width, str(resize["method"]), str(resize["pad_mode"]), resample)
    transform = fastai_resize(described)
    statistics = (tuple(normalize["mean"]), tuple(normalize["std"])) if normalize else None
    learn = _learner(arch, labels, transform, statistics, photo)
    if recipe["settings"].get("linear"):
        _use_linear_head(learn, state["1.2.weight"].shape[1])
    vocab = tuple(recipe.get("vocab", labels))  # runs of older versions do not have it
    origin = _origin(recipe)
    return SourceModel(freeze(learn), labels, described, statistics, origin, item_transform=transform, vocab=vocab)


def _learner(
    arch: str, labels: tuple[str, ...], transform: FastaiResize, statistics: Statistics | None, photo: Path
) -> Learner:
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=list(labels), sort=False)),
        get_y=lambda _: labels[0],
        splitter=lambda items: ([0], [1]),
        item_tfms=transform,
        batch_tfms=Normalize.from_stats(*statistics, cuda=False) if statistics else None,
    )
    dls = block.dataloaders([photo, photo], bs=1, num_workers=0)
    network = efficientnet_lite2 if arch == NAME else getattr(torchvision.models, arch, arch)
    return vision_learner(dls, network, pretrained=False, normalize=False, n_out=len(labels))


def _use_linear_head(learn: Learner, features: int) -> None:
    """Mean pooling and one linear layer in place of fastai's head, as ``train`` does for a recipe with ``linear``."""
    learn.model[1] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, learn.dls.c))


def _origin(recipe: dict[str, Any]) -> dict[str, Any]:
    """Where the model comes from, for its description."""
    return {
        "architecture": recipe["settings"]["arch"],
        "recipe": recipe["settings"],
        "photos": {name: value for name, value in recipe["photos"].items() if name != "folder"},
        "weights": recipe["weights"],
        **({"teacher": recipe["teacher"]} if "teacher" in recipe else {}),
        "versions": recipe["versions"],
        "date": recipe["date"],
    }
