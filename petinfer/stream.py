"""Answers for many photos, in their order: threads read photos ahead while the network computes batches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from .errors import PhotoError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .image import Photo

BATCH = 8  # photos that go through the network together
Input = TypeVar("Input")
Answer = TypeVar("Answer")


def stream(
    photos: Iterator[Photo],
    read: Callable[[Photo], Input],
    compute: Callable[[list[Input]], Iterable[Answer]],
    threads: int,
) -> Iterator[Answer | PhotoError]:
    """An answer for each photo, or the error of a photo that cannot be read.

    Args:
        photos: paths and bytes are read by threads; every other photo is read when it is taken from here.
        read: a photo's input for the network. Raises `PhotoError`.
        compute: the answers for the inputs of a batch, in their order.
        threads: one computes and reads what the others have not begun; these read ahead. With one, each photo is a batch.
    """
    first = list(islice(photos, 1))
    for photo in first:  # a single photo is the commonest case, and importing the pool takes longer
        found = _read_or_error(read, photo)
        second = list(islice(photos, 1))
        if not second or threads == 1:
            yield from _answers([found], compute)
            for each in chain(second, photos):
                yield from _answers([_read_or_error(read, each)], compute)
        else:
            for batch in _in_batches(found, chain(second, photos), read, threads):
                yield from _answers(batch, compute)


def _in_batches(
    first: Input | PhotoError, photos: Iterator[Photo], read: Callable[[Photo], Input], threads: int
) -> Iterator[list[Input | PhotoError]]:
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads - 1)
    waiting: deque[tuple[Photo, Future[Input | PhotoError]]] = deque([(b"", _done(first))])
    try:
        for photo in photos:
            deferred = isinstance(photo, str | bytes | os.PathLike)
            future = pool.submit(_read_or_error, read, photo) if deferred else _done(_read_or_error(read, photo))
            waiting.append((photo if deferred else b"", future))  # one that is read need not stay in memory
            if len(waiting) == 2 * BATCH:
                yield _read_together([waiting.popleft() for _ in range(BATCH)], read)
        while waiting:
            yield _read_together([waiting.popleft() for _ in range(min(BATCH, len(waiting)))], read)
    finally:  # also where the caller leaves early
        pool.shutdown(wait=False, cancel_futures=True)


def _read_together(
    batch: list[tuple[Photo, Future[Input | PhotoError]]], read: Callable[[Photo], Input]
) -> list[Input | PhotoError]:
    """What was read of a batch. Large photos take the readers longer than the network: this thread then reads too."""
    futures = [_done(_read_or_error(read, photo)) if future.cancel() else future for photo, future in batch]
    return [future.result() for future in futures]


def _read_or_error(read: Callable[[Photo], Input], photo: Photo) -> Input | PhotoError:
    """The error without its traceback, which would keep the photo's bytes and pixels as long as the error lives."""
    try:
        return read(photo)
    except PhotoError as error:
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)


def _answers(
    found: list[Input | PhotoError], compute: Callable[[list[Input]], Iterable[Answer]]
) -> Iterator[Answer | PhotoError]:
    """The answers for inputs, and the errors in their places."""
    inputs = [each for each in found if not isinstance(each, PhotoError)]
    answers = iter(compute(inputs) if inputs else ())
    for each in found:
        yield each if isinstance(each, PhotoError) else next(answers)


def _done(result: Input | PhotoError) -> Future[Input | PhotoError]:
    from concurrent.futures import Future

    future: Future[Input | PhotoError] = Future()
    future.set_result(result)
    return future
