"""A model on a device: pixels in batches go through the session and become predictions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from . import image
from .decision import decided
from .errors import DeviceError, ModelError, PhotoError
from .session.model_file import identity, read_spec
from .session.opening import BUNDLED_MODEL as BUNDLED_MODEL
from .session.opening import SessionFuture, open_in_background, session_key
from .spec import ORIENTATIONS, Spec
from .stream import Answer, stream

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

    from .image import Photo

DECODES = ("exact", "fast")


@dataclass(frozen=True)
class Prediction:
    """The network's answer for one photo."""

    label: str | None
    """The most probable of ``labels``; None if there are none, or if the photo is not ``sure``."""
    probability: float
    """The most probable class's, 0 to 1, whether it is a label of the photo or not."""
    probabilities: dict[str, float]
    """Every class with its probability, the most probable first."""
    labels: tuple[str, ...]
    """The photo's labels, the most probable first: one, or of a file with a ``threshold`` all that are over it, even none.
    Empty if the photo is not ``sure``."""
    orientation: str
    """``upright`` or ``stored``: whether the photo was turned as its EXIF entry asks."""
    note: str | None = None
    """What to know about the photo: that 16-bit grey was clipped to 8 bits, as in fastai. None for nearly all photos."""
    familiarity: float | None = None
    """How much the photo resembles the training photos: 1 % of new photos of the classes are below 0. None if unknown."""
    sure: bool = True
    """Whether the photo reaches the Classifier's limits. Without limits, every photo does."""


class Heat(NamedTuple):
    """A prediction with its heat map."""

    prediction: Prediction
    pixels: NDArray[np.uint8]
    """The network's input, uint8 [height, width, channels]."""
    heat: NDArray[np.float32]
    """float32 [rows, columns], as `Classifier.heat_map` gives it."""


class Classifier:
    """A model file, loaded on a device.

    Args:
        model: path of a model file that ``python -m export`` wrote; None means the bundled one (cat or dog), and ``lite``
            the small bundled one.
        device: a key of `petinfer.session.devices.DEVICES`, or ``auto`` for the first of its ``AUTO`` that works.
        threads: number of threads to compute with; None means one per core that this process may use.
        orientation: ``upright`` turns photos as their EXIF entry asks, ``stored`` does not, as fastai does not; None
            means what the model file says.
        decode: ``exact`` gives fastai's pixels; ``fast`` decodes large JPEGs at 1/2, 1/4 or 1/8 of their size.
        min_probability: a photo whose most probable class is less probable gets the label None.
        min_familiarity: a photo that is less familiar gets the label None, such as one that shows none of the classes;
            0 gives no label to 1 % of photos of the classes.
        min_coverage: in place of min_familiarity, the share of new photos of the classes that should keep their label.
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
        min_probability: the least probability of a label.
        min_familiarity: the least familiarity of a photo with a label; None for no limit.
        max_bytes: the largest photo file that is read.
        max_pixels: the most pixels that a photo may have.

    Raises:
        ModelError: the file is missing, damaged, or has no description for petinfer.
        DeviceError: the device or the number of threads is not available. It never falls back to another silently.
        ValueError: an argument is not one of its values, or the file knows no such coverage.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        device: str = "auto",
        threads: int | None = None,
        orientation: Literal["upright", "stored"] | None = None,
        decode: Literal["exact", "fast"] = "exact",
        *,
        min_probability: float = 0.0,
        min_familiarity: float | None = None,
        min_coverage: float | None = None,
        max_bytes: int = image.MAX_BYTES,
        max_pixels: int = image.MAX_PIXELS,
        wait: bool = True,
    ) -> None:
        _require_one_of("decode", decode, DECODES)
        _require_one_of("orientation", orientation, (None, *ORIENTATIONS))
        limits = {"min_probability": min_probability, "min_familiarity": min_familiarity, "min_coverage": min_coverage}
        sizes = {"max_bytes": max_bytes, "max_pixels": max_pixels}
        self._arguments = (model, device, threads, orientation, decode), limits | sizes
        key = session_key(model, device, threads)
        self.path, self.device, self.threads, self.decode = key.path, key.device, key.threads, decode
        self.spec = read_spec(self.path)
        self.orientation = orientation or self.spec.orientation
        # fast decoding may stop at twice the size of the network's input
        largest = max(self.spec.resize.width, self.spec.resize.height)
        self.min_decode_size = 2 * largest if decode == "fast" else None
        self.min_probability = min_probability
        self.min_familiarity = self._least_familiarity(min_familiarity, min_coverage)
        self.max_bytes, self.max_pixels = max_bytes, max_pixels
        self._file = self.path.absolute()  # heat maps are found there later, from any folder
        self._future = open_in_background(key._replace(heat=self.spec.heat is None))
        self._checked: SessionFuture | None = None
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

    def _least_familiarity(self, familiarity: float | None, coverage: float | None) -> float | None:
        if self.min_probability and self.spec.threshold is not None:
            raise ValueError(f"min_probability: {self.path} has a threshold for each label (leave min_probability out)")
        if familiarity is None and coverage is None:
            return None
        if self.spec.familiarity is None:
            raise ModelError(
                f"{self.path}: has no familiarity (leave the limit out, or export it with training photos)"
            )
        if coverage is None:
            return familiarity
        if familiarity is not None:
            raise ValueError("min_coverage: chooses min_familiarity (give one of the two)")
        return self.spec.familiarity.least(coverage)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the model's outputs."""
        return self.spec.labels

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The onnxruntime session. Raises `ModelError` or `DeviceError` if it cannot be opened."""
        if self._future.pid != os.getpid():  # a fork copies none of the session's threads
            self._future = SessionFuture(self._future.key)
        return self._opened(self._future)

    def _session_with_heat(self) -> onnxruntime.InferenceSession:
        """A session that computes heat maps, from then on the Classifier's only one."""
        session, key = self.session, self._future.key
        if any(output.name == "heat" for output in session.get_outputs()):
            return session
        if identity(self._file) != key.file:
            raise ModelError(f"{self.path}: was replaced since it was loaded, so it gives no heat maps (load it again)")
        future = SessionFuture(key._replace(path=self._file, heat=True))
        session = self._opened(future)
        self._future = future
        return session

    def _opened(self, future: SessionFuture) -> onnxruntime.InferenceSession:
        session = future.result()
        if future is not self._checked:
            _require_spec(session, self.spec, self.path, with_heat=future.key.heat)
            self._checked = future
        return session

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
        return self._input(photo, self.threads).pixels

    def _input(self, photo: Photo, threads: int = 1) -> _Input:
        name, limits = image.name_of(photo), (self.min_decode_size, self.max_bytes, self.max_pixels)
        decoded = image.decode(photo, *limits)
        converted = image.convert(decoded, self.orientation, self.spec.mode, name)
        return _Input(image.fit(converted, self.spec.resize, name, threads), image.note_on(decoded))

    def run(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The model's probabilities and logits, each float32 [batch, classes]: its `outputs` of these names."""
        probabilities, logits = self.outputs(batch, "probabilities", "logits")
        return probabilities, logits

    def outputs(self, batch: NDArray[np.uint8], *names: str) -> list[NDArray[np.float32]]:
        """The model's outputs of these names, which ``spec.outputs`` lists, each float32 [batch, ...].

        The network computes them all, whichever are asked for. On the CPU, ``heat`` is an exception: the first time that it is
        asked for, the file is opened again, and from then on ``heat`` is computed too.

        Args:
            batch: uint8 [batch, height, width, channels], each photo's as `pixels` gives it.
            names: such as ``probabilities``, ``features``.

        Raises:
            ValueError: ``batch`` is of another type or shape.
            DeviceError: the device failed.
            ModelError: the graph's answers are of another shape than it declares, or it has no such output.
        """
        for name in names:
            self._require_output(name)
        shape = self.spec.pixels_shape
        if batch.dtype != np.uint8 or batch.shape[1:] != shape:
            expected = f"uint8 {['photos', *shape]}".replace("'", "")
            raise ValueError(f"batch: {batch.dtype} {list(batch.shape)} is not {expected}, which `pixels` gives")
        try:
            session = self._session_with_heat() if "heat" in names else self.session
            found = session.run(names, {"image": batch})
        except (ModelError, DeviceError):
            raise
        except Exception as error:  # onnxruntime's own classes share no base but this
            problem = f"failed on a batch of {len(batch)}: {' '.join(str(error).split())[:200]}"
            raise DeviceError(f'{self.provider}: {problem} (use device="cpu")') from error
        shapes = self.spec.outputs
        for name, values in zip(names, found, strict=True):
            if list(values.shape) != [len(batch), *shapes[name]]:
                problem = f"{list(values.shape)} for {len(batch)} photos and {len(self.labels)} labels"
                raise ModelError(f"{self.path}: its {name} have the shape {problem} (export it again)")
        return list(found)

    def predict_pixels(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """Classify pixels, uint8 [batch, height, width, channels], each photo's as `pixels` gives it.

        Raises:
            ValueError: ``batch`` is of another type or shape.
            DeviceError: the device failed, or returned NaN or infinite probabilities.
        """
        return self._predict(batch)[0]

    def _predict(self, batch: NDArray[np.uint8], *others: str) -> tuple[list[Prediction], list[NDArray[np.float32]]]:
        """Predictions, and other outputs of the same run."""
        names = ("probabilities",) if self.spec.familiarity is None else ("probabilities", "familiarity")
        found = self.outputs(batch, *names, *others)
        if not np.isfinite(found[0]).all():
            raise DeviceError(f"{self.provider}: returned NaN or infinite probabilities (run petinfer verify)")
        familiarities = found[1].tolist() if "familiarity" in names else [None] * len(batch)
        predictions = [self._prediction(*each) for each in zip(found[0], familiarities, strict=True)]
        return predictions, found[len(names) :]

    def predict(self, photo: Photo) -> Prediction:
        """Classify one photo, of any type that `pixels` accepts. Raises `PhotoError` if it cannot be read."""
        pixels, note = self._input(photo, self.threads)
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
        number of photos. Paths and bytes are read by these threads, and by the caller's while it waits for them; every
        other photo is read when it is taken from ``photos``, so a buffer can be used again for the next one. For photos
        that arrive one at a time, use `predict`.

        Raises:
            TypeError: ``photos`` is one photo.
        """
        return self._stream(photos, self._predict_inputs, "predict")

    def features_stream(self, photos: Iterable[Photo]) -> Iterator[NDArray[np.float32] | PhotoError]:
        """The `features` of photos in the same order, computed as `predict_stream` computes predictions.

        Raises:
            TypeError: ``photos`` is one photo.
            ModelError: the model file has no features.
        """
        self._require_output("features")
        return self._stream(photos, self._features_of_inputs, "features")

    def features(self, photo: Photo) -> NDArray[np.float32]:
        """What the network's last layers see of a photo, float32 [features]: for search, duplicates or a new last layer.

        In fp32 these are fastai's pooled features.

        Raises:
            PhotoError: the photo cannot be read.
            ModelError: the model file has no features.
        """
        return self._output("features", photo)

    def heat_map(self, photo: Photo) -> NDArray[np.float32]:
        """Which places of a photo speak most for the most probable class, float32 [rows, columns], 0 to 1: its Grad-CAM.

        Row 0 is the top of `pixels`. The largest value is 1, or all are 0.

        Raises:
            PhotoError: the photo cannot be read.
            ModelError: the model file has no heat maps.
        """
        return self._output("heat", photo)

    def heat_stream(self, photos: Iterable[Photo]) -> Iterator[Heat | PhotoError]:
        """Predictions with their heat maps, in the order of the photos, computed as by `predict_stream`.

        Each is a named tuple ``Heat``: ``prediction``, ``pixels`` (the network's input, uint8 [height, width, channels]) and
        ``heat``, as `heat_map` gives it.

        Raises:
            TypeError: ``photos`` is one photo.
            ModelError: the model file has no heat maps.
        """
        self._require_output("heat")
        return self._stream(photos, self._heat_of_inputs, "heat_map")

    def _stream(
        self, photos: Iterable[Photo], answer: Callable[[list[_Input]], Iterable[Answer]], single: str
    ) -> Iterator[Answer | PhotoError]:
        if image.is_photo(photos):
            raise TypeError(f"photos: one photo, expected an iterable of photos (use {single})")
        return stream(iter(photos), self._input, answer, self.threads)

    def _heat_of_inputs(self, inputs: list[_Input]) -> Iterator[Heat]:
        predictions, heat = self._predict(_batch(inputs), "heat")
        for prediction, each, one in zip(predictions, inputs, heat[0], strict=True):
            yield Heat(replace(prediction, note=each.note), each.pixels, one)

    def _output(self, name: str, photo: Photo) -> NDArray[np.float32]:
        self._require_output(name)
        found: NDArray[np.float32] = self.outputs(self.pixels(photo)[np.newaxis], name)[0][0]
        return found

    def _require_output(self, name: str) -> None:
        if name not in self.spec.outputs:
            reason = "its network's last layers have another form, or an older petinfer exported it"
            raise ModelError(f"{self.path}: has no output {name}: {reason} (export it again)")

    def _predict_inputs(self, inputs: list[_Input]) -> Iterator[Prediction]:
        for prediction, each in zip(self.predict_pixels(_batch(inputs)), inputs, strict=True):
            yield replace(prediction, note=each.note)

    def _features_of_inputs(self, inputs: list[_Input]) -> Iterable[NDArray[np.float32]]:
        return self.outputs(_batch(inputs), "features")[0]

    def _prediction(self, row: NDArray[np.float32], familiarity: float | None) -> Prediction:
        order = np.argsort(-row, kind="stable")
        ranked = {self.spec.labels[i]: float(row[i]) for i in order}
        probability = float(row[order[0]])
        sure = self._is_sure(probability, familiarity)
        chosen = decided(row, self.spec.threshold)
        labels = tuple(self.spec.labels[i] for i in order if chosen[i] and sure)
        label = labels[0] if labels else None
        return Prediction(label, probability, ranked, labels, self.orientation, familiarity=familiarity, sure=sure)

    def _is_sure(self, probability: float, familiarity: float | None) -> bool:
        if familiarity is not None and self.min_familiarity is not None and not familiarity >= self.min_familiarity:
            return False
        return probability >= self.min_probability


class _Input(NamedTuple):
    """What the network sees of a photo: uint8 [height, width, channels], and the note of its `Prediction`."""

    pixels: NDArray[np.uint8]
    note: str | None


def _from_arguments(positional: tuple[Any, ...], named: dict[str, Any]) -> Classifier:
    return Classifier(*positional, **named)


def _batch(inputs: list[_Input]) -> NDArray[np.uint8]:
    return np.stack([each.pixels for each in inputs])


def _require_one_of(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(each for each in allowed if each)}")


def _require_spec(session: onnxruntime.InferenceSession, spec: Spec, path: Path, with_heat: bool) -> None:
    """Refuse a graph whose inputs and outputs are not those of the description; ``heat`` may be left out of the session."""
    expected = [("image", "tensor(uint8)", list(spec.pixels_shape))]
    inputs = [(entry.name, entry.type, entry.shape[1:]) for entry in session.get_inputs()]
    if inputs != expected:
        raise ModelError(f"{path}: its inputs are {inputs}, but its metadata says {expected} (export it again)")
    outputs = {entry.name: entry.shape[1:] for entry in session.get_outputs()}
    described = {name: shape for name, shape in spec.outputs.items() if name != "heat" or with_heat or name in outputs}
    if outputs != described:
        raise ModelError(f"{path}: its outputs are {outputs}, but its metadata says {described} (export it again)")
