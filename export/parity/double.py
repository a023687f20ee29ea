"""The network's answers in float64: how far float32 itself, in torch and in the file, is from them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..source.source_model import SourceModel
from .compare import Array, Reference, probabilities_of

_PHOTOS = 32  # float64 takes several times as long


def float64_errors(source: SourceModel, reference: Reference, probabilities: Array) -> tuple[float, float] | None:
    """The largest |Δ probability| of the file and of the Learner from the network in float64.

    Measured on the photos that moved most between them, and on others evenly spaced. None if the network cannot compute
    in float64.
    """
    moved = np.abs(probabilities - reference.probabilities).max(1)
    spaced = np.linspace(0, len(moved) - 1, min(_PHOTOS, len(moved))).astype(int)
    chosen = np.unique([*np.argsort(-moved)[:_PHOTOS], *spaced])
    try:
        logits = _float64_logits(source, [reference.photos[i] for i in chosen])
    except Exception:  # a network with float32 written into it
        return None
    exact = probabilities_of(logits, source.threshold)
    file_error, torch_error = (
        float(np.abs(answers[chosen] - exact).max()) for answers in (probabilities, reference.probabilities)
    )
    return file_error, torch_error


def _float64_logits(source: SourceModel, photos: Sequence[Path]) -> Array:
    network = copy.deepcopy(source.learn.model).double().eval()
    with torch.no_grad():
        rows = [network(_float64_input(source, photo)).numpy() for photo in photos]
    return np.concatenate(rows)


def _float64_input(source: SourceModel, photo: Path) -> torch.Tensor:
    """The network's input for a photo, float64 [1, channels, height, width]."""
    planes = source.cropped(source.pixels(photo)).transpose(2, 0, 1) / 255
    if source.resampling is not None:
        rows, columns = (matrix.astype(np.float64) for matrix in source.resampling)
        planes = rows @ planes @ columns.T
    if source.statistics is not None:
        mean, std = (np.array(values)[:, np.newaxis, np.newaxis] for values in source.statistics)
        planes = (planes - mean) / std
    return torch.from_numpy(np.ascontiguousarray(planes))[np.newaxis]
