"""Photos of none of the classes in training: what the network and the teacher see, and what is learned of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.vision.all import Callback, Learner
from PIL import Image

from train.checkpoint import Checkpoint
from train.data import dataloaders, find_photos
from train.distillation import Distillation, Weights
from train.errors import TrainingError
from train.evaluation import predict_logits
from train.fine_tuning import fine_tune, seed_everything
from train.learner import make_learner
from train.split import random_split
from train.unfamiliar import EvenOdds, UnfamiliarPhotos

from .conftest import SMALL
from .test_distillation import Stripes

EXPOSED = replace(SMALL, epochs=2, mixup=0.2, teacher_labels=1.0, augment=True, min_scale=0.5, train_size=48)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve pictures of noise, under names that say cat."""
    folder = tmp_path_factory.mktemp("noise")
    random = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(random.integers(0, 256, (70, 80, 3), np.uint8)).save(folder / f"Abyssinian_{i}.png")
    return sorted(folder.iterdir())


Train = Callable[..., Learner]


@pytest.fixture
def train(drawn_photos: Path, weights: Path, tmp_path: Path) -> Train:
    """Trains on the drawn photos with these callbacks, and returns the Learner."""

    def run(callbacks: list[Callback], resume: bool = False, seed: int = 1) -> Learner:
        seed_everything(seed)
        split = random_split(find_photos(drawn_photos, "species"), drawn_photos, EXPOSED)
        learn = make_learner(dataloaders(drawn_photos, split, EXPOSED), EXPOSED, weights)
        with learn.no_bar(), learn.no_logging():
            fine_tune(learn, EXPOSED, Checkpoint(tmp_path / "checkpoint.pth", resume), callbacks)
        return learn

    return run


def exposure(photos: list[Path], weight: float) -> list[Callback]:
    appended = UnfamiliarPhotos(photos, EXPOSED.batch_size)
    return [appended, EvenOdds(appended, weight)]


def surest(learn: Learner, photos: list[Path]) -> float:
    """The mean probability of the answers on photos."""
    logits, _ = predict_logits(learn, photos)
    return float(torch.tensor(logits).softmax(1).max(1).values.mean())


def test_the_answers_on_such_photos_move_towards_even_odds(train: Train, noise: list[Path]) -> None:
    assert surest(train(exposure(noise, 5.0)), noise) < surest(train(exposure(noise, 0.0)), noise) - 0.02


class Sizes(Callback):
    """Notes the batch of the network, of the loss, and of validation."""

    order = 100

    def __init__(self) -> None:
        self.seen: set[tuple[bool, int, int]] = set()

    def after_loss(self) -> None:
        """Note them."""
        self.seen.add((bool(self.training), len(self.xb[0]), len(self.pred)))


def test_network_and_teacher_see_them_but_the_labels_loss_and_validation_do_not(
    train: Train, noise: list[Path]
) -> None:
    sizes, teacher = Sizes(), Stripes()
    learn = train([Distillation(teacher, weights=Weights(labels=1.0)), *exposure(noise, 0.5), sizes])
    photos = len(learn.dls.valid_ds)
    assert sizes.seen == {(True, 10, 8), (False, photos, photos)}
    assert len(teacher.seen) == 3 * len(learn.dls.train)


class Kill(Callback):
    """Ends training without a word in its second epoch with the whole network."""

    def before_train(self) -> None:
        """Stop there."""
        if self.epoch == 1:
            raise InterruptedError("killed")


def test_a_killed_run_sees_the_same_photos_when_it_is_resumed(train: Train, noise: list[Path]) -> None:
    expected = train(exposure(noise, 0.5)).model.state_dict()
    with pytest.raises(InterruptedError):
        train([*exposure(noise, 0.5), Kill()])
    resumed = train(exposure(noise, 0.5), resume=True, seed=2).model.state_dict()
    for name, value in expected.items():
        assert torch.equal(value, resumed[name]), name


def test_too_few_of_them_are_refused(noise: list[Path]) -> None:
    with pytest.raises(TrainingError, match=r"^--unfamiliar: 1 photos, each batch takes 2"):
        exposure(noise[:1], 0.5)
