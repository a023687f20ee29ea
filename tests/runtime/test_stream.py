"""Who reads the photos of a stream, how many go through the network together, and what an early end leaves unread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from petinfer import PhotoError
from petinfer.stream import stream


def reader_of(photo: Any) -> int:
    """The thread that reads the photo."""
    return threading.get_ident()


def unchanged(inputs: list[Any]) -> list[Any]:
    return inputs


def sized(sizes: list[int]) -> Callable[[list[Any]], list[Any]]:
    """A network that writes down how many photos it gets."""

    def compute(inputs: list[Any]) -> list[Any]:
        sizes.append(len(inputs))
        return inputs

    return compute


@pytest.mark.parametrize("photo", ["cat.jpg", b"cat", Path("cat.jpg")], ids=lambda photo: type(photo).__name__)
def test_all_threads_read_paths_and_bytes(photo: Any) -> None:
    """The first photo is read before anybody knows that there are more."""
    for threads in (2, 3):
        here, helped = threading.get_ident(), threading.Event()
        read_here: list[Any] = []

        def read(photo: Any, here: int = here, read_here: list[Any] = read_here, helped: Any = helped) -> int:
            if threading.get_ident() != here:
                assert helped.wait(timeout=30)  # until the thread that computes reads too
            elif read_here:
                helped.set()
            else:
                read_here.append(photo)
            return threading.get_ident()

        first, *others = stream(iter([photo] * 20), read, unchanged, threads)
        assert first == here and here in others
        assert len(set(others)) == threads


def test_every_other_photo_is_read_where_it_is_taken() -> None:
    here = threading.get_ident()
    assert set(stream(iter([bytearray(b"cat"), object()] * 10), reader_of, unchanged, 2)) == {here}


def test_one_thread_computes_each_photo_alone() -> None:
    sizes: list[int] = []
    here = threading.get_ident()
    assert list(stream(iter(["cat.jpg"] * 3), reader_of, sized(sizes), 1)) == [here] * 3
    assert sizes == [1, 1, 1]


@pytest.mark.parametrize(
    ("photos", "sizes"), [(0, []), (1, [1]), (2, [2]), (8, [8]), (15, [8, 7]), (16, [8, 8]), (17, [8, 8, 1])]
)
def test_batches_are_of_eight_photos_and_keep_their_order(photos: int, sizes: list[int]) -> None:
    found: list[int] = []
    names = [f"{i}.jpg" for i in range(photos)]
    assert list(stream(iter(names), str.upper, sized(found), 2)) == [name.upper() for name in names]
    assert found == sizes


def refused(photo: str) -> str:
    if photo.startswith("bad"):
        raise PhotoError(photo)
    return photo


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_keep_their_places_and_are_not_computed(threads: int) -> None:
    sizes: list[int] = []
    photos = ["bad 1", "a", "bad 2", "b", *[f"bad {i}" for i in range(20)]]
    found = list(stream(iter(photos), refused, sized(sizes), threads))
    assert [str(each) for each in found] == photos
    assert [isinstance(each, PhotoError) for each in found] == [photo.startswith("bad") for photo in photos]
    assert sizes == ([1, 1] if threads == 1 else [2])


def test_other_errors_of_reading_end_the_stream() -> None:
    def read(photo: str) -> str:
        if photo == "c":
            raise MemoryError("no memory for c")
        return photo

    for threads in (1, 2):
        with pytest.raises(MemoryError, match="no memory for c"):
            list(stream(iter("abcd"), read, unchanged, threads))


def test_leaving_early_waits_for_no_photo_and_reads_no_more() -> None:
    go, started = threading.Event(), threading.Event()
    readers: list[threading.Thread] = []
    photos: list[str] = []

    def read(photo: Any) -> Any:
        photos.append(photo)
        if photo == "8":
            readers.append(threading.current_thread())
            started.set()
            go.wait(timeout=30)
        return photo

    answers: Any = stream(map(str, range(100)), read, unchanged, 2)
    next(answers)
    assert started.wait(timeout=30)
    answers.close()
    (reader,) = readers
    assert reader.is_alive()
    go.set()
    reader.join(timeout=30)
    assert not reader.is_alive()
    assert sorted(photos) == [str(i) for i in range(9)]
