"""Batch norms' statistics anew: those of the training photos, prepared as at validation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fastai.vision.all import vision_learner
from torchvision.models import resnet18

from train.batch_norms import renew_batch_norms
from train.data import dataloaders, find_photos
from train.errors import TrainingError
from train.recipe import Recipe
from train.split import random_split

from .conftest import SMALL


def test_statistics_are_those_of_the_photos_as_at_validation(drawn_photos: Path) -> None:
    split = random_split(find_photos(drawn_photos, "species"), drawn_photos, SMALL)
    learn = vision_learner(dataloaders(drawn_photos, split, SMALL), resnet18, pretrained=False)
    norm = learn.model[0][1]
    norm.running_mean.fill_(3)
    renew_batch_norms(learn)
    photos = [drawn_photos / name for name in split.train]
    with torch.no_grad():
        maps = [learn.model[0][0](pixels) for (pixels,) in learn.dls.test_dl(photos, bs=SMALL.batch_size)]
    means = torch.stack([each.mean((0, 2, 3)) for each in maps])
    assert torch.allclose(norm.running_mean, means.mean(0), atol=1e-4)
    assert norm.momentum == 0.1 and not any(module.training for module in learn.model.modules())


def test_a_linear_layer_keeps_the_statistics_that_it_was_fitted_with() -> None:
    with pytest.raises(TrainingError, match="linear leaves the body as it is"):
        Recipe(linear=True, renew_norms=True)
