"""Which photos a run uses: found in its folders or named by a split, decodable, divided into training and validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from .data import common_folder, evenly_spaced, fetch_pets, find_broken, find_photos, photo_files, require_two_labels
from .errors import TrainingError
from .labels import LABELLINGS
from .options import Options
from .recipe import Recipe, load_content
from .split import (
    Split,
    content_sha256,
    labels_without_training,
    labels_without_validation,
    leave_out,
    near_duplicates,
    random_split,
    read_names,
    require_photos,
    source_in,
    split_by_source,
    with_every_label,
)
from .unfamiliar import photos_a_batch


@dataclass(frozen=True)
class Photos:
    """The photos of a run."""

    folder: Path
    split: Split
    tests: list[Path]
    facts: dict[str, Any]
    """What ``recipe.json`` says of them."""
    unfamiliar: list[Path] = field(default_factory=list)
    """Of none of the classes."""


def choose_photos(options: Options, recipe: Recipe) -> Photos:
    """Find the photos, leave out those that cannot be decoded, and split the others."""
    tests = decodable(find_photos(options.test, recipe.labels)) if options.test else []
    unfamiliar = _unfamiliar_photos(options.unfamiliar, recipe) if options.unfamiliar else []
    folders = options.data or (fetch_pets(),)
    folder = common_folder(folders)
    if options.resume:
        facts = _previous_facts(options.out)
        if facts.get("unfamiliar") != _content(unfamiliar):
            raise TrainingError(
                "--unfamiliar: not the photos that the run began with (restore them, or start another run)"
            )
        return Photos(folder, _previous_split(folder, options.out), tests, facts, unfamiliar)
    found = _listed_photos(options, recipe, folders, folder)
    photos = decodable(found)
    broken = [photo.relative_to(folder).as_posix() for photo in sorted(set(found) - set(photos))]
    require_two_labels(photos, recipe.labels, folder)
    split = _split(photos, folder, options, recipe)
    _require_disjoint(unfamiliar, [*photos, *tests])
    facts = _facts(folder, split, broken)
    if unfamiliar:
        facts["unfamiliar"] = _content(unfamiliar)
    return Photos(folder, split, tests, facts, unfamiliar)


def _unfamiliar_photos(folder: Path, recipe: Recipe) -> list[Path]:
    if recipe.linear:
        raise TrainingError(
            "--unfamiliar: a linear layer is fitted on photos of the classes alone (leave one of them out)"
        )
    photos, needed = decodable(photo_files(folder)), photos_a_batch(recipe.batch_size)
    if len(photos) < needed:
        raise TrainingError(f"--unfamiliar: {folder} has {len(photos)} photos, each batch takes {needed} (give more)")
    return photos


def _content(photos: list[Path]) -> dict[str, Any] | None:
    sha256 = content_sha256(Path(), map(str, photos))
    return {"photos": len(photos), "content_sha256": sha256} if photos else None


def _require_disjoint(unfamiliar: list[Path], others: list[Path]) -> None:
    if shared := {photo.resolve() for photo in unfamiliar} & {photo.resolve() for photo in others}:
        raise TrainingError(
            f"--unfamiliar: {len(shared)} of its photos are photos of the classes too (give another folder)"
        )


def _listed_photos(options: Options, recipe: Recipe, folders: Sequence[Path], folder: Path) -> list[Path]:
    """The photos that a given split names, or that the folders hold, less those to leave out."""
    if options.split_file:
        split = Split.load(options.split_file)
        require_photos(folder, split)
        found = [folder / name for name in (*split.train, *split.valid)]
    else:
        parents = folders if len(folders) == 1 else [one.resolve() for one in folders]
        found = sorted({photo for parent in parents for photo in find_photos(parent, recipe.labels)})
    if options.without:
        found = leave_out(found, folder, read_names(options.without))
    if options.split_file:
        return found
    if options.per_source:
        found = _some_of_each(found, source_in(options.sources), options.per_source)
    return evenly_spaced(found, options.limit)


def _some_of_each(photos: list[Path], source: Callable[[Path], str], most: int) -> list[Path]:
    """At most so many photos of each source, evenly spaced over its list."""
    by_source: dict[str, list[Path]] = {}
    for photo in photos:
        by_source.setdefault(source(photo), []).append(photo)
    return sorted(photo for group in by_source.values() for photo in evenly_spaced(group, most))


def decodable(photos: list[Path]) -> list[Path]:
    """The photos that can be decoded; the others are listed on standard error."""
    broken = set(find_broken(photos))
    for photo in sorted(broken):
        click.echo(f"left out, cannot be decoded: {photo}", err=True)
    return [photo for photo in photos if photo not in broken]


def _split(photos: list[Path], folder: Path, options: Options, recipe: Recipe) -> Split:
    """The split to use: given, by source, or random."""
    if options.split_file:
        given = Split.load(options.split_file)
        kept = {photo.relative_to(folder).as_posix() for photo in photos}
        split = given.without({*given.train, *given.valid} - kept)
    elif options.hold_out:
        split = split_by_source(photos, folder, source_in(options.sources), options.hold_out)
    else:
        split = _random_split(photos, folder, recipe)
    if not split.train or not split.valid:
        raise TrainingError(f"{folder}: one side of the split has no photo that can be decoded (give another --split)")
    _check_labels(split, recipe.labels)
    return split


def _random_split(photos: list[Path], folder: Path, recipe: Recipe) -> Split:
    """The lesson's split; a label that would occur only in validation keeps one photo in training."""
    split = random_split(photos, folder, recipe)
    rare = labels_without_training(split, recipe.labels)
    if rare:
        click.echo(
            f"moved one photo to training of each label with too few photos: {_words(rare, recipe.labels)}", err=True
        )
    return with_every_label(split, recipe.labels)


def _check_labels(split: Split, labels: str) -> None:
    """Refuse a split with labels that no training photo has; mention those that no validation photo has."""
    if unknown := labels_without_training(split, labels):
        words = _words(unknown, labels)
        raise TrainingError(
            f"labels: no training photo of {words} (add photos of them, or leave theirs out by --without)"
        )
    if unmeasured := labels_without_validation(split, labels):
        click.echo(f"no validation photo, so no error rate, of: {_words(unmeasured, labels)}", err=True)


def _words(found: Sequence[Any] | dict[Any, Any], labels: str) -> str:
    words = sorted(LABELLINGS[labels].word(label) for label in found)
    more = f" and {len(words) - 10} more" * (len(words) > 10)
    return ", ".join(words[:10]) + more


def _facts(folder: Path, split: Split, broken: list[str]) -> dict[str, Any]:
    twins = len({valid for _, valid in near_duplicates(folder, split)})
    click.echo(f"{len(split.train)} photos to train on, {len(split.valid)} to validate", err=True)
    if twins:
        click.echo(
            f"{twins} validation photos are near-duplicates of training photos; the validation error is optimistic",
            err=True,
        )
    return {
        "train": len(split.train),
        "valid": len(split.valid),
        "broken": broken,
        "near_duplicates": twins,
        "split_sha256": split.sha256,
        "content_sha256": content_sha256(folder, (*split.train, *split.valid)),
        "folder": str(folder),
    }


def _previous_split(folder: Path, out: Path) -> Split:
    """The split of the run to resume; its photos must not have changed."""
    split = Split.load(out / "split.json")
    require_photos(folder, split)
    if broken := find_broken([folder / name for name in (*split.train, *split.valid)]):
        raise TrainingError(f"{broken[0]}: can no longer be decoded (restore the file, or start another run)")
    return split


def _previous_facts(out: Path) -> dict[str, Any]:
    facts: dict[str, Any] = load_content(out / "recipe.json")["photos"]
    return facts
