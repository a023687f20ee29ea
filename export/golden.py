"""Golden answers: what fastai made of each golden photo, and what the Learner and the file answered. They travel with the file.

The photos lie in ``petinfer/golden``: scikit-image's Chelsea (CC0) in several formats, modes and shapes, and pictures made
by code; between them they hold every trap that DESIGN names.
"""

from __future__ import annotations

import hashlib

import numpy as np
from fastai.vision.all import PILImage
from fastai.vision.all import Resize as FastaiResize

from petinfer import Classifier
from petinfer.spec import Golden
from petinfer.verify import GOLDEN_PHOTOS

from .errors import ParityError
from .learner import Original, fastai_resize
from .parity import file_answers, learner_logits, softmax


def golden_answers(original: Original, classifier: Classifier) -> dict[str, Golden]:
    """The answers for each golden photo, by file name.

    Raises:
        ParityError: petinfer's pixels are not fastai's.
    """
    photos = sorted(path for path in GOLDEN_PHOTOS.iterdir() if path.is_file())
    learner = softmax(learner_logits(original, photos))
    file, _ = file_answers(classifier, photos)
    resize = fastai_resize(original.resize)
    golden = {}
    for photo, learners, files in zip(photos, learner, file, strict=True):
        decoded = PILImage.create(photo)
        pixels = _see(decoded, resize)
        if not np.array_equal(pixels, classifier.pixels(photo)):
            raise ParityError(f"{photo.name}: petinfer's pixels are not fastai's (another version of Pillow or fastai)")
        golden[photo.name] = Golden(
            decoded.size, _sha256(np.asarray(decoded)), _sha256(pixels), tuple(learners), tuple(files)
        )
    return golden


def _see(photo: PILImage, resize: FastaiResize) -> np.ndarray:
    return np.asarray(resize(photo, split_idx=1))


def _sha256(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
