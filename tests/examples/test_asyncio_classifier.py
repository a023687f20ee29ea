"""The asyncio example: the same answers, a free event loop, a bounded number of photos, and errors one by one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

from examples.asyncio_classifier import AsyncClassifier
from petinfer import Classifier, PhotoError

from ..conftest import REPOSITORY

GOLDEN = sorted((REPOSITORY / "petinfer" / "golden").glob("*.png"))


def test_photos_side_by_side_get_the_serial_answers() -> None:
    clf = Classifier(threads=1)

    async def gathered() -> list[object]:
        return await asyncio.gather(*map(AsyncClassifier(clf, workers=2).predict, 4 * [str(path) for path in GOLDEN]))

    assert asyncio.run(gathered()) == 4 * [clf.predict(path) for path in GOLDEN]


class Waits:
    """A photo whose file cannot be read on before the event loop has done something else."""

    def __init__(self, path: Path) -> None:
        self.file, self.opened, self.may_go_on = path.open("rb"), threading.Event(), threading.Event()

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, once the event loop allows it."""
        self.opened.set()
        assert self.may_go_on.wait(timeout=60)
        return self.file.read(size)


def test_the_event_loop_runs_while_a_photo_is_computed(cat_photo: Path) -> None:
    photo = Waits(cat_photo)

    async def both() -> str:
        task = asyncio.create_task(AsyncClassifier(Classifier(threads=1), workers=1).predict(photo))  # type: ignore[arg-type]
        while not photo.opened.is_set():
            await asyncio.sleep(0)  # the loop turns, though the only worker stands still
        photo.may_go_on.set()
        return (await task).label

    assert asyncio.run(both()) == "cat"


def test_no_more_photos_are_taken_than_may_wait(cat_photo: Path) -> None:
    first, second = Waits(cat_photo), Waits(cat_photo)

    async def both() -> bool:
        clf = AsyncClassifier(Classifier(threads=1), workers=2, waiting=1)
        tasks = [asyncio.create_task(clf.predict(photo)) for photo in (first, second)]  # type: ignore[arg-type]
        while not first.opened.is_set():
            await asyncio.sleep(0)
        untouched = not second.opened.is_set()
        first.may_go_on.set()
        second.may_go_on.set()
        await asyncio.gather(*tasks)
        return untouched

    assert asyncio.run(both())


def test_an_unreadable_photo_raises_for_its_caller_only(cat_photo: Path) -> None:
    async def both() -> list[object]:
        clf = AsyncClassifier(Classifier(threads=1), workers=2)
        return await asyncio.gather(clf.predict("nowhere.jpg"), clf.predict(str(cat_photo)), return_exceptions=True)

    failed, answered = asyncio.run(both())
    assert isinstance(failed, PhotoError)
    assert answered == Classifier(threads=1).predict(cat_photo)


def printed(photo: str) -> str:
    """What the program prints of a photo."""
    command = [sys.executable, "examples/asyncio_classifier.py", photo]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_program_prints_the_answer(cat_photo: Path) -> None:
    answer = Classifier(threads=1).predict(cat_photo)
    assert printed("docs/chelsea.jpg") == f"docs/chelsea.jpg: cat {answer.probability:.2%}\n"


def test_the_program_prints_why_a_photo_cannot_be_read() -> None:
    assert ": no such file" in printed("nowhere.jpg")
