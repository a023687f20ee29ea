"""The proof on this device: golden photos go through the model again, beside what the Learner saw and answered.

Pixels must be equal to the bit. Answers may differ from those that the file gave where it was exported by what
processors add up in another order, and by no more; no decision may differ from the Learner's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .classifier import Classifier
from .errors import ModelError
from .image import read, resize
from .spec import Golden

GOLDEN_PHOTOS = Path(__file__).parent / "golden"

# How far a probability may be from the one that the same file gave elsewhere, on a CPU by onnxruntime's own kernels.
TOLERANCES = {"fp32": 1e-5, "fp16": 5e-3, "int8": 5e-3}
# Other providers round int8 in other places: where they leave a sum in float, say, that the file would round.
INT8_ELSEWHERE = 2e-2


@dataclass(frozen=True)
class Check:
    """One golden photo, here and where the model was exported."""

    photo: str
    size_equal: bool
    decoded_equal: bool
    pixels_equal: bool
    moved: float
    """Largest |Δ probability| to the file's own answer."""
    from_learner: float
    """Largest |Δ probability| to the Learner's answer."""
    flipped: bool
    """Whether another class is the most probable than the Learner said."""


@dataclass(frozen=True)
class Verdict:
    """All that `verify` found."""

    checks: tuple[Check, ...]
    failures: tuple[str, ...]
    notes: tuple[str, ...]


def verify(classifier: Classifier) -> Verdict:
    """Check a loaded model on this device; ``failures`` is empty when all is as it must be.

    Raises:
        ModelError: the model brings no golden answers.
    """
    golden = classifier.spec.golden
    if not golden:
        raise ModelError(
            f"{classifier.path}: brings no golden answers to verify (export it with this version of petinfer)"
        )
    checks = tuple(_check(classifier, name, expected) for name, expected in golden.items())
    return Verdict(checks, tuple(_failures(classifier, checks)), tuple(_notes(checks)))


def _check(classifier: Classifier, name: str, golden: Golden) -> Check:
    decoded = read(GOLDEN_PHOTOS / name, "stored")
    pixels = np.asarray(resize(decoded, classifier.spec.resize))
    probabilities = classifier.infer(pixels[np.newaxis])[0][0].astype(np.float64)
    return Check(
        name,
        decoded.size == golden.size,
        _sha256(np.asarray(decoded)) == golden.decoded,
        _sha256(pixels) == golden.pixels,
        float(np.abs(probabilities - golden.file).max()),
        float(np.abs(probabilities - golden.learner).max()),
        int(probabilities.argmax()) != int(np.argmax(golden.learner)),
    )


def _notes(checks: tuple[Check, ...]) -> list[str]:
    """JPEG leaves its decoders some freedom, so that another libjpeg gives other pixels before any resize."""
    other = [check.photo for check in checks if not check.decoded_equal]
    told = "this machine's JPEG decoder gives other pixels than that of the machine where the model was exported"
    return [f"{told}: {', '.join(other)}"] if other else []


def _sha256(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _failures(classifier: Classifier, checks: tuple[Check, ...]) -> list[str]:
    tolerance = TOLERANCES[classifier.spec.precision]
    if classifier.spec.precision == "int8" and classifier.provider != "CPUExecutionProvider":
        tolerance = INT8_ELSEWHERE
    failures = []
    if file_sha256(classifier.path, classifier.spec.sha256) != classifier.spec.sha256:
        failures.append(f"{classifier.path} is not the file that was exported: its sha256 is another (copy it again)")
    for check in checks:
        if not check.size_equal or not (check.decoded_equal or check.photo.endswith(".jpg")):
            failures.append(f"{check.photo}: decoded to another picture (install another version of Pillow)")
        if check.decoded_equal and not check.pixels_equal:
            failures.append(
                f"{check.photo}: decoded alike, resized to other pixels (install another version of Pillow)"
            )
        if check.pixels_equal and not check.moved <= tolerance:
            moved = f"a probability is off by {check.moved:.1e}, more than {tolerance:.0e}"
            failures.append(f"{check.photo}: {moved} on {classifier.provider} (try another --device)")
        if check.flipped:
            failures.append(f"{check.photo}: another class than the Learner's (do not use this file on this device)")
    wheels = onnxruntime_wheels()
    if len(wheels) > 1:
        failures.append(f"{' and '.join(wheels)} overwrite each other (pip uninstall all of them, then install one)")
    return failures


def file_sha256(path: Path, written: str) -> str:
    """The sha256 of a model file, taken with zeros in place of the one that is ``written`` in it."""
    return hashlib.sha256(path.read_bytes().replace(written.encode(), b"0" * 64)).hexdigest()


def onnxruntime_wheels() -> list[str]:
    """The installed distributions that bring the package ``onnxruntime``; two overwrite each other without a word.

    Plug-ins are called ``onnxruntime-…`` too, and bring packages of other names.
    """
    named = [each for each in distributions() if (each.metadata["Name"] or "").lower().startswith("onnxruntime")]
    return sorted(
        {
            each.metadata["Name"].lower().replace("_", "-")
            for each in named
            if any(file.parts[0] == "onnxruntime" for file in each.files or ())
        }
    )
