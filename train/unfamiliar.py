"""Photos of none of the classes in training: outlier exposure (arXiv 1812.04606).

Each batch gets some. The network's answers on them are trained towards even odds, and with a teacher its features learn from
them as from all others, so that they know more than the classes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from fastai.data.core import test_set as set_of
from fastai.vision.all import Callback
from torch import Tensor

from .distillation import Distillation

_PART = 4  # one such photo for every four photos of the classes


def photos_a_batch(batch_size: int) -> int:
    """How many such photos a batch of ``batch_size`` photos of the classes gets."""
    return max(1, batch_size // _PART)


class UnfamiliarPhotos(Callback):
    """Append photos of none of the classes to each training batch, and take their answers out again before the loss."""

    order = Distillation.order - 0.05  # after MixUp; the teacher sees them

    def __init__(self, photos: Sequence[Path], seed: int) -> None:
        self.photos, self.seed = photos, seed
        self.batches: Iterator[Any] = iter(())
        self.answers: Tensor | None = None
        """Their logits, [photos, classes], until the loss is computed."""

    def before_train(self) -> None:
        """Begin again, in an order that depends on the seed and the epoch alone, so that a resumed run has it too."""
        photos = set_of(self.dls.train_ds, list(self.photos))
        photos.tls[0].tfms.split_idx = 0  # the transforms of training, not of a test set
        workers = math.ceil(self.dls.train.fake_l.num_workers / _PART)
        self.loader = self.dls.train.new(photos, bs=photos_a_batch(self.dls.train.bs), num_workers=workers)
        self.loader.rng = random.Random(f"{self.seed} {self.learn.checkpoint.epochs}")
        self.batches = self._forever()

    def _forever(self) -> Iterator[Any]:
        while True:
            yield from self.loader

    def before_batch(self) -> None:
        """Append them, cropped and augmented like the others."""
        if self.training:
            mine, theirs = (x.as_subclass(Tensor) for x in (self.xb[0], next(self.batches)[0]))
            self.known = len(mine)
            self.learn.xb = (torch.cat([mine, theirs]),)

    def after_pred(self) -> None:
        """Leave the answers to the labelled photos for the loss."""
        if self.training:
            self.answers, self.learn.pred = self.pred[self.known :], self.pred[: self.known]

    def after_train(self) -> None:
        """End the processes that read them."""
        self.batches = iter(())

    def after_cancel_fit(self) -> None:
        """End them after Ctrl-C, too."""
        self.after_train()


class EvenOdds(Callback):
    """Add how far the answers on photos of none of the classes are from even odds to the loss."""

    order = Distillation.order + 0.05  # after it has weighted the photos' own labels

    def __init__(self, photos: UnfamiliarPhotos, weight: float) -> None:
        self.photos, self.weight = photos, weight

    def after_loss(self) -> None:
        """Add the Kullback-Leibler divergence from even odds, in single precision."""
        if self.training:
            assert self.photos.answers is not None
            log_probabilities = self.photos.answers.float().log_softmax(1)
            divergence = -log_probabilities.mean() - math.log(log_probabilities.shape[1])
            self.learn.loss_grad = self.learn.loss_grad + self.weight * divergence
            self.photos.answers = None
