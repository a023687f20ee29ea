"""What a Learner's batch transforms do to validation photos: nothing, one and the same resampling of all, or what is refused.

The fastai book's presizing (``Resize(460)``, then ``aug_transforms(size=224)``) resamples every validation photo alike. Such a
transform is linear, and works on rows and columns apart: ``rows @ photo @ columns.T``. Both matrices are measured by sending
single lit lines through fastai's own transform, and go into the graph; whatever they do not reproduce is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fastai.vision.all import TensorImage, TensorImageBW
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ExportError

Matrix = NDArray[np.float32]
Resampling = tuple[Matrix, Matrix]
_NOTHING = 1e-4  # aug_transforms() at validation is grid_sample on its own grid: up to 5e-5 off the identity
_EXACT = 2e-6


def measure_resampling(transform: Any, channels: int, height: int, width: int) -> Resampling | None:
    """The matrices ``rows`` [out height, height] and ``columns`` [out width, width] of a batch transform at validation.

    Returns:
        None for a transform that leaves photos as they are.

    Raises:
        ExportError: it is random, or no such resampling.
    """
    name = type(transform).__name__

    def apply(photos: Tensor) -> Tensor:
        batch = TensorImage(photos) if channels == 3 else TensorImageBW(photos)
        return torch.as_tensor(transform(batch, split_idx=1)).as_subclass(Tensor)

    noise = torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(0))
    found = apply(noise.clone())
    if not torch.equal(found, apply(noise.clone())):
        raise ExportError(f"learner: its batch transform {name} is random at validation (train without it)")
    if found.shape == noise.shape and float((found - noise).abs().max()) < _NOTHING:
        return None
    rows, columns = _lines(apply, noise.shape, 2), _lines(apply, noise.shape, 3)
    again = np.einsum("oh,bchw,pw->bcop", rows, noise.numpy(), columns, optimize=True)
    if again.shape != tuple(found.shape) or float(np.abs(again - found.numpy()).max()) > _EXACT:
        raise ExportError(f"learner: its batch transform {name} cannot be put into the graph (train without it)")
    return rows, columns


def _lines(apply: Callable[[Tensor], Tensor], shape: torch.Size, dimension: int, chunk: int = 32) -> Matrix:
    """How bright each line of the result is when one line of the photo is lit, for each line in turn."""
    length = shape[dimension]
    found = []
    for start in range(0, length, chunk):
        lit = range(start, min(start + chunk, length))
        photos = torch.zeros(len(lit), *shape[1:])
        for i, line in enumerate(lit):
            photos.select(dimension, line)[i] = 1
        found.append(apply(photos)[:, 0].mean(2 if dimension == 2 else 1))
    return torch.cat(found).T.contiguous().numpy()
