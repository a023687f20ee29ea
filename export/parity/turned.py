"""Photos that their EXIF entry turns: fastai takes them as they are stored, an ``upright`` file turns them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from petinfer import Classifier
from petinfer.decision import decided
from petinfer.image import pixels

from .compare import Array

_ORIENTATION = 0x0112  # the EXIF entry


def compare_turned(classifier: Classifier, photos: Sequence[Path], stored: Array) -> dict[str, int] | None:
    """How many decisions change when photos are turned upright; None if no photo has an EXIF turn.

    Args:
        classifier: the file.
        photos: those of the comparison.
        stored: the file's probabilities for the photos as stored, [photos, classes].
    """
    turned = [i for i, photo in enumerate(photos) if _is_turned(photo)]
    if not turned:
        return None
    threshold, changed = classifier.spec.threshold, 0
    for i in turned:
        upright = pixels(photos[i], classifier.spec.resize, "upright", classifier.spec.mode)
        answer = classifier.run(upright[np.newaxis])[0][0]
        changed += int((decided(answer, threshold) != decided(stored[i], threshold)).any())
    return {"photos": len(turned), "changed": changed}


def _is_turned(photo: Path) -> bool:
    try:
        with Image.open(photo) as image:
            return image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    except Exception:  # a damaged EXIF block asks for nothing
        return False
