"""Finds the photos in a folder: the one rule for `petinfer classify` and for the export stage."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from .image import SUFFIXES

# What photo managers, file systems and desktops add to folders of photos. Names that begin with a dot are skipped too.
SYSTEM_NAMES = frozenset({"@eadir", "#recycle", "$recycle.bin", "system volume information", "__macosx", "lost+found"})
UNREADABLE_SUFFIXES = frozenset(
    [
        ".heic",
        ".heif",
        ".hif",
        ".raw",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".orf",
        ".rw2",
        ".raf",
        ".jp2",
        ".jxl",
        ".ico",
        ".psd",
        ".tga",
        ".svg",
        ".eps",
        ".qoi",
    ]
)


@dataclass
class Found:
    """The photos below a folder, and what was skipped."""

    photos: list[str] = field(default_factory=list)
    """Paths, sorted by folder and name."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Reasons, with the number of image files that each one excluded."""
    unreadable: list[str] = field(default_factory=list)
    """Folders that cannot be listed."""


def find_photos(folder: str, leave_out: Callable[[os.DirEntry[str]], bool] = lambda entry: False) -> Found:
    """The photos below ``folder``: every file with one of `SUFFIXES`, and HEIC where pi-heif is installed.

    Hidden and system files and folders are skipped. Links to folders are followed, each folder once. Pipes and other
    special files are no photos; a broken link is one, and becomes an error when it is read.

    Args:
        folder: where to search.
        leave_out: says of each file and folder below it whether to leave it out, uncounted.
    """
    found, visited = Found(), set[tuple[int, int]]()
    _search(folder, found, visited, _reads_heic(), leave_out)
    return found


def _search(
    folder: str,
    found: Found,
    visited: set[tuple[int, int]],
    heic: bool,
    leave_out: Callable[[os.DirEntry[str]], bool],
) -> None:
    try:
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in visited:
            return
        visited.add((here.st_dev, here.st_ino))
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        entries = [entry for entry in entries if not leave_out(entry)]
    except OSError:
        found.unreadable.append(folder)
        return
    for entry in entries:
        if not entry.is_dir():
            _take(entry, found, heic)
    for entry in entries:
        if entry.is_dir() and not _is_hidden(entry.name):
            _search(entry.path, found, visited, heic, leave_out)


def _take(entry: os.DirEntry[str], found: Found, heic: bool) -> None:
    """Add a file to the photos, or count why not."""
    suffix = os.path.splitext(entry.name)[1].lower()
    known = suffix in SUFFIXES or (heic and suffix in (".heic", ".heif"))
    if not known and suffix not in UNREADABLE_SUFFIXES:
        return
    if _is_hidden(entry.name):
        found.skipped["hidden"] += 1
    elif not known:
        remedy = "HEIC: pip install pi-heif" if suffix in (".heic", ".heif", ".hif") else f"{suffix} is not read"
        found.skipped[remedy] += 1
    elif entry.is_file() or entry.is_symlink():
        found.photos.append(entry.path)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def _reads_heic() -> bool:
    from importlib.util import find_spec

    return find_spec("pi_heif") is not None
