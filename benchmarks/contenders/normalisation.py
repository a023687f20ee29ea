"""The arithmetic on pixels that petinfer's files contain and that others leave to their user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Statistics = tuple[
    NDArray[np.float32], NDArray[np.float32]
]  # mean and standard deviation, each [3], of pixels in 0 to 1


def normalise(image: NDArray[np.uint8], statistics: Statistics) -> NDArray[np.float32]:
    """A batch of one, float32 [1, 3, height, width], from an image, uint8 [height, width, 3]."""
    mean, deviation = statistics
    scaled = (image.astype(np.float32) / 255 - mean) / deviation
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis])
