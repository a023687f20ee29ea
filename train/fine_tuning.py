"""Fine-tuning as fastai does it, with the callbacks that a recipe asks for."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from fastai.callback.training import BnFreeze
from fastai.vision.all import Callback, Learner, MixUp

from .callbacks import AverageWeights, KeepBest, KeepEarly, ProgressiveResizing, StopOnInterrupt, precision_callbacks
from .checkpoint import Checkpoint
from .processes import across_processes
from .recipe import Recipe


def seed_everything(seed: int) -> None:
    """Seed random, numpy and torch: fastai's ``set_seed``, but cuDNN's flags stay as they are."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def fine_tune(learn: Learner, recipe: Recipe, checkpoint: Checkpoint, teaching: Sequence[Callback] = ()) -> bool:
    """fastai's ``fine_tune``: ``freeze_epochs`` with the body frozen, then ``epochs`` with the whole network.

    Returns:
        Whether training was completed. After Ctrl-C it was not, and ``learn`` holds the weights so far.
    """
    stop = StopOnInterrupt()
    with learn.added_cbs([*_callbacks(recipe), *teaching, checkpoint, stop]), across_processes(learn):
        learn.fine_tune(recipe.epochs, recipe.lr, freeze_epochs=recipe.freeze_epochs, lr_mult=recipe.lr_mult)
        checkpoint.finish()
        if recipe.keep_best:
            learn.keep_best.keep()
        elif recipe.average:
            learn.average_weights.keep()
    learn.model.to(memory_format=torch.contiguous_format)
    return not stop.asked


def _callbacks(recipe: Recipe) -> list[Callback]:
    chosen = precision_callbacks()
    if recipe.mixup:
        chosen.append(MixUp(recipe.mixup))
    if recipe.keep_early:
        chosen.append(KeepEarly())
    if recipe.freeze_norms:
        chosen.append(BnFreeze())
    if recipe.small_size:
        chosen.append(ProgressiveResizing(recipe.small_size, recipe.train_size or recipe.size))
    if recipe.average:
        chosen.append(AverageWeights(recipe.average))
    if recipe.keep_best:
        chosen.append(KeepBest())
    return chosen
