"""A model on a device: pixels in batches go through the session and become predictions."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from . import image
from .decision import decided
from .errors import DeviceError, ModelError, PhotoError
from .session.model_file import read_spec
from .session.opening import BUNDLED_MODEL as BUNDLED_MODEL
from .session.opening import SessionFuture, open_in_background, session_key
from .spec import ORIENTATIONS, Spec

if TYPE_CHECKING:
    from concurrent.futures import Future

    import onnxruntime
    from numpy.typing import NDArray

    from .image import Photo

DECODES = ("exact", "fast")
BATCH = 8  # photos of a stream that go through the network together


@dataclass(frozen=True)
class Prediction:
    """The network's answer for one photo."""

    label: str | None
    """The most probable of ``labels``; None if there are none."""
    probability: float
    """The most probable class's, 0 to 1, whether it is a label of the photo or not."""
    probabilities: dict[str, float]
    """Every class with its probability, the most probable first."""
    labels: tuple[str, ...]
    """The photo's labels, the most probable first: one, or of a file with a ``threshold`` all that are over it, even none."""
    orientation: str
    """``upright`` or ``stored``: whether the photo was turned as its EXIF entry asks."""
    note: str | None = None
    """What to know about the photo: that 16-bit grey was clipped to 8 bits, as in fastai. None for nearly all photos."""


class Classifier:
    """A model file, loaded on a device.

    Args:
        model: path of a model file that ``python -m export`` wrote; None means the bundled one (cat or dog).
        device: a key of `petinfer.session.devices.DEVICES`, or ``auto`` for the first of its ``AUTO`` that works.
        threads: number of threads to compute with; None means one per core that this process may use.
        orientation: ``upright`` turns photos as their EXIF entry asks, ``stored`` does not, as fastai does not; None
            means what the model file says.
        decode: ``exact`` gives fastai's pixels; ``fast`` decodes large JPEGs at 1/2, 1/4 or 1/8 of their size.
        max_bytes: a photo file larger than this is a `PhotoError`, before it is read.
        max_pixels: a photo with more pixels than this is a `PhotoError`, before it is decoded. Pillow has a limit of its
            own, 179 megapixels, until the program sets ``PIL.Image.MAX_IMAGE_PIXELS``.
        wait: False returns while the session still opens; `pixels` works at once, and the first prediction waits and
            raises what opening raised.

    Attributes:
        path: the model file.
        spec: its description: labels, resize, precision and where it comes from.
        device: the device as requested, so it may be ``auto``; `provider` says what computes.
        threads: the number of threads that compute.
        orientation: ``upright`` or ``stored``.
        decode: ``exact`` or ``fast``.
        min_decode_size: px that fast decoding keeps for each side at least; None if decoding is exact.
        max_bytes: the largest photo file that is read.
        max_pixels: the most pixels that a photo may have.

    Raises:
        ModelError: the file is missing, damaged, or has no description for petinfer.
        DeviceError: the device or the number of threads is not available. It never falls back to another silently.
        ValueError: an argument is not one of its values.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        device: str = "auto",
        threads: int | None = None,
        orientation: Literal["upright", "stored"] | None = None,
        decode: Literal["exact", "fast"] = "exact",
        *,
        max_bytes: int = image.MAX_BYTES,
        max_pixels: int = image.MAX_PIXELS,
        wait: bool = True,
    ) -> None:
        _require_one_of("decode", decode, DECODES)
        _require_one_of("orientation", orientation, (None, *ORIENTATIONS))
        self._arguments = (model, device, threads, orientation, decode, max_bytes, max_pixels)
        key = session_key(model, device, threads)
        self.path, self.device, self.threads, self.decode = key.path, key.device, key.threads, decode
        self.spec = read_spec(self.path)
        self.orientation = orientation or self.spec.orientation
        # fast decoding may stop at twice the size of the network's input
        largest = max(self.spec.resize.width, self.spec.resize.height)
        self.min_decode_size = 2 * largest if decode == "fast" else None
        self.max_bytes, self.max_pixels = max_bytes, max_pixels
        self._future = open_in_background(key)
        self._session: onnxruntime.InferenceSession | None = None
        if wait:
            _ = self.session

    def __reduce__(self) -> Any:
        """Pickling and copying keep the path and the settings; the copy opens a session of its own."""
        return _from_arguments, self._arguments

    def __repr__(self) -> str:
        return (
            f"Classifier({str(self.path)!r}, device={self.device!r}, threads={self.threads}, "
            f"orientation={self.orientation!r}, decode={self.decode!r})"
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the model's outputs."""
        return self.spec.labels

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The onnxruntime session. Raises `ModelError` or `DeviceError` if it cannot be opened."""
        if self._future.pid != os.getpid():  # a fork copies none of the session's threads
            self._session, self._future = None, SessionFuture(self._future.key)
        if self._session is None:
            session = self._future.result()
            _require_spec(session, self.spec, self.path)
            self._session = session
        return self._session

    @property
    def provider(self) -> str:
        """onnxruntime's name for what computes, such as ``CPUExecutionProvider``."""
        return str(self.session.get_providers()[0])

    def pixels(self, photo: Photo) -> NDArray[np.uint8]:
        """The network's input for a photo: uint8 [height, width, 3], RGB; of a grey model, [height, width, 1].

        Args:
            photo: a path, the bytes of a file, an open binary file, a Pillow image, or RGB pixels (uint8
                [height, width, 3]).

        Raises:
            PhotoError: the photo cannot be read.
        """
        return self._input(photo).pixels

    def _input(self, photo: Photo) -> _Input:
        name, limits = image.name_of(photo), (self.min_decode_size, self.max_bytes, self.max_pixels)
        decoded = image.decode(photo, *limits)
        converted = image.convert(decoded, self.orientation, self.spec.mode, name)
        return _Input(image.fit(converted, self.spec.resize, name), image.note_on(decoded))

    def run(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The model's outputs, probabilities and logits, each float32 [batch, classes].

        Args:
            batch: uint8 [batch, height, width, channels], each photo's as `pixels` gives it.

        Raises:
            ValueError: ``batch`` is of another type or shape.
            DeviceError: the device failed.
            ModelError: the graph's answers are of another shape than it declares.
        """
        shape = self.spec.pixels_shape
        if batch.dtype != np.uint8 or batch.shape[1:] != shape:
            expected = f"uint8 {['photos', *shape]}".replace("'", "")
            raise ValueError(f"batch: {batch.dtype} {list(batch.shape)} is not {expected}, which `pixels` gives")
        try:
            probabilities, logits = self.session.run(["probabilities", "logits"], {"image": batch})
        except (ModelError, DeviceError):
            raise
        except Exception as error:  # onnxruntime's own classes share no base but this
            problem = f"failed on a batch of {len(batch)}: {' '.join(str(error).split())[:200]}"
            raise DeviceError(f'{self.provider}: {problem} (use device="cpu")') from error
        if not probabilities.shape == logits.shape == (len(batch), len(self.labels)):
            found = f"{list(probabilities.shape)} for {len(batch)} photos and {len(self.labels)} labels"
            raise ModelError(f"{self.path}: its answers have the shape {found} (export it again)")
        return probabilities, logits

    def predict_pixels(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """Classify pixels, uint8 [batch, height, width, channels], each photo's as `pixels` gives it.

        Raises:
            ValueError: ``batch`` is of another type or shape.
            DeviceError: the device failed, or returned NaN or infinite probabilities.
        """
        probabilities, _ = self.run(batch)
        if not np.isfinite(probabilities).all():
            raise DeviceError(f"{self.provider}: returned NaN or infinite probabilities (run petinfer verify)")
        return [self._prediction(row) for row in probabilities]

    def predict(self, photo: Photo) -> Prediction:
        """Classify one photo, of any type that `pixels` accepts. Raises `PhotoError` if it cannot be read."""
        pixels, note = self._input(photo)
        return replace(self.predict_pixels(pixels[np.newaxis])[0], note=note)

    def predict_batch(self, photos: Iterable[Photo]) -> list[Prediction]:
        """Classify photos and return their predictions in the same order.

        Raises:
            PhotoError: a photo cannot be read. `predict_stream` yields the error and goes on.
        """
        predictions = []
        for prediction in self.predict_stream(photos):
            if isinstance(prediction, PhotoError):
                raise prediction
            predictions.append(prediction)
        return predictions

    def predict_stream(self, photos: Iterable[Photo]) -> Iterator[Prediction | PhotoError]:
        """Classify photos and yield their predictions in the same order; a photo that cannot be read yields its error.

        Threads decode up to 16 files ahead while the network computes batches of 8, so memory does not grow with the
        number of photos. Paths and bytes are read by these threads; every other photo is read when it is taken from
        ``photos``, so a buffer can be used again for the next one. For photos that arrive one at a time, use `predict`.

        Raises:
            TypeError: ``photos`` is one photo.
        """
        if image.is_photo(photos):
            raise TypeError("photos: one photo, expected an iterable of photos (use predict)")
        return self._stream(iter(photos))

    def _stream(self, photos: Iterator[Photo]) -> Iterator[Prediction | PhotoError]:
        first = list(islice(photos, 1))
        for photo in first:  # a single photo is the commonest case, and importing the pool takes longer
            decoded = self._input_or_error(photo)
            second = list(islice(photos, 1))
            if not second or self.threads == 1:
                yield from self._predictions([decoded])
                for each in chain(second, photos):
                    yield from self._predictions([self._input_or_error(each)])
            else:
                yield from self._stream_in_batches(decoded, chain(second, photos))

    def _stream_in_batches(
        self, first: _Input | PhotoError, photos: Iterator[Photo]
    ) -> Iterator[Prediction | PhotoError]:
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(self.threads - 1)
        waiting: deque[Future[_Input | PhotoError]] = deque([_done(first)])
        try:
            for photo in photos:
                deferred = isinstance(photo, str | bytes | os.PathLike)
                waiting.append(
                    pool.submit(self._input_or_error, photo) if deferred else _done(self._input_or_error(photo))
                )
                if len(waiting) == 2 * BATCH:
                    yield from self._predictions([waiting.popleft().result() for _ in range(BATCH)])
            while waiting:
                yield from self._predictions([waiting.popleft().result() for _ in range(min(BATCH, len(waiting)))])
        finally:  # also where the caller leaves early
            pool.shutdown(wait=False, cancel_futures=True)

    def _input_or_error(self, photo: Photo) -> _Input | PhotoError:
        """The error without its traceback, which would keep the photo's bytes and pixels as long as the error lives."""
        try:
            return self._input(photo)
        except PhotoError as error:
            error.__cause__ = error.__context__ = None
            return error.with_traceback(None)

    def _predictions(self, decoded: list[_Input | PhotoError]) -> Iterator[Prediction | PhotoError]:
        batch = [each.pixels for each in decoded if isinstance(each, _Input)]
        predictions = iter(self.predict_pixels(np.stack(batch)) if batch else ())
        for each in decoded:
            yield each if isinstance(each, PhotoError) else replace(next(predictions), note=each.note)

    def _prediction(self, row: NDArray[np.float32]) -> Prediction:
        order = np.argsort(-row, kind="stable")
        ranked = {self.spec.labels[i]: float(row[i]) for i in order}
        chosen = decided(row, self.spec.threshold)
        labels = tuple(self.spec.labels[i] for i in order if chosen[i])
        return Prediction(labels[0] if labels else None, float(row[order[0]]), ranked, labels, self.orientation)


class _Input(NamedTuple):
    """What the network sees of a photo: uint8 [height, width, channels], and the note of its `Prediction`."""

    pixels: NDArray[np.uint8]
    note: str | None


def _from_arguments(*arguments: Any) -> Classifier:
    *positional, max_bytes, max_pixels = arguments
    return Classifier(*positional, max_bytes=max_bytes, max_pixels=max_pixels)


def _done(result: _Input | PhotoError) -> Future[_Input | PhotoError]:
    from concurrent.futures import Future

    future: Future[_Input | PhotoError] = Future()
    future.set_result(result)
    return future


def _require_one_of(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(each for each in allowed if each)}")


def _require_spec(session: onnxruntime.InferenceSession, spec: Spec, path: Path) -> None:
    """Refuse a graph whose inputs and outputs are not those of the description."""
    expected = [("image", "tensor(uint8)", list(spec.pixels_shape))]
    inputs = [(entry.name, entry.type, entry.shape[1:]) for entry in session.get_inputs()]
    if inputs != expected:
        raise ModelError(f"{path}: its inputs are {inputs}, but its metadata says {expected} (export it again)")
    outputs = {entry.name: entry.shape[1:] for entry in session.get_outputs()}
    if outputs != spec.outputs:
        raise ModelError(f"{path}: its outputs are {outputs}, but its metadata says {spec.outputs} (export it again)")
