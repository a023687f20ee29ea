"""A model on a device: photos in, predictions out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from .device import Opening, thread_count
from .errors import DeviceError, ModelError, PhotoError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from .image import Photo
    from .spec import Spec

BUNDLED_MODEL = Path(__file__).parent / "models" / "pets-int8.onnx"

DECODES = ("exact", "fast")
BATCH = 8  # photos of a stream that go through the network together


@dataclass(frozen=True)
class Prediction:
    """What the network answers for one photo."""

    label: str
    """The most probable class."""
    probability: float
    """Its probability, 0 to 1."""
    probabilities: dict[str, float]
    """Every class with its probability, the most probable first."""
    orientation: str
    """``upright`` or ``stored``: how the photo was looked at."""


class Classifier:
    """A model file, loaded on a device.

    Args:
        model: path of a model file that ``python -m export`` wrote; None takes the bundled one (cat or dog).
        device: a key of `petinfer.device.DEVICES`, or ``auto`` for the first of its ``AUTO`` that works here.
        threads: how many threads compute; None takes the cores that this process may use.
        orientation: ``upright`` turns photos as their EXIF entry asks, ``stored`` does as fastai does; None takes what
            the model file says.
        decode: ``exact`` gives the pixels that fastai gives; ``fast`` decodes large JPEGs at a part of their size.
        opening: what `begin` gave, in place of model, device and threads: a session that opens, or is open, by now.

    Raises:
        ModelError: the file is missing, damaged, or does not describe itself.
        DeviceError: the device or the number of threads cannot be had. It never falls back to another in silence.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        device: str = "auto",
        threads: int | None = None,
        orientation: str | None = None,
        decode: str = "exact",
        opening: Opening | None = None,
    ) -> None:
        if decode not in DECODES:
            raise ValueError(f"decode: {decode!r} is not one of {', '.join(DECODES)}")
        self.decode = decode
        opening = opening or begin(model, device, threads)
        self.path, self.device, self.threads = opening.path, opening.device, opening.threads
        from . import image, spec  # here, since they take half as long to load as the session, and both can at once

        image.load_decoders()
        self.session = opening.result()
        if orientation not in (None, *spec.ORIENTATIONS):
            raise ValueError(f"orientation: {orientation!r} is not one of {', '.join(spec.ORIENTATIONS)}")
        self.provider: str = self.session.get_providers()[0]
        self.spec = _read_spec(self.session, self.path)
        self.orientation = orientation or self.spec.orientation
        # fast decoding may stop at twice what the network sees
        self.enough = 2 * max(self.spec.resize.width, self.spec.resize.height) if decode == "fast" else None

    def pixels(self, photo: Photo) -> NDArray[np.uint8]:
        """The uint8 [height, width, 3] that the network sees of a photo: a path, bytes, a binary file, a Pillow image, or
        an RGB uint8 array [height, width, 3].

        Raises:
            PhotoError: it cannot be read.
        """
        from .image import pixels

        return pixels(photo, self.spec.resize, self.orientation, self.enough)

    def infer(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities and logits, float32 [batch, classes] each, of pixels, uint8 [batch, height, width, 3].

        Raises:
            ValueError: ``batch`` is of another type or shape.
            DeviceError: the device cannot compute it.
        """
        height, width = self.spec.resize.height, self.spec.resize.width
        if batch.dtype != np.uint8 or batch.shape[1:] != (height, width, 3):
            expected = f"uint8 [photos, {height}, {width}, 3]"
            raise ValueError(f"batch: {batch.dtype} {list(batch.shape)} is not {expected}, which `pixels` gives")
        try:
            probabilities, logits = self.session.run(["probabilities", "logits"], {"image": batch})
        except Exception as error:  # onnxruntime's own classes share no base but this
            problem = f"cannot compute {len(batch)} photos at once: {' '.join(str(error).split())[:200]}"
            raise DeviceError(f"{self.provider}: {problem} (try --device cpu)") from error
        return probabilities, logits

    def predict(self, photo: Photo) -> Prediction:
        """Classify one photo; it is what `pixels` takes. Raises `PhotoError` when it cannot be read."""
        return self.answer(self.pixels(photo)[np.newaxis])[0]

    def answer(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """The predictions for pixels, uint8 [batch, height, width, 3], that `pixels` gave.

        Raises:
            DeviceError: the device cannot compute them, or computes what is no number.
        """
        probabilities, _ = self.infer(batch)
        if not np.isfinite(probabilities).all():
            raise DeviceError(
                f"{self.provider}: computes probabilities that are no numbers (petinfer verify tells more)"
            )
        return [self._prediction(row) for row in probabilities]

    def predict_batch(self, photos: Sequence[Photo]) -> list[Prediction]:
        """Classify photos, in their order. Raises the first photo's `PhotoError`; `predict_stream` passes over it."""
        if isinstance(photos, (str, bytes, os.PathLike)):
            raise TypeError("photos: one photo, where several are expected (predict() takes one)")
        answers = []
        for answer in self.predict_stream(photos):
            if isinstance(answer, PhotoError):
                raise answer
            answers.append(answer)
        return answers

    def predict_stream(self, photos: Iterable[Photo]) -> Iterator[Prediction | PhotoError]:
        """Classify photos in their order; a photo that cannot be read gives its `PhotoError`.

        Threads decode up to 16 photos ahead while the network computes on batches of 8: a million photos take no more
        memory than twenty. For photos that come one by one as time goes on, `predict` answers at once.
        """
        photos = iter(photos)
        first = list(islice(photos, 2))
        if self.threads == 1 or len(first) < 2:  # a pool takes longer to import than a photo to classify
            for photo in chain(first, photos):
                yield from self._answers([self._pixels_or_error(photo)])
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self.threads - 1) as pool:
            waiting: deque[Future[NDArray[np.uint8] | PhotoError]] = deque()
            for photo in chain(first, photos):
                waiting.append(pool.submit(self._pixels_or_error, photo))
                if len(waiting) == 2 * BATCH:
                    yield from self._answers([waiting.popleft().result() for _ in range(BATCH)])
            while waiting:
                yield from self._answers([waiting.popleft().result() for _ in range(min(BATCH, len(waiting)))])

    def _pixels_or_error(self, photo: Photo) -> NDArray[np.uint8] | PhotoError:
        """The error without its traceback: that would keep the photo's bytes and pixels for as long as the error lives."""
        try:
            return self.pixels(photo)
        except PhotoError as error:
            error.__cause__ = error.__context__ = None
            return error.with_traceback(None)

    def _answers(self, decoded: list[NDArray[np.uint8] | PhotoError]) -> Iterator[Prediction | PhotoError]:
        batch = [pixels for pixels in decoded if not isinstance(pixels, PhotoError)]
        answers = iter(self.answer(np.stack(batch)) if batch else ())
        for pixels in decoded:
            yield pixels if isinstance(pixels, PhotoError) else next(answers)

    def _prediction(self, row: NDArray[np.float32]) -> Prediction:
        order = np.argsort(-row, kind="stable")
        ranked = {self.spec.labels[i]: float(row[i]) for i in order}
        return Prediction(self.spec.labels[order[0]], float(row[order[0]]), ranked, self.orientation)


def begin(model: str | os.PathLike[str] | None = None, device: str = "auto", threads: int | None = None) -> Opening:
    """Begin to open the session of a `Classifier` that is made of it later; other work can go on meanwhile.

    Raises:
        DeviceError: the number of threads cannot be had. What else is wrong, the Classifier tells.
    """
    return Opening(Path(BUNDLED_MODEL if model is None else model), device, thread_count(threads))


def _read_spec(session: onnxruntime.InferenceSession, path: Path) -> Spec:
    from .spec import METADATA_KEY, Spec

    metadata = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if metadata is None:
        raise ModelError(f"{path}: does not describe itself to petinfer (make model files with python -m export)")
    try:
        spec = Spec.from_json(metadata)
    except ModelError as error:
        raise ModelError(str(error).replace("model:", f"{path}:", 1)) from error
    expected = [("image", "tensor(uint8)", [spec.resize.height, spec.resize.width, 3])]
    found = [(entry.name, entry.type, entry.shape[1:]) for entry in session.get_inputs()]
    if found != expected:
        raise ModelError(f"{path}: takes {found}, but its metadata says {expected} (export it again)")
    outputs = {entry.name: entry.shape[1:] for entry in session.get_outputs()}
    if outputs != {"probabilities": [len(spec.labels)], "logits": [len(spec.labels)]}:
        raise ModelError(f"{path}: gives {outputs}, but its metadata names {len(spec.labels)} labels (export it again)")
    return spec
