"""A checkpoint after every epoch, and resuming from it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.vision.all import Callback, CancelEpochException, L, get_model

from .artifacts import replacing
from .errors import TrainingError
from .processes import is_first


class Checkpoint(Callback):
    """Save everything that training needs to resume after each epoch, and skip the epochs that are already done.

    fastai's ``SkipToEpoch`` skips within one ``fit``. ``fine_tune`` is two, and this counts over both.
    """

    order = 70

    def __init__(self, path: Path, resume: bool) -> None:
        self.path, self.epochs = path, 0
        self.log: list[list[float | None]] = []
        self.saved = _read(path) if resume and path.exists() else None
        self.done = self.saved["epochs"] if self.saved else 0

    def before_epoch(self) -> None:
        """Skip an epoch that is done; restore the saved state before the first one that is not."""
        if self.epochs < self.done:
            self.epochs += 1
            raise CancelEpochException
        if self.saved is not None:
            self._restore(self.saved)
            self.saved = None

    def after_epoch(self) -> None:
        """Write the checkpoint, so that a kill at any moment leaves the previous one or this one."""
        if self.saved is not None:
            return
        self.epochs += 1
        if not is_first():
            return
        self.log.append([None if value is None else float(value) for value in self.recorder.log[1:-1]])
        with replacing(self.path) as part:
            torch.save(self._state(), part)

    def finish(self) -> None:
        """Restore the saved state of a run that was killed after its last epoch."""
        if self.saved is not None:
            self._restore(self.saved)

    def _parts(self) -> dict[str, Any]:
        parts = {"model": get_model(self.learn.model)}
        if hasattr(self.learn, "average_weights") and self.learn.average_weights.average is not None:
            parts["average"] = self.learn.average_weights.average
        if hasattr(self.learn, "keep_best"):
            parts["best"] = self.learn.keep_best
        if hasattr(self.learn, "distillation"):
            parts |= self.learn.distillation.parts()
        return parts

    def _shuffle_rng(self) -> random.Random:
        """The generator of the photos' order; with several processes, fastai wraps the DataLoader that has it."""
        loader = self.dls.train
        rng: random.Random = loader.rng if hasattr(loader, "rng") else loader.dl.rng
        return rng

    def _state(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "log": self.log,
            "state": list(self.learn.opt.state_dict()["state"]),  # plain lists, so that loading unpickles only tensors
            "hypers": [
                {name: value.item() if isinstance(value, np.generic) else value for name, value in group.items()}
                for group in self.learn.opt.hypers
            ],
            "torch_rng": torch.get_rng_state(),
            "python_rng": random.getstate(),
            "shuffle_rng": self._shuffle_rng().getstate(),
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        if self.epoch:  # before the first epoch of a `fit`, fastai has cleared the optimizer's state
            self.learn.opt.load_state_dict(
                {"state": _to(saved["state"], self.dls.device), "hypers": L(saved["hypers"])}
            )
        torch.set_rng_state(saved["torch_rng"])
        random.setstate(saved["python_rng"])
        self._shuffle_rng().setstate(saved["shuffle_rng"])
        self.log = saved["log"]


def _read(path: Path) -> dict[str, Any]:
    """The saved state, on the CPU: it may have been written where there was a GPU."""
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many kinds for a damaged file
        problem = " ".join(str(error).split())[:160]
        raise TrainingError(f"{path}: cannot be read: {problem} (delete it to start the run again)") from error
    return state


def _to(state: list[dict[str, Any]], device: torch.device | None) -> list[dict[str, Any]]:
    """The optimizer's state on the device of the training."""
    return [
        {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in entry.items()}
        for entry in state
    ]
