"""A model on a device: photos in, predictions out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .errors import DeviceError, ModelError, PhotoError
from .image import Photo, pixels
from .spec import METADATA_KEY, ORIENTATIONS, Spec

BUNDLED_MODEL = Path(__file__).parent / "models" / "pets-int8.onnx"

# What `device=` takes, and onnxruntime's provider of it. "auto" tries the first that this onnxruntime was built with.
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
DECODES = ("exact", "fast")


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
        device: a key of `PROVIDERS`, or ``auto`` for the first of them that works here.
        threads: how many threads compute; None takes the cores that this process may use.
        orientation: ``upright`` turns photos as their EXIF entry asks, ``stored`` does as fastai does; None takes what
            the model file says.
        decode: ``exact`` gives the pixels that fastai gives; ``fast`` decodes large JPEGs at a part of their size.

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
    ) -> None:
        if orientation not in (None, *ORIENTATIONS):
            raise ValueError(f"orientation: {orientation!r} is not one of {', '.join(ORIENTATIONS)}")
        if decode not in DECODES:
            raise ValueError(f"decode: {decode!r} is not one of {', '.join(DECODES)}")
        self.decode = decode
        self.threads = _thread_count(threads)
        self.path = Path(BUNDLED_MODEL if model is None else model)
        self.session = _open_session(self.path, device, self.threads)
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
        return pixels(photo, self.spec.resize, self.orientation, self.enough)

    def infer(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities and logits, float32 [batch, classes] each, of pixels, uint8 [batch, height, width, 3]."""
        try:
            probabilities, logits = self.session.run(["probabilities", "logits"], {"image": batch})
        except Exception as error:  # onnxruntime's own classes share no base but this
            problem = f"cannot compute {batch.dtype} {list(batch.shape)}: {' '.join(str(error).split())[:200]}"
            raise DeviceError(f"{self.provider}: {problem} (try --device cpu, or a smaller batch)") from error
        return probabilities, logits

    def predict(self, photo: Photo) -> Prediction:
        """Classify one photo; it is what `pixels` takes. Raises `PhotoError` when it cannot be read."""
        return self.answer(self.pixels(photo)[np.newaxis])[0]

    def answer(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """The predictions for pixels, uint8 [batch, height, width, 3], that `pixels` gave."""
        return [self._prediction(row) for row in self.infer(batch)[0]]

    def predict_batch(self, photos: Sequence[Photo]) -> list[Prediction]:
        """Classify photos, in their order. Raises the first photo's `PhotoError`; `predict_stream` passes over it."""
        answers = []
        for answer in self.predict_stream(photos):
            if isinstance(answer, PhotoError):
                raise answer
            answers.append(answer)
        return answers

    def predict_stream(self, photos: Iterable[Photo]) -> Iterator[Prediction | PhotoError]:
        """Classify photos in their order; a photo that cannot be read gives its `PhotoError`.

        Several are worked on at once, each from its file to its answer by one thread, and no more than a few wait for
        their turn: a million photos take no more memory than ten.
        """
        if self.threads == 1:
            yield from map(self._answer_or_error, photos)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[Prediction | PhotoError]] = deque()
            for photo in photos:
                waiting.append(pool.submit(self._answer_or_error, photo))
                while waiting and (waiting[0].done() or len(waiting) > 2 * self.threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _answer_or_error(self, photo: Photo) -> Prediction | PhotoError:
        try:
            return self.predict(photo)
        except PhotoError as error:
            return error

    def _prediction(self, row: NDArray[np.float32]) -> Prediction:
        order = np.argsort(-row, kind="stable")
        ranked = {self.spec.labels[i]: float(row[i]) for i in order}
        return Prediction(self.spec.labels[order[0]], float(row[order[0]]), ranked, self.orientation)


def available_cores() -> int:
    """The cores that this process may use: its affinity, and the quota of its control group where one is set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2 here, or no limit ("max")
        return cores


def _thread_count(asked: int | None) -> int:
    cores = available_cores()
    if asked is None:
        return cores
    if not 1 <= asked <= cores:
        raise DeviceError(f"threads: {asked} cannot be had, this process may use {cores} (ask for 1 to {cores})")
    return asked


def available_devices() -> list[str]:
    """The devices whose provider this onnxruntime was built with; whether one starts, only a `Classifier` can tell."""
    built_in = onnxruntime.get_available_providers()
    return [device for device, provider in PROVIDERS.items() if provider in built_in]


def _providers(device: str) -> list[str]:
    """The providers to try for a device, each alone: onnxruntime would fall back from one to the next with a warning."""
    built_in = onnxruntime.get_available_providers()
    if device == "auto":
        return [provider for provider in PROVIDERS.values() if provider in built_in]
    provider = PROVIDERS.get(device)
    if provider is None:
        raise DeviceError(f"device {device}: unknown (known are auto, {', '.join(PROVIDERS)})")
    if provider not in built_in:
        raise DeviceError(f"device {device}: this onnxruntime has no {provider} (it has {', '.join(built_in)})")
    return [provider]


def _open_session(path: Path, device: str, threads: int) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise ModelError(f"{path}: no such model file (check the path; python -m export writes one)")
    providers = _providers(device)
    for provider in providers:
        session = _start(path, provider, threads)
        if session.get_providers()[0] == provider:
            return session
    raise DeviceError(
        f"device {device}: {providers[0]} did not start, its driver or library is missing (petinfer runs with --device cpu)"
    )


def _start(path: Path, provider: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised; onnxruntime would print it too
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # a spinning thread takes a core from its host program
    try:
        return onnxruntime.InferenceSession(path, options, providers=[provider])
    except Exception as error:  # onnxruntime's own classes share no base but this
        raise ModelError(
            f"{path}: onnxruntime cannot load it: {' '.join(str(error).split())[:200]} (export it again)"
        ) from error


def _read_spec(session: onnxruntime.InferenceSession, path: Path) -> Spec:
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
