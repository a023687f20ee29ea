"""What the commands are given: options that choose a model, and arguments that name photos."""

from __future__ import annotations

import io
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import click

from .. import PetinferError

if TYPE_CHECKING:
    from ..image import Photo

_Command = TypeVar("_Command", bound=Callable[..., Any])


def model_options(command: _Command) -> _Command:
    """Add the options that choose the model, the device and the threads."""
    options = (
        click.option(
            "--model",
            type=click.Path(),
            help="Model file, or lite for the small bundled one.  [default: the bundled one, cat or dog]",
        ),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            shell_complete=_complete_devices,
            help="auto, cpu, or a name that `petinfer devices` lists.",
        ),
        click.option("--threads", type=int, help="Threads to compute with.  [default: one per available core]"),
    )
    for option in reversed(options):  # as decorators are applied: the last one first
        command = option(command)
    return command


def _complete_devices(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from ..session.devices import DEVICES

    return [name for name in ("auto", *DEVICES) if name.startswith(incomplete)]


class Search(NamedTuple):
    """Which photos a folder stands for."""

    recursive: bool = True
    exclude: tuple[str, ...] = ()
    """Shell patterns; each is compared with a name and with the path below the folder that is searched."""
    destination: Path | None = None
    """A folder that is left out where it is found, as it has copies of what is searched."""

    def leaves_out(self, top: str, entry: os.DirEntry[str]) -> bool:
        """Whether to leave a file or folder out that was found below ``top``."""
        from fnmatch import fnmatch

        if entry.is_dir() and (not self.recursive or self._is_destination(entry)):
            return True
        below = entry.path[len(top) :].lstrip(os.sep)
        return any(fnmatch(name, glob.rstrip("/")) for glob in self.exclude for name in (entry.name, below))

    def _is_destination(self, entry: os.DirEntry[str]) -> bool:
        try:
            return self.destination is not None and self.destination.samefile(entry.path)
        except OSError:  # it is not there yet
            return False


def expand(arguments: Iterable[str], skipped: Counter[str], search: Search) -> list[str]:
    """The photos that the arguments name: a folder stands for the photos below it.

    A folder without photos, or that cannot be listed, stands for itself, and becomes a record with an error.

    Args:
        arguments: paths of files and folders, and ``-``.
        skipped: counts, per reason, the image files that are skipped.
        search: which photos a folder stands for.

    Raises:
        PetinferError: there are only folders without photos.
    """
    paths = [path for argument in arguments for path in _expand_one(argument, skipped, search)]
    if all(os.path.isdir(path) for path in paths):
        from ..image import name_of

        raise PetinferError(f"{name_of(paths[0])}: no photos in this folder (give photos or a folder of photos)")
    return paths


def _expand_one(argument: str, skipped: Counter[str], search: Search) -> list[str]:
    if not os.path.isdir(argument):
        return [argument]
    from ..folder import find_photos

    found = find_photos(argument, lambda entry: search.leaves_out(argument, entry))
    skipped.update(found.skipped)
    return [*found.photos, *found.unreadable] or [argument]


def without_repeats(paths: list[str]) -> list[str]:
    """The paths, each file once, though it may be named in several ways. Each link to a file is a file of its own."""
    once: dict[tuple[str, str], str] = {}
    for path in paths:
        folder, name = os.path.split(path)
        once.setdefault((os.path.realpath(folder), name), path)
    return list(once.values())


def read_list(file: str) -> list[str]:
    """The paths in a list, one per line or, if it contains NULs, between those; ``-`` is standard input.

    Raises:
        PetinferError: it cannot be read, or names nothing.
    """
    try:
        content = _standard_input().read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise PetinferError(f"--files-from: {file}: cannot be read: {error.strerror} (check the path)") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PetinferError(f"--files-from: {file}: UTF-16 (write it as UTF-8)")
    content = content.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
    lines = content.split(b"\0") if b"\0" in content else content.replace(b"\r\n", b"\n").split(b"\n")
    paths = [os.fsdecode(line) for line in lines if line]
    if not paths:
        raise PetinferError(f"--files-from: {file}: names no photos (write a path per line, or separated by NULs)")
    return ["./-" if path == "-" else path for path in paths]


def _standard_input() -> BinaryIO:
    return io.BytesIO() if sys.stdin is None else sys.stdin.buffer


def sources(paths: list[str]) -> Iterator[Photo]:
    """What `Classifier.predict_stream` reads: each path, or standard input for ``-``."""
    for path in paths:
        if path != "-":
            yield path
        else:
            yield _standard_input()


def in_options(message: str) -> str:
    """A message of the library, with its arguments written as this command's options."""
    message = re.sub(r"^(threads|device): ", r"--\1: ", message)
    message = re.sub(r'\b(device)="(\w+)"', r"--\1 \2", message)
    return re.sub(r"\(raise max_(bytes|pixels)\)", r"(raise --max-\1)", message)
