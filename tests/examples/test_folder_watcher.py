"""The folder watcher: photos that are there, come, change, arrive in two parts, or are damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from petinfer import Classifier

from .conftest import Program

pytest.importorskip("watchfiles", reason="pip install -r examples/requirements.txt")

from examples.folder_watcher import Folder


def test_photos_of_before_and_after_the_start_are_printed(
    start: Callable[..., Program], cat_photo: Path, tmp_path: Path
) -> None:
    shutil.copy(cat_photo, tmp_path / "before.jpg")
    program = start(sys.executable, "examples/folder_watcher.py", tmp_path)
    assert json.loads(program.wait_for("before.jpg").string)["label"] == "cat"
    (tmp_path / "notes.txt").write_text("not a photo")
    (tmp_path / "below").mkdir()
    shutil.copy(cat_photo, tmp_path / "below" / "after.jpg")
    line = program.wait_for(".").string
    expected = {"path": str(tmp_path / "below" / "after.jpg"), **vars(Classifier().predict(cat_photo))}
    assert json.loads(line) == expected | {"labels": list(expected["labels"])}
    assert program.stop(signal.SIGINT) == 0


def test_each_version_of_a_photo_is_answered_once(cat_photo: Path, tmp_path: Path) -> None:
    folder, photo = Folder(tmp_path, Classifier()), tmp_path / "a.jpg"
    shutil.copy(cat_photo, photo)
    assert [len(list(folder.answers())) for _ in range(2)] == [1, 0]
    os.utime(photo, ns=(1, 1))
    assert [len(list(folder.answers())) for _ in range(2)] == [1, 0]
    photo.rename(tmp_path / "b.jpg")
    assert [record["path"] for record in folder.answers()] == [str(tmp_path / "b.jpg")]


def test_a_photo_that_is_still_copied_is_not_an_error(cat_photo: Path, tmp_path: Path) -> None:
    folder, content = Folder(tmp_path, Classifier()), cat_photo.read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[:9000])
    os.utime(tmp_path / "a.jpg", (2**32, 2**32))  # changed a moment ago, however slow this machine is
    assert list(folder.answers()) == []
    (tmp_path / "a.jpg").write_bytes(content)
    assert [record["label"] for record in folder.answers()] == ["cat"]


def test_a_damaged_photo_is_one_record_and_others_are_answered(cat_photo: Path, tmp_path: Path) -> None:
    folder = Folder(tmp_path, Classifier())
    (tmp_path / "a.jpg").write_bytes(cat_photo.read_bytes()[:9000])
    os.utime(tmp_path / "a.jpg", (1, 1))  # long ago
    shutil.copy(cat_photo, tmp_path / "b.jpg")
    damaged, intact = folder.answers()
    assert ("cannot be read" in damaged["error"], intact["label"]) == (True, "cat")
    assert list(folder.answers()) == []
