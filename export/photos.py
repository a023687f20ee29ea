"""The photos of an export: those that calibrate int8 and those that are compared, never the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from petinfer.folder import find_photos
from petinfer.image import read

from .errors import ExportError
from .options import Options

MOST_UNFAMILIAR = 2048  # photos of other things to fit familiarity on


@dataclass(frozen=True)
class Photos:
    """The photos of an export, and how their labels are known."""

    calibration: list[Path]
    """Training photos where they are known: int8 is calibrated on them, and familiarity fitted."""
    comparison: list[Path]
    compared_on: str
    truth: str | None
    unfamiliar: list[Path] = field(default_factory=list)
    """Of none of the classes: familiarity is fitted on them, too."""
    others: list[Path] = field(default_factory=list)
    """Of none of the classes: familiarity is measured on them."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Image files that were left out, by reason."""


@dataclass(frozen=True)
class _Run:
    folder: Path
    truth: str
    train: list[str]
    valid: list[str]


def choose_photos(options: Options) -> Photos:
    """The photos that the options name. A run knows its photos; a pickled Learner needs ``--photos``.

    Raises:
        ExportError: the source does not exist, there are too few photos, or some are in two lists.
    """
    run = _read_run(options.source) if options.source.is_dir() else None
    if run is None and not options.source.is_file():
        raise ExportError(f"{options.source}: no such run or Learner (python -m train makes a run)")
    skipped: dict[str, int] = {}
    comparison = _comparison(options, run, skipped)
    calibration = _calibration(options, run, comparison, skipped)
    calibration, comparison = _disjoint(calibration, comparison)
    if "int8" in options.precisions and not (calibration and comparison):
        raise ExportError(
            "photos: one photo cannot both calibrate int8 and be compared (give more, or --precision fp32)"
        )
    unfamiliar = unfamiliar_photos(options.unfamiliar, skipped)
    others = photos_below(options.others, skipped) if options.others else []
    require_disjoint(unfamiliar, others, "--unfamiliar and --others")
    return Photos(
        evenly_spaced(calibration, options.calibration_photos),
        evenly_spaced(comparison, options.limit),
        options.photos.name if options.photos else "validation photos",
        options.truth or (run.truth if run else None),
        unfamiliar,
        others,
        skipped,
    )


def require_readable(photos: Photos) -> None:
    """Raise petinfer's PhotoError now, rather than fastai's after all the work."""
    for photo in (*photos.comparison, *photos.calibration, *photos.unfamiliar, *photos.others):
        read(photo, "stored")


def unfamiliar_photos(folder: Path | None, skipped: dict[str, int]) -> list[Path]:
    """The photos of other things to fit familiarity on, see `photos_below`; none without a folder."""
    return evenly_spaced(photos_below(folder, skipped), MOST_UNFAMILIAR) if folder else []


def require_disjoint(one: Sequence[Path], other: Sequence[Path], names: str) -> None:
    """Refuse photos that are in both lists: a measurement on photos that were fitted on is too good.

    Raises:
        ExportError: there are some. It mentions ``names``, the options that gave the lists.
    """
    if shared := {each.resolve() for each in one} & {each.resolve() for each in other}:
        raise ExportError(f"{names}: {len(shared)} photos are in both (give two folders)")


def evenly_spaced(photos: Sequence[Path], number: int | None) -> list[Path]:
    """At most ``number`` of the photos, evenly over the list; None means all."""
    number = min(number or len(photos), len(photos))
    return [photos[i * len(photos) // number] for i in range(number)]


def _comparison(options: Options, run: _Run | None, skipped: dict[str, int]) -> list[Path]:
    if options.photos:
        return photos_below(options.photos, skipped)
    if run is None:
        raise ExportError("photos: a pickled Learner does not contain its own (give a folder with --photos)")
    return _photos_of(options.data or run.folder, run.valid)


def _calibration(options: Options, run: _Run | None, comparison: list[Path], skipped: dict[str, int]) -> list[Path]:
    if options.calibrate:
        return photos_below(options.calibrate, skipped)
    needed = "int8" in options.precisions
    if run is None:
        return comparison if needed else []
    folder = options.data or run.folder
    return _photos_of(folder, [name for name in run.train if needed or (folder / name).is_file()])


def _disjoint(calibration: list[Path], comparison: list[Path]) -> tuple[list[Path], list[Path]]:
    """Of the photos in both lists, every second one only calibrates, and the others are only compared."""
    compared = {path.resolve() for path in comparison}
    shared = [path.resolve() for path in calibration if path.resolve() in compared]
    calibrating, comparing = set(shared[::2]), set(shared[1::2])
    return (
        [path for path in calibration if path.resolve() not in comparing],
        [path for path in comparison if path.resolve() not in calibrating],
    )


def _read_run(folder: Path) -> _Run:
    try:
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        split = json.loads((folder / "split.json").read_text(encoding="utf-8"))
        photos = Path(recipe["photos"].get("folder", ""))
        return _Run(photos, recipe["settings"]["labels"], split["train"], split["valid"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{folder}: not a finished run: {type(error).__name__} {error} (python -m train --out {folder} --resume)"
        ) from error


def photos_below(folder: Path, skipped: dict[str, int]) -> list[Path]:
    """All photos below a folder, sorted; how many image files were left out is added to ``skipped``, by reason.

    Raises:
        ExportError: there are none.
    """
    found = find_photos(str(folder))
    skipped |= found.skipped
    if not found.photos:
        raise ExportError(f"{folder}: no photos (give another folder)")
    return sorted(Path(photo) for photo in found.photos)


def _photos_of(folder: Path, names: list[str]) -> list[Path]:
    """The photos of a split."""
    photos = [folder / name for name in names]
    missing = next((path for path in photos if not path.is_file()), None)
    if missing:
        raise ExportError(f"{missing}: in the run's split but not there (give the photos' folder with --data)")
    return photos
