"""What the commands are given: options that choose a model, and arguments that name photos."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .. import PetinferError

if TYPE_CHECKING:
    from ..image import Photo

_Command = TypeVar("_Command", bound=Callable[..., Any])


def model_options(command: _Command) -> _Command:
    """Add the options that choose the model, the device and the threads."""
    for option in (
        click.option(
            "--model", type=click.Path(path_type=Path), help="Model file.  [default: the bundled one, cat or dog]"
        ),
        click.option(
            "--device", default="auto", show_default=True, help="auto, cpu, or a name that `petinfer devices` lists."
        ),
        click.option("--threads", type=int, help="Threads to compute with.  [default: one per available core]"),
    ):
        command = option(command)
    return command


def expand(arguments: tuple[str, ...], skipped: Counter[str]) -> list[str]:
    """The photos that the arguments name: a folder stands for the photos below it.

    A folder without photos, or that cannot be listed, stands for itself, and becomes a record with an error.

    Args:
        arguments: paths of files and folders, and ``-``.
        skipped: counts, per reason, the image files that are skipped.

    Raises:
        PetinferError: there are only folders without photos.
    """
    paths = [path for argument in arguments for path in _expand_one(argument, skipped)]
    if all(os.path.isdir(path) for path in paths):
        from ..image import name_of

        raise PetinferError(f"{name_of(paths[0])}: no photos in this folder (give photos or a folder of photos)")
    return paths


def _expand_one(argument: str, skipped: Counter[str]) -> list[str]:
    if not os.path.isdir(argument):
        return [argument]
    from ..folder import find_photos

    found = find_photos(argument)
    skipped.update(found.skipped)
    return [*found.photos, *found.unreadable] or [argument]


def sources(paths: list[str]) -> Iterator[Photo]:
    """What `Classifier.predict_stream` reads: each path, or standard input for ``-``."""
    for path in paths:
        if path != "-":
            yield path
        else:
            yield b"" if sys.stdin is None else sys.stdin.buffer


def in_options(message: str) -> str:
    """A message of the library, with its arguments written as this command's options."""
    message = re.sub(r"^(threads|device): ", r"--\1: ", message)
    message = re.sub(r'\b(device)="(\w+)"', r"--\1 \2", message)
    return re.sub(r"\(raise max_(bytes|pixels)\)", r"(raise --max-\1)", message)
