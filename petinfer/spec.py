"""A model file's description: the JSON in its metadata entry ``petinfer``, written by export, read by the runtime.

- ``schema``: 1, or 2 where an entry of schema 2 is present.
- ``labels``: the words for the classes, in the order of the model's outputs.
- ``resize``: ``method`` (crop, squish or pad), ``size`` ([height, width], px), ``padding`` (zeros, border or
  reflection), ``resample`` (Pillow's name for the filter).
- ``orientation``: ``stored`` (pixels as the file stores them, as fastai does) or ``upright`` (turned as EXIF asks).
- ``precision``: fp32, fp16 or int8.
- ``mode``: RGB, or L for a grey photo of one channel: Pillow's names. Schema 2; RGB where it is absent.
- ``threshold``: a photo has every label whose probability is over it, and each probability is a sigmoid of its own (fastai's
  ``MultiCategoryBlock``). Schema 2; absent where a photo has one label and the probabilities sum to 1.
- ``features``: how many numbers the output ``features`` has for a photo. Schema 2; absent, there is no such output.
- ``heat``: [rows, columns] of the output ``heat``. Schema 2; absent, there is no such output.
- ``familiarity``: what is known of the output ``familiarity``; see `Familiarity`. Schema 2; absent, there is no such output.
- ``golden``: for each photo in ``petinfer/golden``, the Learner's pixels and answers; see `Golden`.
- ``sha256``: the file's digest, which is its sha256 with 64 zeros in this place.
- ``origin``, ``score``, ``parity``: where the model comes from, how it scored, how far it was from the Learner. Any JSON
  objects, for people.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from .errors import ModelError

SCHEMA = 2
# entries of schema 2, with what their absence means
OPTIONAL: dict[str, Any] = {"mode": "RGB", "threshold": None, "features": None, "heat": None, "familiarity": None}
METADATA_KEY = "petinfer"
METHODS = ("crop", "squish", "pad")
PADDINGS = ("zeros", "border", "reflection")
RESAMPLES = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
ORIENTATIONS = ("stored", "upright")
PRECISIONS = ("fp32", "fp16", "int8")
CHANNELS = {"RGB": 3, "L": 1}


@dataclass(frozen=True)
class Resize:
    """How a photo becomes the network's input: fastai's ``Resize`` at validation. Sizes in px."""

    height: int
    width: int
    method: str = "crop"
    padding: str = "reflection"
    resample: str = "bilinear"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("method", self.method, METHODS),
            ("padding", self.padding, PADDINGS),
            ("resample", self.resample, RESAMPLES),
        ):
            _check_one_of(f"resize.{name}", value, allowed)
        for side in (self.height, self.width):
            if not _is_count(side):
                raise ModelError(f"model: resize.size holds {side!r}, not a number of pixels (export it again)")


@dataclass(frozen=True)
class Golden:
    """One golden photo where the model was exported: fastai's pixels, and the answers of the Learner and of the file."""

    size: tuple[int, int]
    """Width and height of the decoded photo, px."""
    decoded: str
    """sha256 of the decoded pixels, in the model's mode."""
    pixels: str
    """sha256 of the network's input."""
    learner: tuple[float, ...]
    """The Learner's probabilities, in the order of the labels."""
    file: tuple[float, ...]
    """The model file's probabilities, on the CPU."""
    familiarity: float | None = None
    """The model file's, where it has this output. Schema 2."""


@dataclass(frozen=True)
class Familiarity:
    """How the output ``familiarity`` was fitted, and what it says of photos that were not used for that."""

    photos: int
    """It was fitted on the features of so many training photos."""
    held_back: int
    """It was scaled on so many other photos of the classes, of which 1 % have a familiarity below 0."""
    coverage: tuple[tuple[float, float], ...]
    """Pairs of a share, 0 to 1, and the familiarity that at least this share of such photos reaches."""
    table: tuple[dict[str, Any], ...] = ()
    """What is answered and what is wrong at some limits; JSON objects, for people."""
    others: int = 0
    """It was fitted on so many photos of none of the classes, too."""

    def __post_init__(self) -> None:
        counts = all(_is_count(number, 2**31) for number in (self.photos, self.held_back, self.others + 1))
        pairs = isinstance(self.coverage, tuple) and all(
            isinstance(pair, tuple) and len(pair) == 2 and all(map(_is_number, pair)) for pair in self.coverage
        )
        if not counts or not pairs or not all(isinstance(row, dict) for row in self.table):
            raise ModelError("model: its familiarity is not described as it should be (export it again)")

    def least(self, coverage: float) -> float:
        """The largest recorded familiarity that at least a share ``coverage`` (0 to 1) of new photos of the classes reaches.

        Raises:
            ValueError: no share so large is recorded, since too few photos were held back.
        """
        reached = [limit for share, limit in self.coverage if share >= coverage]
        if not reached:
            most = max((share for share, _ in self.coverage), default=0.0)
            raise ValueError(f"min_coverage: {coverage}, over {most}, the most that the model file knows")
        return max(reached)


@dataclass(frozen=True)
class Spec:
    """The description of one model file. The module's docstring explains the entries."""

    labels: tuple[str, ...]
    resize: Resize
    orientation: str = "stored"
    precision: str = "fp32"
    origin: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    golden: dict[str, Golden] = field(default_factory=dict)
    sha256: str = "0" * 64
    mode: str = "RGB"
    threshold: float | None = None
    features: int | None = None
    heat: tuple[int, int] | None = None
    familiarity: Familiarity | None = None

    def __post_init__(self) -> None:
        self._check_outputs()
        _check_one_of("orientation", self.orientation, ORIENTATIONS)
        _check_one_of("precision", self.precision, PRECISIONS)
        _check_one_of("mode", self.mode, tuple(CHANNELS))
        least = 2 if self.threshold is None else 1
        if len(self.labels) < least or not all(isinstance(label, str) for label in self.labels):
            problem = f"labels are {list(self.labels)!r}, not {('one', 'two')[least - 1]} or more texts"
            raise ModelError(f"model: {problem} (export it again)")
        if controlled := [label for label in self.labels if re.search(r"[\0-\x1f\x7f-\x9f]", label)]:
            raise ModelError(f"model: label {controlled[0]!r} contains control characters (rename it, export it again)")
        if not re.fullmatch(r"[0-9a-f]{64}", str(self.sha256)):
            raise ModelError(f"model: sha256 is {self.sha256!r}, not 64 hex digits (export it again)")
        if len(set(self.labels)) < len(self.labels):
            raise ModelError(f"model: labels {list(self.labels)!r} contain a class twice (export it again)")

    def _check_outputs(self) -> None:
        if self.threshold is not None and not (_is_number(self.threshold) and 0 <= self.threshold <= 1):
            raise ModelError(f"model: threshold is {self.threshold!r}, not 0 to 1 (export it again)")
        if self.features is not None and not _is_count(self.features, 2**20):
            raise ModelError(f"model: features is {self.features!r}, not a number of features (export it again)")
        if self.heat is not None and not (len(self.heat) == 2 and all(map(_is_count, self.heat))):
            raise ModelError(f"model: heat is {list(self.heat)!r}, not [rows, columns] (export it again)")

    @property
    def outputs(self) -> dict[str, list[int]]:
        """The graph's outputs, each float32 [batch, *shape], with their shapes."""
        classes = [len(self.labels)]
        shapes: dict[str, list[int] | None] = {
            "probabilities": classes,
            "logits": classes,
            "familiarity": None if self.familiarity is None else [],
            "features": None if self.features is None else [self.features],
            "heat": None if self.heat is None else list(self.heat),
        }
        return {name: shape for name, shape in shapes.items() if shape is not None}

    @property
    def pixels_shape(self) -> tuple[int, int, int]:
        """Of one photo's pixels: height, width, channels."""
        return self.resize.height, self.resize.width, CHANNELS[self.mode]

    def to_json(self) -> str:
        """The metadata entry, in the lowest schema that has its entries."""
        resize = {**asdict(self.resize), "size": [self.resize.height, self.resize.width]}
        del resize["height"], resize["width"]
        content = {**asdict(self), "resize": resize}
        for entry in content["golden"].values():
            if entry["familiarity"] is None:
                del entry["familiarity"]
        if self.familiarity is not None and not self.familiarity.others:
            del content["familiarity"]["others"]
        absent = {name for name, default in OPTIONAL.items() if content[name] == default}
        content = {name: value for name, value in content.items() if name not in absent}
        return json.dumps({"schema": SCHEMA if absent != set(OPTIONAL) else 1, **content}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Read the metadata entry.

        Raises:
            ModelError: it is not a JSON object, has another schema, or an entry is missing, unknown or out of range.
        """
        content = _object("metadata", _parse(text))
        schema = content.pop("schema", None)
        if not _is_number(schema) or schema not in range(1, SCHEMA + 1):
            raise ModelError(f"model: its schema is not 1 to {SCHEMA} (export it again, or upgrade petinfer)")
        expected = set(cls.__dataclass_fields__)
        _check_entries("metadata", content, expected - set(OPTIONAL), expected if schema == SCHEMA else None)
        resize = _object("resize", content.pop("resize"))
        _check_entries("resize", resize, {"method", "size", "padding", "resample"})
        size, labels = resize.pop("size"), content.pop("labels")
        if not isinstance(size, list) or len(size) != 2:
            raise ModelError(f"model: resize.size is {size!r}, not [height, width] (export it again)")
        if not isinstance(labels, list):
            raise ModelError(f"model: labels are {labels!r}, not a list (export it again)")
        for name in ("origin", "score", "parity"):
            _object(name, content[name])
        golden = {
            name: _golden(name, entry, len(labels)) for name, entry in _object("golden", content.pop("golden")).items()
        }
        if "familiarity" in content:
            content["familiarity"] = _familiarity(content["familiarity"])
        if "heat" in content:
            content["heat"] = tuple(_list("heat", content["heat"]))
        return cls(labels=tuple(labels), resize=Resize(size[0], size[1], **resize), golden=golden, **content)


def _familiarity(entry: Any) -> Familiarity:
    entry = _object("familiarity", entry)
    every = set(Familiarity.__dataclass_fields__)
    _check_entries("familiarity", entry, every - {"others"}, every)
    pairs = [tuple(_list("familiarity.coverage", pair)) for pair in _list("familiarity.coverage", entry["coverage"])]
    table = tuple(_list("familiarity.table", entry["table"]))
    return Familiarity(entry["photos"], entry["held_back"], tuple(pairs), table, entry.get("others", 0))


def _golden(name: str, entry: Any, classes: int) -> Golden:
    entry = _object(f"golden.{name}", entry)
    required = set(Golden.__dataclass_fields__) - {"familiarity"}
    _check_entries(f"golden.{name}", entry, required, {*required, "familiarity"})
    answers = [entry["learner"], entry["file"]]
    sound = (
        re.fullmatch(r"[\w-]+\.\w+", name)
        and all(re.fullmatch(r"[0-9a-f]{64}", str(entry[key])) for key in ("decoded", "pixels"))
        and all(isinstance(row, list) and len(row) == classes and all(_is_number(p) for p in row) for row in answers)
        and isinstance(entry["size"], list)
        and len(entry["size"]) == 2
        and all(isinstance(side, int) for side in entry["size"])
        and (entry.get("familiarity") is None or _is_number(entry["familiarity"]))
    )
    if not sound:
        raise ModelError(f"model: golden.{_escaped(name)} is not a golden answer (export it again)")
    return Golden(
        tuple(entry["size"]),
        entry["decoded"],
        entry["pixels"],
        tuple(entry["learner"]),
        tuple(entry["file"]),
        entry.get("familiarity"),
    )


def _escaped(name: str) -> str:
    return name.encode("unicode_escape").decode()[:60]


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"model: its metadata is not JSON: {error} (export it again)") from error


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ModelError(f"model: {name} is {value!r}, not a JSON object (export it again)")
    return value


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ModelError(f"model: {name} is {value!r}, not a list (export it again)")
    return value


def _check_entries(name: str, content: dict[str, Any], required: set[str], allowed: set[str] | None = None) -> None:
    for problem, entries in (
        ("lacks", required - set(content)),
        ("holds an unknown", set(content) - (allowed or required)),
    ):
        if entries:
            raise ModelError(f"model: its {name} {problem} {min(entries)!r} (export it again)")


def _check_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ModelError(f"model: {name} is {value!r}, not one of {', '.join(allowed)} (export it again)")


def _is_count(value: Any, limit: int = 65536) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < limit
