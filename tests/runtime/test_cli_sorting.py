"""`petinfer classify --copy-to` and `--move-to`: each photo is in its old or its new place, and none is overwritten."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from petinfer import PetinferError
from petinfer.cli import sorting
from petinfer.cli.sorting import Sorter, copy, folder_name, move, rename

from ..conftest import obeys_ctrl_c
from .test_cli import petinfer
from .test_cli_files import needs_symlinks

Files = dict[str, bytes]


@pytest.fixture
def photos(tmp_path: Path, cat_photo: Path) -> Path:
    """Three photos, two of them with the same name, a file that is no photo, and one that nobody asks for."""
    folder = tmp_path / "photos"
    for number, name in enumerate(("one/cat.jpg", "two/cat.jpg", "other.jpg")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.open(cat_photo).save(folder / name, quality=90 + number)
    (folder / "broken.jpg").write_bytes(b"no photo")
    (folder / "notes.txt").write_bytes(b"notes")
    return folder


def files(folder: Path) -> Files:
    """What is in each file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_copies_are_in_a_folder_per_label_and_originals_stay(photos: Path, tmp_path: Path) -> None:
    before = files(photos)
    result = petinfer("classify", photos, "--copy-to", tmp_path / "sorted" / "here")
    assert result.exit_code == 1  # for the photo that cannot be read
    assert result.stderr.splitlines()[-1] == f"3 cat, 1 unreadable; 3 copied to {tmp_path / 'sorted' / 'here'}"
    assert files(photos) == before
    assert files(tmp_path / "sorted" / "here") == {
        "cat/other.jpg": before["other.jpg"],
        "cat/cat.jpg": before["one/cat.jpg"],
        "cat/cat-2.jpg": before["two/cat.jpg"],
    }


def test_moved_photos_leave_their_place_and_the_rest_stays(photos: Path, tmp_path: Path) -> None:
    before = files(photos)
    result = petinfer("classify", photos, "--move-to", tmp_path / "sorted")
    assert result.stderr.splitlines()[-1] == f"3 cat, 1 unreadable; 3 moved to {tmp_path / 'sorted'}"
    assert files(photos) == {"broken.jpg": b"no photo", "notes.txt": b"notes"}
    assert files(tmp_path / "sorted") == {
        "cat/other.jpg": before["other.jpg"],
        "cat/cat.jpg": before["one/cat.jpg"],
        "cat/cat-2.jpg": before["two/cat.jpg"],
    }


@pytest.mark.parametrize("option", ["--copy-to", "--move-to"])
def test_a_record_says_where_the_photo_is(option: str, photos: Path, tmp_path: Path) -> None:
    entry = "copied_to" if option == "--copy-to" else "moved_to"
    lines = petinfer("classify", "--jsonl", photos, option, tmp_path / "sorted").stdout.splitlines()
    records = {Path(record["path"]).relative_to(photos).as_posix(): record for record in map(json.loads, lines)}
    assert records["two/cat.jpg"][entry] == str(tmp_path / "sorted" / "cat" / "cat-2.jpg")
    assert entry not in records["broken.jpg"]


def test_csv_has_a_column_for_the_new_place(photos: Path, tmp_path: Path) -> None:
    text = petinfer("classify", "--csv", photos / "other.jpg", "--copy-to", tmp_path / "sorted").stdout
    (row,) = csv.DictReader(text.splitlines())
    assert row["copied_to"] == str(tmp_path / "sorted" / "cat" / "other.jpg")


@pytest.mark.parametrize("option", ["--copy-to", "--move-to"])
def test_a_file_that_is_there_is_never_overwritten(option: str, photos: Path, tmp_path: Path) -> None:
    there = tmp_path / "sorted" / "cat"
    there.mkdir(parents=True)
    (there / "other.jpg").write_bytes(b"mine")
    (there / "other-2.jpg").mkdir()
    photo = (photos / "other.jpg").read_bytes()
    assert petinfer("classify", photos / "other.jpg", option, tmp_path / "sorted").exit_code == 0
    assert files(there) == {"other.jpg": b"mine", "other-3.jpg": photo}


def test_copying_again_copies_nothing(photos: Path, tmp_path: Path) -> None:
    petinfer("classify", photos, "--copy-to", tmp_path / "sorted")
    once = files(tmp_path / "sorted")
    result = petinfer("classify", photos, "--copy-to", tmp_path / "sorted")
    assert result.stderr.endswith(f"; 0 copied to {tmp_path / 'sorted'}, 3 already there\n")
    assert files(tmp_path / "sorted") == once


def test_an_equal_photo_is_moved_to_a_name_of_its_own(photos: Path, tmp_path: Path) -> None:
    """Both would be one file otherwise, and a photo less."""
    shutil.copy(photos / "one" / "cat.jpg", photos / "two" / "cat.jpg")
    petinfer("classify", photos / "one", photos / "two", "--move-to", tmp_path / "sorted")
    assert sorted(files(tmp_path / "sorted")) == ["cat/cat-2.jpg", "cat/cat.jpg"]


def test_a_destination_inside_the_folder_is_not_searched(photos: Path) -> None:
    for _ in range(2):
        result = petinfer("classify", "--jsonl", photos, "--copy-to", photos / "sorted")
        assert len(result.stdout.splitlines()) == 4
    assert len(files(photos / "sorted")) == 3


def test_a_folder_can_be_sorted_in_place_and_again(photos: Path) -> None:
    (photos / "broken.jpg").unlink()
    before = sorted(files(photos).values())
    petinfer("classify", photos, "--move-to", photos)
    result = petinfer("classify", photos, "--move-to", photos)
    assert result.stderr == f"3 cat; 0 moved to {photos}, 3 already there\n"
    assert sorted(files(photos)) == ["cat/cat-2.jpg", "cat/cat.jpg", "cat/other.jpg", "notes.txt"]
    assert sorted(files(photos).values()) == before


def test_a_photo_that_is_named_twice_is_moved_once(photos: Path, tmp_path: Path) -> None:
    same = photos / "one" / ".." / "other.jpg"
    result = petinfer("classify", "--jsonl", photos / "other.jpg", same, photos, "--move-to", tmp_path / "sorted")
    assert len(result.stdout.splitlines()) == 4
    assert result.stderr.endswith(f"; 3 moved to {tmp_path / 'sorted'}\n")


@needs_symlinks
def test_of_a_link_the_photo_is_copied(photos: Path, tmp_path: Path) -> None:
    (photos / "link.jpg").symlink_to("other.jpg")
    petinfer("classify", photos / "link.jpg", "--copy-to", tmp_path / "sorted")
    copied = tmp_path / "sorted" / "cat" / "link.jpg"
    assert not copied.is_symlink() and copied.read_bytes() == (photos / "other.jpg").read_bytes()


@needs_symlinks
def test_a_moved_link_leads_to_the_same_photo(photos: Path, tmp_path: Path) -> None:
    (photos / "link.jpg").symlink_to("other.jpg")
    petinfer("classify", photos / "link.jpg", "--move-to", tmp_path / "sorted")
    moved = tmp_path / "sorted" / "cat" / "link.jpg"
    assert moved.is_symlink() and moved.samefile(photos / "other.jpg")
    assert not (photos / "link.jpg").is_symlink()


@needs_symlinks
def test_a_folder_through_a_link_is_sorted_once(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(photos)
    result = petinfer("classify", photos, tmp_path / "again", "--move-to", tmp_path / "sorted")
    assert result.stderr.splitlines()[-1] == f"3 cat, 1 unreadable; 3 moved to {tmp_path / 'sorted'}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["other.jpg", "--copy-to", "a", "--move-to", "b"], "--copy-to and --move-to exclude each other"),
        (["-", "--copy-to", "a"], "a photo on standard input (-) cannot be copied or moved"),
        (["other.jpg", "--copy-to", "notes.txt"], "--copy-to: notes.txt: cannot be written: "),
        (["other.jpg", "--move-to", "notes.txt/a"], "--move-to: notes.txt/a: cannot be written: "),
        (["other.jpg", "--move-to", "a", "--model", "none.onnx"], "none.onnx: no such model file"),
    ],
)
def test_a_destination_that_cannot_be_is_one_line_and_exit_2(
    arguments: list[str], message: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    before = files(photos)
    result = petinfer("classify", *arguments, stdin=b"")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr.replace(os.sep, "/")
    assert files(photos) == before and not Path("a").exists()


def test_a_photo_that_cannot_be_moved_does_not_stop_the_others(photos: Path, tmp_path: Path) -> None:
    def vanishing() -> Iterator[dict[str, Any]]:
        for name in ("one/cat.jpg", "nowhere.jpg", "two/cat.jpg"):
            yield {"path": str(photos / name), "label": "cat"}

    sorter = Sorter(tmp_path / "sorted", move=True)
    records = list(sorter.sort(vanishing()))
    assert ["error" in record for record in records] == [False, True, False]
    assert records[1]["error"].startswith(f"{photos / 'nowhere.jpg'}: cannot be moved: ")
    assert records[1]["error"].endswith(" (check both folders)")
    assert sorter.summary() == f"2 moved to {tmp_path / 'sorted'}, 1 not moved"
    assert sorted(files(tmp_path / "sorted")) == ["cat/cat-2.jpg", "cat/cat.jpg"]


def test_a_photo_that_is_not_moved_is_answered_and_exit_1(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / "cat").write_bytes(b"in the way")
    result = petinfer("classify", photos / "other.jpg", "--move-to", tmp_path / "sorted")
    assert result.exit_code == 1
    assert result.stdout.startswith("cat ")
    assert "other.jpg: cannot be moved: " in result.stderr
    assert (photos / "other.jpg").exists()


def unusable(monkeypatch: pytest.MonkeyPatch, name: str, error: int) -> None:
    """Make a method of Path fail as a file system can."""

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Path, name, fail)


def test_without_hard_links_nothing_is_overwritten_either(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unusable(monkeypatch, "hardlink_to", errno.EPERM)
    (tmp_path / "b.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        rename(photos / "other.jpg", tmp_path / "b.jpg")
    assert (tmp_path / "b.jpg").read_bytes() == b"mine"
    photo = (photos / "other.jpg").read_bytes()
    rename(photos / "other.jpg", tmp_path / "c.jpg")
    assert (tmp_path / "c.jpg").read_bytes() == photo and not (photos / "other.jpg").exists()


def test_a_photo_moves_to_another_file_system(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    before = files(photos)
    os.utime(photos / "other.jpg", (1e9, 1e9))
    target = other / f"petinfer-{os.getpid()}.jpg"
    try:
        move(photos / "other.jpg", target)
        assert (target.read_bytes(), target.stat().st_mtime) == (before["other.jpg"], 1e9)
        assert not (photos / "other.jpg").exists()
        with pytest.raises(FileExistsError):
            move(photos / "one" / "cat.jpg", target)
        assert target.read_bytes() == before["other.jpg"] and (photos / "one" / "cat.jpg").exists()
        assert [path for path in other.iterdir() if path.name.startswith(".petinfer-")] == []
    finally:
        target.unlink(missing_ok=True)


@pytest.mark.parametrize("links", [True, False])
def test_a_photo_that_cannot_be_removed_has_one_place(
    links: bool, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder that may not be written to: the new name is removed again."""
    if not links:
        unusable(monkeypatch, "hardlink_to", errno.EPERM)
        unusable(monkeypatch, "replace", errno.EACCES)
    else:
        keep = photos / "other.jpg"
        unlink = Path.unlink

        def refuse(path: Path, missing_ok: bool = False) -> None:
            if path == keep:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            unlink(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(PermissionError):
        rename(photos / "other.jpg", tmp_path / "b.jpg")
    assert (photos / "other.jpg").exists() and not (tmp_path / "b.jpg").exists()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_copy_that_ends_early_leaves_nothing(
    error: BaseException, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:1000])
        raise error

    monkeypatch.setattr(sorting.shutil, "copyfile", half)
    (tmp_path / "sorted").mkdir()
    with pytest.raises(type(error)):
        copy(photos / "other.jpg", tmp_path / "sorted" / "b.jpg")
    assert list((tmp_path / "sorted").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for_to_copy_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="not a regular file"):
        copy(tmp_path / "pipe.jpg", tmp_path / "b.jpg")


@pytest.mark.parametrize("option", ["--copy-to", "--move-to"])
def test_a_full_disk_ends_with_one_line_and_loses_nothing(option: str, photos: Path, tmp_path: Path) -> None:
    """The disk is a file system in memory, of 64 KiB, in a namespace of the process's own."""
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o size=64k tmpfs {tmp_path}/disk"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "sh", "-c", mount], timeout=60).returncode:
        pytest.skip("needs unshare and mount")
    (photos / "broken.jpg").unlink()
    before = files(photos)
    command = f"{sys.executable} -m petinfer classify --jsonl {photos} {option} {tmp_path}/disk"
    script = f"{mount} && {{ {command}; echo $?; find {tmp_path}/disk -type f | wc -l; }}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, timeout=120, text=True)
    *records, status, copied = done.stdout.splitlines()
    assert (status, int(copied)) == ("2", len(records))
    assert f"Error: {option}: {tmp_path}/disk: cannot be written: No space left on device" in done.stderr
    gone = [json.loads(record)["path"] for record in records] if option == "--move-to" else []
    assert sorted(files(photos)) == sorted(name for name in before if str(photos / name) not in gone)


few_names = st.sampled_from(["a.jpg", "a-2.jpg", "b.jpg"])
photo = st.tuples(st.sampled_from(["one", "two"]), few_names, st.binary(max_size=1), st.sampled_from(["cat", "dog"]))


@settings(max_examples=60, deadline=None)
@given(rounds=st.lists(st.tuples(st.booleans(), st.lists(photo, max_size=5)), max_size=4))
def test_whatever_is_sorted_every_content_is_still_there(rounds: list[tuple[bool, list[Any]]]) -> None:
    """Few names and contents, so that most of them clash: of a moved photo, no equal one takes the place."""
    with tempfile.TemporaryDirectory() as top:
        photos, destination = Path(top, "photos"), Path(top, "sorted")
        destination.mkdir()
        for moves, found in rounds:
            labels = {f"{folder}/{name}": (content, label) for folder, name, content, label in found}
            for name, (content, _) in labels.items():
                (photos / name).parent.mkdir(parents=True, exist_ok=True)
                (photos / name).write_bytes(content)
            before, all_before = files(destination), contents(photos, destination)
            records = [{"path": str(photos / name), "label": label} for name, (_, label) in labels.items()]
            for record in Sorter(destination, moves).sort(iter(records)):
                place = Path(record["moved_to" if moves else "copied_to"])
                content, label = labels[Path(record["path"]).relative_to(photos).as_posix()]
                assert (place.read_bytes(), place.parent) == (content, destination / label)
            assert before.items() <= files(destination).items()
            assert set(all_before) <= set(contents(photos, destination))
            if moves:
                assert contents(photos, destination) == all_before


def contents(*folders: Path) -> Counter[bytes]:
    """How often each content is in the folders."""
    return Counter(content for folder in folders for content in files(folder).values())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_after_ctrl_c_each_moved_photo_has_its_record(photos: Path, tmp_path: Path) -> None:
    """The process waits for the pipe when the signal comes."""
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "petinfer", "classify", "--threads", "1", "--jsonl"]
    command += [str(photos / "other.jpg"), str(pipe), str(photos / "one"), "--move-to", str(tmp_path / "sorted")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=obeys_ctrl_c)
    with pipe.open("wb"):
        run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=120)
    assert run.returncode == 130
    assert [json.loads(line)["moved_to"] for line in output.splitlines()] == [f"{tmp_path}/sorted/cat/other.jpg"]
    assert errors.decode() == f"1 cat; 1 moved to {tmp_path}/sorted\n"
    assert (photos / "one" / "cat.jpg").exists()


def test_a_second_ctrl_c_ends_at_once(photos: Path, tmp_path: Path) -> None:
    received = []

    def records() -> Iterator[dict[str, Any]]:
        signal.raise_signal(signal.SIGINT)
        received.append("first")
        signal.raise_signal(signal.SIGINT)
        received.append("second")
        yield {"path": str(photos / "other.jpg"), "label": "cat"}

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(Sorter(tmp_path / "sorted", move=True).sort(records()))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert received == ["first"]


def test_a_first_ctrl_c_ends_between_two_photos(photos: Path, tmp_path: Path) -> None:
    def records() -> Iterator[dict[str, Any]]:
        yield {"path": str(photos / "other.jpg"), "label": "cat"}
        signal.raise_signal(signal.SIGINT)
        yield {"path": str(photos / "one" / "cat.jpg"), "label": "cat"}

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    sorted_records = []
    try:
        with pytest.raises(KeyboardInterrupt):
            sorted_records.extend(Sorter(tmp_path / "sorted", move=True).sort(records()))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(files(tmp_path / "sorted")) == ["cat/other.jpg"]
    assert (photos / "one" / "cat.jpg").exists()


def test_a_job_in_the_background_goes_on_ignoring_ctrl_c(photos: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        records = Sorter(tmp_path / "sorted", move=True).sort(
            iter([{"path": str(photos / "other.jpg"), "label": "cat"}])
        )
        next(records)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert list(records) == []
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("move_them", [True, False])
def test_a_folder_that_cannot_be_made_names_its_option(move_them: bool, photos: Path) -> None:
    folder = photos / "notes.txt" / "sorted"
    with pytest.raises(PetinferError) as refused:
        Sorter(folder, move=move_them)
    option = "--move-to" if move_them else "--copy-to"
    reason = os.strerror(errno.ENOENT if sys.platform == "win32" else errno.ENOTDIR)
    assert str(refused.value) == f"{option}: {folder}: cannot be written: {reason} (choose another folder)"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_no_photo_ends_the_run(
    error: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sorter = Sorter(tmp_path / "sorted", move=False)
    monkeypatch.setattr(tempfile, "mkstemp", lambda **_: (_ for _ in ()).throw(OSError(error, os.strerror(error))))
    with pytest.raises(PetinferError) as refused:
        list(sorter.sort(iter([{"path": str(photos / "other.jpg"), "label": "cat"}])))
    problem = f"cannot be written: {os.strerror(error)} (choose another folder)"
    assert str(refused.value) == f"--copy-to: {tmp_path / 'sorted'}: {problem}"
    assert sorter.summary() == f"0 copied to {tmp_path / 'sorted'}"


def test_a_photo_that_is_gone_is_an_error_and_counted(tmp_path: Path) -> None:
    gone = tmp_path / "gone.jpg"
    problem = f"{gone}: cannot be copied: not a regular file (check both folders)"
    sorter = Sorter(tmp_path / "sorted", move=False)
    records = [{"path": str(gone), "label": "cat"} for _ in range(2)]
    assert [each["error"] for each in sorter.sort(iter(records))] == [problem] * 2
    assert sorter.summary() == f"0 copied to {tmp_path / 'sorted'}, 2 not copied"
    sorter.placed, sorter.present, sorter.failed = 1234, 5678, 9012
    assert sorter.summary() == f"1,234 copied to {tmp_path / 'sorted'}, 5,678 already there, 9,012 not copied"


def test_unsure_and_unreadable_photos_have_no_label_as_folder(photos: Path, tmp_path: Path) -> None:
    records = [
        {"path": str(photos / "other.jpg"), "label": None, "sure": False},
        {"path": str(photos / "one" / "cat.jpg"), "label": "cat", "sure": True},
        {"path": str(photos / "broken.jpg"), "error": "cannot be read"},
    ]
    found = list(Sorter(tmp_path / "sorted", move=False).sort(iter(records)))
    assert sorted(files(tmp_path / "sorted")) == ["cat/cat.jpg", "unsure/other.jpg"]
    assert found[0]["copied_to"] == str(tmp_path / "sorted" / "unsure" / "other.jpg")
    assert found[2] == {"path": str(photos / "broken.jpg"), "error": "cannot be read"}


@pytest.mark.parametrize("durable", [True, False])
def test_a_copy_keeps_times_and_permissions(durable: bool, photos: Path, tmp_path: Path) -> None:
    os.utime(photos / "other.jpg", (1e9, 1e9))
    (photos / "other.jpg").chmod(0o440)
    copy(photos / "other.jpg", tmp_path / "b.jpg", durable)
    found = (tmp_path / "b.jpg").stat()
    assert (found.st_mtime, found.st_mode & 0o222) == (1e9, 0)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".petinfer-")] == []


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("cat", "cat"),
        ("wire-haired fox terrier", "wire-haired fox terrier"),
        ("Bärenhund 犬", "Bärenhund 犬"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("../../etc", "%2E.%2F..%2Fetc"),
        ("/etc", "%2Fetc"),
        ("C:\\", "C%3A%5C"),
        (".hidden", "%2Ehidden"),
        ("end.", "end%2E"),
        ("end ", "end%20"),
        ("100%", "100%25"),
        ("%2E", "%252E"),
        ("", "%"),
        ("NUL", "%4EUL"),
        ("com1.txt", "%63om1.txt"),
        ("console", "console"),
        ("\ud800", "%D800"),
    ],
)
def test_a_label_is_one_folder_whatever_it_contains(label: str, folder: str, tmp_path: Path) -> None:
    assert folder_name(label) == folder
    (tmp_path / folder).mkdir()
    assert os.listdir(tmp_path) == [folder]
