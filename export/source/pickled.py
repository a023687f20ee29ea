"""A Learner that a notebook saved with ``learn.export()``."""

from __future__ import annotations

import importlib.metadata
import warnings
from pathlib import Path
from typing import Any

import torch
from fastai.vision.all import Learner

from ..errors import ExportError, one_line
from .preprocessing import read_preprocessing
from .source_model import SourceModel, freeze, learner_file
from .task import read_task
from .unpickling import PickleModule, require_no_stubs

_REMEDY = "give a file that learn.export() wrote"


def load_pickled(path: Path) -> SourceModel:
    """Load a pickled Learner, which can run any code.

    Raises:
        ExportError: the file is not a Learner, is damaged, or does what petinfer cannot reproduce.
    """
    learn = freeze(load_learner(path))
    task, before = read_task(learn), read_preprocessing(learn)
    versions = {name: importlib.metadata.version(name) for name in ("fastai", "torch")}
    origin = {"architecture": _architecture_of(learn), "learner": learner_file(path), "versions": versions}
    return SourceModel(
        learn,
        task.labels,
        before.resize,
        before.statistics,
        origin,
        before.resampling,
        before.crop,
        before.item_transform,
        before.mode,
        vocab=task.labels,
        threshold=task.threshold,
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


def _architecture_of(learn: Learner) -> str:
    arch: Any = getattr(learn, "arch", None)
    return arch if isinstance(arch, str) else getattr(arch, "__name__", type(learn.model).__name__)
