"""Temperature scaling (arXiv 1706.04599), folded into the last layer: the saved Learner itself is calibrated."""

from __future__ import annotations

import numpy as np
import torch
from fastai.vision.all import Learner
from torch import nn

from .errors import TrainingError
from .evaluation import Floats, Ints, predict_logits

_LIMITS = (0.2, 5.0)  # few validation photos without errors would ask for a temperature of 0


def calibrate(learn: Learner, answers: tuple[Floats, Ints] | None = None) -> float:
    """Divide the Learner's logits by the temperature that minimises the loss on its validation photos, or on others.

    Args:
        learn: its last layer is changed in place.
        answers: the logits [photos, classes] and the labels of its validation photos, if they are known already, or
            of other photos to fit on.

    Returns:
        The temperature: below 1 makes the answers surer, above 1 less sure. The decisions stay the same.

    Raises:
        TrainingError: the network does not end in a linear layer.
    """
    last = list(learn.model.modules())[-1]
    if not isinstance(last, nn.Linear):
        raise TrainingError(f"calibrate: the last layer is a {type(last).__name__}, not a Linear (leave calibrate out)")
    temperature = fit_temperature(*(answers or predict_logits(learn)))
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.div_(temperature)
    return temperature


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature from 0.2 to 5 with the lowest mean cross-entropy of ``logits`` [photos, classes] / temperature."""
    low, high = (float(np.log(limit)) for limit in _LIMITS)
    for _ in range(60):  # the loss is convex in 1 / temperature, so it has one minimum: ternary search
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if _loss(logits / np.exp(left), labels) < _loss(logits / np.exp(right), labels):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def _loss(logits: Floats, labels: Ints) -> float:
    log_probabilities = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())
