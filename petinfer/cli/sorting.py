"""``petinfer classify --copy-to`` and ``--move-to``: photos into a folder per label. Nothing is overwritten or lost."""

from __future__ import annotations

import errno
import filecmp
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from .. import PetinferError
from .formats import UNSURE, Record

_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # which every other photo would meet too
_SPECIAL = r'^\.|[%/\\:*?"<>|\0-\x1f\x7f\ud800-\udfff]|[. ]$'


class Sorter:
    """Copies or moves photos to ``FOLDER/label/name``, or ``name-2`` where another file has that name.

    A photo that is there already, or of which an equal copy is, stays as it is.

    Args:
        folder: where the folders of the labels are made.
        move: whether photos are moved rather than copied.

    Raises:
        PetinferError: the folder cannot be made.
    """

    def __init__(self, folder: Path, move: bool) -> None:
        self._folder, self._move = folder, move
        self.entry = "moved_to" if move else "copied_to"
        """The record's entry that says where the photo is."""
        self.placed = self.present = self.failed = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(error) from error

    def sort(self, records: Iterator[Record]) -> Iterator[Record]:
        """The records, after their photos were copied or moved; ``error`` says why one could not be.

        A first Ctrl-C ends it between two photos, so that every photo that was moved has its record; a second at once.

        Raises:
            PetinferError: the disk is full or read-only.
        """
        with _interrupts_counted() as interrupts:
            for record in records:
                if interrupts:
                    raise KeyboardInterrupt
                if "label" in record:
                    self._sort_one(record)
                yield record

    def summary(self) -> str:
        """What was done, such as ``12 moved to sorted, 3 already there``."""
        done = "moved" if self._move else "copied"
        parts = [f"{self.placed:,} {done} to {self._folder}"]
        parts += [f"{self.present:,} already there"] if self.present else []
        parts += [f"{self.failed:,} not {done}"] if self.failed else []
        return ", ".join(parts)

    def _sort_one(self, record: Record) -> None:
        from ..image import name_of

        photo = record["path"]
        try:
            folder = self._folder / folder_name(UNSURE if record.get("sure") is False else record["label"])
            folder.mkdir(exist_ok=True)
            record[self.entry] = str(self._place(Path(photo), folder))
        except OSError as error:
            if error.errno in _FATAL:
                raise self._error(error) from error
            self.failed += 1
            done = "moved" if self._move else "copied"
            record["error"] = f"{name_of(photo)}: cannot be {done}: {error.strerror or error} (check both folders)"

    def _place(self, photo: Path, folder: Path) -> Path:
        """Copy or move a photo to the first name that is free; returns its new path."""
        for number in count(1):
            target = folder / (photo.name if number == 1 else f"{photo.stem}-{number}{photo.suffix}")
            if os.path.lexists(target):
                if self._is_at(photo, target):
                    self.present += 1
                    return target
                continue
            with suppress(FileExistsError):  # made in the meantime: on to the next name
                (move if self._move else copy)(photo, target)
                self.placed += 1
                return target
        raise AssertionError("count() does not end")

    def _is_at(self, photo: Path, target: Path) -> bool:
        """Whether ``target`` is the photo itself, or when copying an equal file. A moved photo keeps its equals."""
        with suppress(OSError):  # a broken link, or a file that cannot be read, is another file
            if photo.samefile(target):
                return True
            return not self._move and filecmp.cmp(photo, target, shallow=False)
        return False

    def _error(self, error: OSError) -> PetinferError:
        option = "--move-to" if self._move else "--copy-to"
        return PetinferError(f"{option}: {self._folder}: cannot be written: {error.strerror} (choose another folder)")


def folder_name(label: str) -> str:
    """The folder of a label. What file systems refuse or treat specially is written as ``%`` and the character's code.

    Different labels have different folders, and each is directly below the folder of all.
    """
    name = re.sub(_SPECIAL, lambda found: f"%{ord(found[0]):02X}", label) or "%"
    if re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", name, re.IGNORECASE):  # Windows' names of devices
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return name


def copy(photo: Path, target: Path, durable: bool = False) -> None:
    """Copy a file with its times and permissions; of a link, the file that it leads to.

    Args:
        photo: the file.
        target: its copy, which has this name once it is complete.
        durable: wait until the disk has it.

    Raises:
        FileExistsError: there is such a file.
        OSError: it cannot be copied.
    """
    if not photo.is_file():  # a pipe would be waited for
        raise OSError(errno.EINVAL, "not a regular file")
    descriptor, name = tempfile.mkstemp(prefix=".petinfer-", dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        shutil.copyfile(photo, temporary)
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        with suppress(OSError):  # which not every file system stores
            shutil.copystat(photo, temporary)
        rename(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def move(photo: Path, target: Path) -> None:
    """Move a file, to another file system too. A link stays a link to the same file, with that file's full path.

    Raises:
        FileExistsError: there is such a file.
        OSError: it cannot be moved, and is where it was.
    """
    if photo.is_symlink():
        target.symlink_to(os.path.realpath(photo))
        _remove(photo, target)
        return
    try:
        rename(photo, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy(photo, target, durable=True)
        _remove(photo, target)


def rename(source: Path, target: Path) -> None:
    """Rename a file within a file system, like `os.rename`, which on POSIX would overwrite ``target``.

    Raises:
        FileExistsError: there is such a file.
        OSError: it cannot be renamed, and is where it was.
    """
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system, or not of this user's
        target.touch(exist_ok=False)  # reserves the name
        try:
            source.replace(target)
        except OSError:
            target.unlink()
            raise
    else:
        _remove(source, target)


def _remove(source: Path, target: Path) -> None:
    """Remove a file that has its new name too; if that is not allowed, remove the new name."""
    try:
        source.unlink()
    except OSError:
        target.unlink()
        raise


@contextmanager
def _interrupts_counted() -> Iterator[list[int]]:
    """Gives a list that a first Ctrl-C fills, in place of raising KeyboardInterrupt; a second one raises it."""
    received: list[int] = []

    def receive(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # a background job ignores it
        yield received
        return
    signal.signal(signal.SIGINT, receive)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
