"""Temperature scaling: the fitted temperature, and its place in the Learner's last layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.vision.all import Learner, error_rate, vision_learner
from torch import nn
from torchvision.models import resnet18

from train.calibration import calibrate, fit_temperature
from train.data import dataloaders
from train.errors import TrainingError
from train.evaluation import predict_logits
from train.split import Split

from .conftest import SMALL


def test_the_temperature_of_answers_that_are_twice_too_sure_is_2() -> None:
    """Of answers at odds of 3 to 1, three in four are correct; the logits claim odds of 9 to 1."""
    logits = np.array([[0.0, 2 * np.log(3)]] * 4)
    assert fit_temperature(logits, np.array([1, 1, 1, 0])) == pytest.approx(2, rel=1e-4)


def test_without_errors_the_temperature_stays_within_its_limits() -> None:
    assert fit_temperature(np.array([[0.0, 1.0]]), np.array([1])) == pytest.approx(0.2, rel=1e-4)


@pytest.fixture
def learn(drawn_photos: Path) -> Learner:
    """A Learner with random weights and eight validation photos."""
    torch.manual_seed(0)
    names = sorted(photo.name for photo in drawn_photos.iterdir())
    split = Split(tuple(names[::2]), tuple(names[1::4]))
    return vision_learner(dataloaders(drawn_photos, split, SMALL), resnet18, pretrained=False, metrics=error_rate)


def test_calibration_divides_the_logits_by_the_temperature(learn: Learner) -> None:
    before, labels = predict_logits(learn)
    temperature = calibrate(learn)
    after, _ = predict_logits(learn)
    assert after == pytest.approx(before / temperature, rel=1e-4, abs=1e-6)
    assert temperature == pytest.approx(fit_temperature(before, labels))


def test_a_network_that_does_not_end_in_a_linear_layer_is_an_error(learn: Learner) -> None:
    learn.model = nn.Sequential(learn.model, nn.Tanh())
    with pytest.raises(TrainingError, match="calibrate: the last layer is a Tanh"):
        calibrate(learn)
