"""The callbacks of a training run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from fastai.vision.all import Callback

from train.callbacks import AverageWeights
from train.checkpoint import Checkpoint
from train.data import dataloaders, find_photos
from train.fine_tuning import fine_tune, seed_everything
from train.learner import make_learner
from train.split import random_split

from .conftest import SMALL


class Watch(Callback):
    """Notes how the averaged network is validated."""

    order = AverageWeights.order + 1

    def __init__(self) -> None:
        self.in_training_mode: list[bool] = []
        self.changed: list[str] = []

    def before_validate(self) -> None:
        """Keep the average as it is before."""
        self.before = {name: value.clone() for name, value in self.learn.model.state_dict().items()}

    def before_batch(self) -> None:
        """Note the mode of each layer."""
        if not self.training:
            self.in_training_mode += [layer.training for layer in self.learn.model.modules()]

    def after_batch(self) -> None:
        """Note what has changed."""
        if not self.training:
            after = self.learn.model.state_dict()
            self.changed += [name for name, value in self.before.items() if not torch.equal(value, after[name])]


def test_validation_leaves_the_averaged_weights_as_they_are(drawn_photos: Path, weights: Path, tmp_path: Path) -> None:
    recipe, watch = replace(SMALL, average=0.5), Watch()
    seed_everything(1)
    split = random_split(find_photos(drawn_photos, "species"), drawn_photos, recipe)
    learn = make_learner(dataloaders(drawn_photos, split, recipe), recipe, weights)
    with learn.no_bar(), learn.no_logging():
        assert fine_tune(learn, recipe, Checkpoint(tmp_path / "checkpoint.pth", resume=False), [watch])
    assert watch.in_training_mode and not any(watch.in_training_mode)
    assert watch.changed == []
