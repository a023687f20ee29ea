"""A linear layer on the features of a frozen body: each photo goes through the network once, and the rest takes seconds.

Where the body is good and the photos are few or the processor is slow, this is as accurate as fine-tuning (a "linear probe").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import numpy.typing as npt
import torch
from fastai.vision.all import Learner
from torch import Tensor, nn
from torch.nn import functional

from .artifacts import replacing

WEIGHT_DECAYS = (0.01, 0.03, 0.1, 0.3, 1.0)
_SMOOTHING = 0.02  # of the labels: about 1 % of them are wrong
_TOGETHER = 512  # photos in one file of features
_FLOOR = 0.01  # added to each feature's standard deviation: some features are almost always 0


def linear_head(head: nn.Module, classes: int) -> nn.Sequential:
    """Mean pooling and one linear layer, for the features that fastai's own ``head`` takes (it pools them twice)."""
    features = next(layer.num_features for layer in head.modules() if isinstance(layer, nn.BatchNorm1d)) // 2
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes))


class LinearFit(NamedTuple):
    """How the fit went."""

    decay: float
    """The weight decay that was given or chosen."""
    logits: npt.NDArray[np.float64]
    """Of the validation photos, [photos, classes]: `calibrate` needs not compute them again."""
    labels: npt.NDArray[np.intp]
    """Of the validation photos."""


def fit_linear(learn: Learner, out: Path, sources: Sequence[str] | None = None, decay: float = 0) -> LinearFit:
    """Fit the Learner's last layer on its training photos.

    Args:
        learn: its head is `linear_head`; changed in place.
        decay: weight decay; 0 takes that of `WEIGHT_DECAYS` which suits the validation photos best.
        sources: of each training photo, where they are known: large sources then count for less, see `source_weights`.
        out: the run's folder. Features are kept there until all is done, so that a stopped run continues.
    """
    train, valid = (_features(learn, files, out, name) for files, name in
                    ((learn.dls.train_ds.items, "train"), (learn.dls.valid_ds.items, "valid")))  # fmt: skip
    weights = source_weights(sources, train[1].tolist()) if sources else torch.ones(len(train[1]))
    fitted = [(each, fit(*train, weights, learn.dls.c, each)) for each in ([decay] if decay else WEIGHT_DECAYS)]
    logits = [valid[0] @ weight.T + bias for _, (weight, bias) in fitted]
    best = int(np.argmin([functional.cross_entropy(each, valid[1]).item() for each in logits]))
    chosen, (weight, bias) = fitted[best]
    last = learn.model[1][-1]
    with torch.no_grad():
        last.weight.copy_(weight)
        last.bias.copy_(bias)
    for part in out.glob("features-*.npz"):
        part.unlink()
    return LinearFit(chosen, logits[best].double().numpy(), valid[1].numpy())


def source_weights(sources: Sequence[str], labels: Sequence[int]) -> Tensor:
    """A weight for each photo, float32 [photos] with mean 1: one over the root of how many its source has of its label.

    A source with 100 times as many photos as another counts 10 times as much, and both of its labels nearly the same.
    """
    pairs = list(zip(sources, labels, strict=True))
    counts = Counter(pairs)
    weights = torch.tensor([counts[pair] ** -0.5 for pair in pairs])
    return weights / weights.mean()


def fit(features: Tensor, labels: Tensor, weights: Tensor, classes: int, decay: float) -> tuple[Tensor, Tensor]:
    """Weight [classes, features] and bias [classes] of a logistic regression on standardised features, by L-BFGS.

    Args:
        features: float32 [photos, features].
        labels: int64 [photos].
        weights: of each photo in the loss, float32 [photos].
        classes: how many there are.
        decay: weight of half the squared weights in the loss.
    """
    mean, deviation = features.mean(0), features.std(0) + _FLOOR
    standardised = (features - mean) / deviation
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = functional.linear(standardised, weight, bias)
        losses = functional.cross_entropy(logits, labels, label_smoothing=_SMOOTHING, reduction="none")
        loss = (losses * weights).mean() + decay * weight.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    weight, bias = weight.detach(), bias.detach()
    return weight / deviation, bias - weight @ (mean / deviation)


def _features(learn: Learner, files: Sequence[Path], out: Path, name: str) -> tuple[Tensor, Tensor]:
    """Pooled features, float32 [photos, features], and labels, int64 [photos], in the order of the files."""
    parts = range(0, len(files), _TOGETHER)
    with click.progressbar(parts, label=f"features of {name} photos", show_pos=True) as starts:
        found = [_part(learn, files[i : i + _TOGETHER], out / f"features-{name}-{i:06}.npz") for i in starts]
    features, labels = zip(*found, strict=True)
    return torch.from_numpy(np.concatenate(features)), torch.from_numpy(np.concatenate(labels))


def _part(learn: Learner, files: Sequence[Path], path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Features and labels of some photos: from the file of a run that was stopped, or computed and written to it."""
    if path.exists():
        with np.load(path) as kept:
            return kept["features"], kept["labels"]
    dl = learn.dls.test_dl(list(files), with_labels=True)
    body = learn.model[0].eval().to(memory_format=torch.channels_last)  # 1.7 times as fast on a CPU
    pool = learn.model[1][:2]
    with torch.inference_mode():
        batches = [(pool(body(images.contiguous(memory_format=torch.channels_last))), labels) for images, labels in dl]
    body.to(memory_format=torch.contiguous_format)
    features, labels = (torch.cat(each).as_subclass(Tensor).cpu().numpy() for each in zip(*batches, strict=True))
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, features=features, labels=labels)
    return features, labels
