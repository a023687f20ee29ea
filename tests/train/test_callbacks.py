"""The callbacks of a training run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastai.vision.all import Callback, Learner

from train.callbacks import AverageWeights, KeepBest
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


@pytest.fixture
def learn(drawn_photos: Path, weights: Path) -> Learner:
    """A Learner of ten photos before its training."""
    seed_everything(1)
    split = random_split(find_photos(drawn_photos, "species"), drawn_photos, SMALL)
    return make_learner(dataloaders(drawn_photos, split, SMALL), SMALL, weights)


def test_validation_leaves_the_averaged_weights_as_they_are(learn: Learner, tmp_path: Path) -> None:
    recipe, watch = replace(SMALL, average=0.5), Watch()
    with learn.no_bar(), learn.no_logging():
        assert fine_tune(learn, recipe, Checkpoint(tmp_path / "checkpoint.pth", resume=False), [watch])
    assert watch.in_training_mode and not any(watch.in_training_mode)
    assert watch.changed == []


class Spoil(Callback):
    """Turns the answers of the last epoch's averaged weights round, and notes what each epoch validates."""

    order = KeepBest.order - 10

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def before_validate(self) -> None:
        """Change the average before `AverageWeights` validates it."""
        module = self.learn.average_weights.average.module
        if len(self.seen) == 2:
            module[1][-1].weight.data.mul_(-20)
        self.seen.append({name: value.clone() for name, value in module.state_dict().items()})


def test_the_weights_of_the_best_epoch_are_kept_after_resuming_too(learn: Learner, tmp_path: Path) -> None:
    recipe, spoil = replace(SMALL, epochs=2, average=0.5, keep_best=True), Spoil()
    checkpoint = Checkpoint(tmp_path / "checkpoint.pth", resume=False)
    with learn.no_bar(), learn.no_logging():
        assert fine_tune(learn, recipe, checkpoint, [spoil])
    losses = [loss for _, loss, _ in checkpoint.log]
    assert len(losses) == 3 and losses[2] > 2 * max(losses[:2])  # type: ignore[operator,type-var]
    kept = spoil.seen[losses.index(min(losses))]  # type: ignore[type-var]
    for name, value in learn.model.state_dict().items():
        assert torch.equal(value, kept[name]), name
        value.zero_()
    with learn.no_bar(), learn.no_logging():  # killed after its last epoch
        assert fine_tune(learn, recipe, Checkpoint(checkpoint.path, resume=True))
    for name, value in learn.model.state_dict().items():
        assert torch.equal(value, kept[name]), name
