"""From probabilities to labels, as fastai's losses decode them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def decided(probabilities: NDArray[Any], threshold: float | None) -> NDArray[np.bool_]:
    """Whether each class is a label of the photo.

    Args:
        probabilities: float [..., classes].
        threshold: the description's; with one, every class over it is a label, and without, the most probable alone (of
            equal ones, the first).

    Returns:
        bool [..., classes].
    """
    if threshold is not None:
        return np.asarray(probabilities, np.float32) > np.float32(threshold)  # torch compares in float32 too
    return np.asarray(np.arange(probabilities.shape[-1]) == probabilities.argmax(-1)[..., np.newaxis])
