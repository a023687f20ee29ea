"""Golden answers: fastai's pixels for each golden photo, the Learner's answers and the file's. They travel in the file.

The photos are in ``petinfer/golden``: scikit-image's Chelsea (CC0) in several formats, modes and shapes, and pictures made
by code. Between them they cover every trap that DESIGN names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from fastai.vision.all import PILImage, PILImageBW
from numpy.typing import NDArray

from petinfer import Classifier
from petinfer.spec import Golden
from petinfer.verify import GOLDEN_PHOTOS

from ..errors import ParityError
from ..source.source_model import SourceModel, learner_logits
from .compare import Array, file_outputs, probabilities_of

_CLASSES = {"RGB": PILImage, "L": PILImageBW}


def learner_golden(source: SourceModel) -> dict[str, Golden]:
    """fastai's pixels and the Learner's answers for each golden photo, by file name; the file's answers are still empty.

    Raises:
        ParityError: petinfer's pixels are not fastai's.
    """
    photos = sorted(path for path in GOLDEN_PHOTOS.iterdir() if path.is_file())
    answers = probabilities_of(learner_logits(source.learn, photos), source.threshold)
    return {
        photo.name: _golden(source, photo, tuple(answer))
        for photo, answer in zip(photos, answers.tolist(), strict=True)
    }


def with_file_answers(
    golden: dict[str, Golden], classifier: Classifier, scale: Callable[[Array], Array] | None = None
) -> dict[str, Golden]:
    """The golden answers with a file's own, and its familiarity on a scale where there is one."""
    photos = [GOLDEN_PHOTOS / name for name in golden]
    probabilities, *closeness = file_outputs(classifier, photos, "probabilities", *(["familiarity"] if scale else []))
    familiarity = scale(closeness[0]).tolist() if scale else [None] * len(golden)
    return {
        name: replace(each, file=tuple(answer), familiarity=familiar)
        for (name, each), answer, familiar in zip(golden.items(), probabilities.tolist(), familiarity, strict=True)
    }


def _golden(source: SourceModel, photo: Path, learner: tuple[float, ...]) -> Golden:
    decoded = _CLASSES[source.mode].create(photo)
    ours = source.pixels(photo)
    fastais = np.asarray(source.item_transform(decoded, split_idx=1))
    if not np.array_equal(fastais.reshape(*fastais.shape[:2], -1), source.cropped(ours)):
        raise ParityError(
            f"{photo.name}: petinfer's pixels are not fastai's (install another version of Pillow or fastai)"
        )
    return Golden(decoded.size, _sha256(np.asarray(decoded)), _sha256(ours), learner, ())


def _sha256(image: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
