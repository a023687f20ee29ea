"""A Learner that a notebook saved with ``learn.export()``."""

from __future__ import annotations

import importlib.metadata
import warnings
from pathlib import Path
from typing import Any

import torch
from fastai.losses import (
    BaseLoss,
    CrossEntropyLossFlat,
    FocalLossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
)
from fastai.vision.all import DynamicUnet, Learner
from torch import nn

from ..errors import ExportError, one_line
from .preprocessing import read_preprocessing
from .source_model import SourceModel, freeze, learner_file
from .unpickling import PickleModule, require_no_stubs

# Those whose decision is the largest logit, and whose probability is the softmax.
_SOFTMAX_LOSSES = (
    CrossEntropyLossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
    FocalLossFlat,
    nn.CrossEntropyLoss,
)
_TASKS = {
    "BCEWithLogitsLossFlat": "several labels a photo",
    "BCELossFlat": "several labels a photo",
    "BCEWithLogitsLoss": "several labels a photo",
    "MSELoss": "regression",
    "L1Loss": "regression",
    "DiceLoss": "segmentation",
}
_REMEDY = "give a file that learn.export() wrote"


def load_pickled(path: Path) -> SourceModel:
    """Load a pickled Learner, which can run any code.

    Raises:
        ExportError: the file is not a Learner, is damaged, or does what petinfer cannot reproduce.
    """
    learn = freeze(load_learner(path))
    labels, before = _labels_of(learn), read_preprocessing(learn)
    versions = {name: importlib.metadata.version(name) for name in ("fastai", "torch")}
    origin = {"architecture": _architecture_of(learn), "learner": learner_file(path), "versions": versions}
    return SourceModel(
        learn,
        labels,
        before.resize,
        before.statistics,
        origin,
        before.resampling,
        before.crop,
        before.item_transform,
        before.mode,
        vocab=labels,
    )


def load_learner(path: Path) -> Learner:
    """fastai's ``load_learner``, for what other systems, Pythons and versions of fastai saved.

    Raises:
        ExportError: the file is not a Learner, or part of its network cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            learn = torch.load(path, map_location="cpu", pickle_module=PickleModule, weights_only=False)
    except ExportError:
        raise
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror} ({_REMEDY}, or a run's folder)") from error
    except Exception as error:  # anything can come out of a pickle
        raise ExportError(f"{path}: not a Learner that loads here: {one_line(error)} ({_REMEDY})") from error
    if not isinstance(learn, Learner):
        raise ExportError(f"{path}: contains a {type(learn).__name__}, not a Learner ({_REMEDY})")
    require_no_stubs(learn.model)
    return learn


def _labels_of(learn: Learner) -> tuple[str, ...]:
    """The vocab of a Learner that gives a photo one label; any other is refused by its task."""
    loss = learn.loss_func
    named = loss.func if type(loss) is BaseLoss else loss  # MSELossFlat() is a BaseLoss of MSELoss
    name = getattr(named, "__name__", type(named).__name__)
    if isinstance(learn.model, DynamicUnet) or not (isinstance(loss, _SOFTMAX_LOSSES) or name == "cross_entropy"):
        task = "segmentation" if isinstance(learn.model, DynamicUnet) else _TASKS.get(name, "an unknown task")
        problem = f"its loss is {name}, for {task}; only Learners that give a photo one label are exported"
        raise ExportError(f"learner: {problem} (train it with CategoryBlock and CrossEntropyLossFlat)")
    return tuple(str(category) for category in learn.dls.vocab)


def _architecture_of(learn: Learner) -> str:
    arch: Any = getattr(learn, "arch", None)
    return arch if isinstance(arch, str) else getattr(arch, "__name__", type(learn.model).__name__)
