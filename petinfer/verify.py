"""Proves a model on this device: golden photos, compared with the Learner's pixels and answers in the model file.

Pixels must be identical. Probabilities may differ from the file's own, computed where it was exported, only by the
rounding of another processor; no decision may differ from the Learner's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .classifier import Classifier
from .decision import decided
from .errors import ModelError
from .golden_jpegs import COLOURS
from .image import fit, read
from .session.model_file import digest
from .spec import Golden

GOLDEN_PHOTOS = Path(__file__).parent / "golden"

# The largest accepted difference to a probability that the same file gave where it was exported, on onnxruntime's CPU.
TOLERANCES = {"fp32": 1e-5, "fp16": 5e-3, "int8": 5e-3}
# The same for familiarity, whose scale is 1 from the 1 % quantile to the median.
FAMILIARITY_TOLERANCES = {"fp32": 1e-3, "fp16": 5e-2, "int8": 1e-1}
# The same for a JPEG that this machine's decoder decodes to other pixels, and how far its mean colours may be off.
JPEG_TOLERANCE, COLOUR_TOLERANCE = 5e-2, 4.0  # of 1, of 255
# Other providers round int8 in other places: some keep a sum in float that the file rounds.
INT8_ELSEWHERE = 2e-2
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Check:
    """One golden photo, compared with what the model file says of it."""

    photo: str
    size_equal: bool
    decoded_equal: bool
    pixels_equal: bool
    colours_moved: float
    """Largest difference of a mean colour of a part of a JPEG to the one in `golden_jpegs`, of 255."""
    moved: float
    """Largest |Δ probability| to the file's own answer."""
    from_learner: float
    """Largest |Δ probability| to the Learner's answer."""
    flipped: bool
    """Whether the labels are not the Learner's."""
    as_exported: bool
    """Of a file with a threshold, whether it gave these labels where it was exported too, within the tolerance. Each label is a
    decision, so int8 differs from the Learner in some of them: export's limits say in how many."""
    familiarity_moved: float = 0.0
    """|Δ familiarity| to the file's own, where it has one."""


@dataclass(frozen=True)
class Verdict:
    """The result of `verify`."""

    checks: tuple[Check, ...]
    failures: tuple[str, ...]
    notes: tuple[str, ...]


def verify(classifier: Classifier) -> Verdict:
    """Check a loaded model on this device. ``failures`` is empty if it passes.

    Raises:
        ModelError: the model file contains no golden answers.
    """
    golden = classifier.spec.golden
    if not golden:
        raise ModelError(
            f"{classifier.path}: contains no golden answers to verify (export it with this version of petinfer)"
        )
    checks = tuple(_check(classifier, name, expected) for name, expected in golden.items())
    return Verdict(checks, tuple(_failures(classifier, checks)), tuple(_notes(checks)))


def _check(classifier: Classifier, name: str, golden: Golden) -> Check:
    decoded = read(GOLDEN_PHOTOS / name, "stored", mode=classifier.spec.mode)
    pixels = fit(decoded, classifier.spec.resize, name)
    pixels_equal = _sha256(pixels) == golden.pixels
    names = ["probabilities", *([] if golden.familiarity is None else ["familiarity"])]
    answer, *familiarity = (each[0].astype(np.float64) for each in classifier.outputs(pixels[np.newaxis], *names))
    probabilities = np.asarray(answer)
    return Check(
        name,
        decoded.size == golden.size,
        _sha256(np.asarray(decoded)) == golden.decoded,
        pixels_equal,
        _colours_moved(name, np.asarray(decoded)),
        float(np.abs(probabilities - golden.file).max()),
        float(np.abs(probabilities - golden.learner).max()),
        *_flipped(classifier.spec.threshold, golden, probabilities, _tolerance(classifier, pixels_equal)),
        abs(float(familiarity[0]) - golden.familiarity) if golden.familiarity is not None else 0.0,
    )


def _flipped(
    threshold: float | None, golden: Golden, probabilities: NDArray[np.float64], tolerance: float
) -> tuple[bool, bool]:
    """``flipped`` and ``as_exported`` of a `Check`."""
    here, learner, file = (decided(np.array(each), threshold) for each in (probabilities, golden.learner, golden.file))
    flipped = bool((here != learner).any())
    if threshold is None or not flipped:
        return flipped, False
    near = np.abs(np.array(golden.file) - threshold) <= tolerance
    return True, bool((near | (here == file)).all())


def _tolerance(classifier: Classifier, pixels_equal: bool) -> float:
    """The largest accepted difference of a probability to the file's own answer."""
    spec = classifier.spec
    elsewhere = spec.precision == "int8" and classifier.provider != _CPU
    tolerance = INT8_ELSEWHERE if elsewhere else TOLERANCES[spec.precision]
    return tolerance if pixels_equal else max(tolerance, JPEG_TOLERANCE)


def _colours_moved(name: str, pixels: NDArray[np.uint8]) -> float:
    if name not in COLOURS:
        return 0.0
    if min(pixels.shape[:2]) < 4:
        return 255.0
    colours = np.frombuffer(bytes.fromhex(COLOURS[name]), np.uint8).reshape(4, 4, 3)
    expected = colours @ (0.299, 0.587, 0.114) if pixels.ndim == 2 else colours  # Pillow's grey, RGB
    bands = (np.array_split(band, 4, axis=1) for band in np.array_split(pixels, 4))
    found = [[part.mean((0, 1)) for part in band] for band in bands]
    return float(np.abs(np.array(found) - expected).max())


def _notes(checks: tuple[Check, ...]) -> list[str]:
    """JPEG leaves its decoders some freedom: another libjpeg decodes to slightly different pixels."""
    other = [check.photo for check in checks if not check.decoded_equal]
    note = "this machine's JPEG decoder gives other pixels than the one where the model was exported"
    return [f"{note}: {', '.join(other)}"] if other else []


def _sha256(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _failures(classifier: Classifier, checks: tuple[Check, ...]) -> Iterator[str]:
    sha256, provider = classifier.spec.sha256, classifier.provider
    if digest(classifier.path, sha256) != sha256:
        yield f"{classifier.path} is not the exported file: its sha256 differs (copy it again)"
    for check in checks:
        tolerance = _tolerance(classifier, check.pixels_equal)
        yield from (f"{check.photo}: {failure}" for failure in _failures_of(check, tolerance, provider))
        limit = FAMILIARITY_TOLERANCES[classifier.spec.precision]
        if check.pixels_equal and provider == _CPU and not check.familiarity_moved <= limit:
            moved = f"familiarity differs by {check.familiarity_moved:.1e}, more than {limit:.0e}"
            yield f"{check.photo}: {moved} (do not use limits on it on this device)"
    if len(wheels := onnxruntime_wheels()) > 1:
        yield f"{' and '.join(wheels)} overwrite each other (pip uninstall all, then install one)"


def _failures_of(check: Check, tolerance: float, provider: str) -> Iterator[str]:
    if not check.size_equal or not (check.decoded_equal or check.photo.endswith(".jpg")):
        yield "decoded to another image (install another version of Pillow)"
    if check.colours_moved > COLOUR_TOLERANCE and not check.decoded_equal:
        yield f"decoded to other colours, {check.colours_moved:.0f} of 255 off (install another version of Pillow)"
    if check.decoded_equal and not check.pixels_equal:
        yield "decoded equally but resized to other pixels (install another version of Pillow)"
    if (check.pixels_equal or not check.decoded_equal) and not check.moved <= tolerance:
        moved = f"a probability differs by {check.moved:.1e}, more than {tolerance:.0e}"
        yield f'{moved} on {provider} (use device="cpu")'
    if check.flipped and not check.as_exported:
        yield "the decision is not the Learner's (do not use this file on this device)"


def onnxruntime_wheels() -> list[str]:
    """The installed distributions of the package ``onnxruntime``; two of them overwrite each other silently.

    Plug-ins are named ``onnxruntime-…`` too, but contain packages of other names.
    """
    named = [each for each in distributions() if (each.metadata["Name"] or "").lower().startswith("onnxruntime")]
    return sorted(
        {
            each.metadata["Name"].lower().replace("_", "-")
            for each in named
            if any(file.parts[0] == "onnxruntime" for file in each.files or ())
        }
    )
