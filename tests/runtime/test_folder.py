"""Which files in a folder are photos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from petinfer import folder
from petinfer.folder import find_photos
from petinfer.image import SUFFIXES


def tree(top: Path, *names: str) -> Path:
    """Empty files of these names."""
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    return top


def found(top: Path) -> list[str]:
    return [Path(path).relative_to(top).as_posix() for path in find_photos(str(top)).photos]


def test_every_suffix_that_can_be_read_is_found_in_any_case(tmp_path: Path) -> None:
    names = [f"{i:02}{suffix}" for i, suffix in enumerate(sorted(SUFFIXES))] + ["99.JFIF"]
    assert found(tree(tmp_path, *names, "notes.txt", "film.mp4")) == names


def test_hidden_and_system_files_and_folders_are_skipped_and_counted(tmp_path: Path) -> None:
    system = ["._x.jpg", ".hidden.png"]
    folders = [".Trash-1000/a.jpg", ".ipynb_checkpoints/a.jpg", "@eaDir/a.jpg", "$RECYCLE.BIN/a.jpg", "__MACOSX/a.jpg"]
    assert found(tree(tmp_path, "x.jpg", *system, *folders)) == ["x.jpg"]
    assert find_photos(str(tmp_path)).skipped == {"hidden": 2}


def test_a_hidden_folder_that_is_asked_for_is_searched(tmp_path: Path) -> None:
    assert found(tree(tmp_path / ".photos", "x.jpg")) == ["x.jpg"]


def test_formats_that_are_not_read_are_counted_by_name(tmp_path: Path) -> None:
    tree(tmp_path, "a.cr2", "b.CR2", "c.psd", "d.txt")
    assert find_photos(str(tmp_path)).skipped == {".cr2 is not read": 2, ".psd is not read": 1}


def test_linked_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    elsewhere = tree(tmp_path / "elsewhere", "b.jpg")
    here = tree(tmp_path / "here", "a.jpg")
    (here / "linked").symlink_to(elsewhere, target_is_directory=True)
    (here / "again").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "loop").symlink_to(here, target_is_directory=True)
    assert found(here) == ["a.jpg", "again/b.jpg"]


def test_a_broken_link_is_a_photo_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert found(tmp_path) == ["gone.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_a_photo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert found(tmp_path) == []


def test_a_folder_that_does_not_exist_is_unreadable(tmp_path: Path) -> None:
    assert find_photos(str(tmp_path / "nowhere")).unreadable == [str(tmp_path / "nowhere")]


def test_photos_come_before_those_of_folders_below_sorted_by_name(tmp_path: Path) -> None:
    assert found(tree(tmp_path, "b/c.jpg", "z.jpg", "a.jpg", "a/d.jpg")) == ["a.jpg", "z.jpg", "a/d.jpg", "b/c.jpg"]


@pytest.mark.parametrize(
    ("installed", "photos", "skipped"),
    [
        (False, [], {"HEIC: pip install pi-heif": 3, "hidden": 1}),
        (True, ["a.heic", "b.HEIF"], {"HEIC: pip install pi-heif": 1, "hidden": 1}),
    ],
)
def test_heic_is_found_where_it_can_be_read(
    installed: bool, photos: list[str], skipped: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("petinfer.folder._reads_heic", lambda: installed)
    tree(tmp_path, "a.heic", "b.HEIF", "c.hif", ".d.heic")
    assert (found(tmp_path), find_photos(str(tmp_path)).skipped) == (photos, skipped)


def test_heic_needs_pi_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pi_heif" else 1)
    assert not folder._reads_heic()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: 1 if name == "pi_heif" else None)
    assert folder._reads_heic()
