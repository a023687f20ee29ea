"""Which paths the arguments of `petinfer classify` stand for; no model is opened."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from petinfer import PetinferError
from petinfer.cli.inputs import Search, expand, read_list, sources, without_repeats

from .test_cli_files import needs_symlinks


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder of photos, of which only the names count here."""
    for name in ("a.jpg", "b.png", ".hidden.jpg", "raw.cr2", "below/c.jpg", "below/deep/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def found(top: Path, search: Search, skipped: Counter[str] | None = None) -> list[str]:
    skipped = Counter() if skipped is None else skipped
    return [Path(path).relative_to(top).as_posix() for path in expand([str(top)], skipped, search)]


def test_a_folder_stands_for_all_photos_below_it(top: Path) -> None:
    skipped = Counter[str]()
    assert found(top, Search(), skipped) == ["a.jpg", "b.png", "below/c.jpg", "below/deep/d.jpg"]
    assert skipped == {"hidden": 1, ".cr2 is not read": 1}


def test_skipped_files_of_all_folders_are_counted_together(top: Path) -> None:
    skipped = Counter[str]()
    expand([str(top), str(top)], skipped, Search())
    assert skipped == {"hidden": 2, ".cr2 is not read": 2}


def test_arguments_keep_their_order_and_files_need_not_exist(top: Path) -> None:
    arguments = ["nowhere.jpg", str(top / "below" / "deep"), "-"]
    assert expand(arguments, Counter(), Search()) == ["nowhere.jpg", str(top / "below" / "deep" / "d.jpg"), "-"]


@pytest.mark.parametrize(
    ("globs", "left"),
    [
        (["a.jpg"], ["b.png", "below/c.jpg", "below/deep/d.jpg"]),
        (["*.jpg"], ["b.png"]),
        (["?.png"], ["a.jpg", "below/c.jpg", "below/deep/d.jpg"]),
        (["deep"], ["a.jpg", "b.png", "below/c.jpg"]),
        (["deep/"], ["a.jpg", "b.png", "below/c.jpg"]),
        (["below/deep"], ["a.jpg", "b.png", "below/c.jpg"]),
        (["below/*.jpg"], ["a.jpg", "b.png"]),
        (["c.jpg", "b.png"], ["a.jpg", "below/deep/d.jpg"]),
        (["[ab].*"], ["below/c.jpg", "below/deep/d.jpg"]),
        (["deepX"], ["a.jpg", "b.png", "below/c.jpg", "below/deep/d.jpg"]),
        (["elow"], ["a.jpg", "b.png", "below/c.jpg", "below/deep/d.jpg"]),
    ],
)
def test_exclude_compares_names_and_paths_below_the_folder(globs: list[str], left: list[str], top: Path) -> None:
    assert found(top, Search(exclude=tuple(globs))) == left


def test_not_recursive_leaves_folders_alone_out(top: Path) -> None:
    assert found(top, Search(recursive=False)) == ["a.jpg", "b.png"]


def test_the_destination_is_left_out_below_a_folder_and_nowhere_else(top: Path) -> None:
    assert found(top, Search(destination=top / "below")) == ["a.jpg", "b.png"]
    assert found(top, Search(destination=top / "." / "below" / "deep")) == ["a.jpg", "b.png", "below/c.jpg"]
    for elsewhere in (top, top.parent, top / "a.jpg", top / "nowhere"):
        assert len(found(top, Search(destination=elsewhere))) == 4


@needs_symlinks
def test_the_destination_is_left_out_through_a_link_too(top: Path) -> None:
    (top / "link").symlink_to(top / "below")
    assert found(top, Search(destination=top / "link")) == ["a.jpg", "b.png"]


def test_a_folder_without_photos_stands_for_itself(top: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert expand([str(tmp_path / "empty"), "a.jpg"], Counter(), Search()) == [str(tmp_path / "empty"), "a.jpg"]
    with pytest.raises(PetinferError) as refused:
        expand([str(tmp_path / "empty")], Counter(), Search())
    problem = "no photos in this folder (give photos or a folder of photos)"
    assert str(refused.value) == f"{tmp_path / 'empty'}: {problem}"


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        (b"a.jpg\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg\r\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"a\nb.jpg\0c.jpg\0", ["a\nb.jpg", "c.jpg"]),
        (b"a.jpg\r\n\0b.jpg", ["a.jpg\r\n", "b.jpg"]),
        (b"\n\n a.jpg \n\n", [" a.jpg "]),
        (b"\xef\xbb\xbfa.jpg", ["a.jpg"]),
        (b"-\n./x\n--\n", ["./-", "./x", "--"]),
    ],
)
def test_a_list_has_a_path_per_line_or_between_nuls(content: bytes, paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(content)
    assert read_list(str(tmp_path / "list")) == paths


@pytest.mark.skipif(sys.platform == "win32", reason="paths are not bytes there")
def test_a_list_may_name_paths_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xe4.jpg")
    assert [os.fsencode(path) for path in read_list(str(tmp_path / "list"))] == [b"\xe4.jpg"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "names no photos (write a path per line, or separated by NULs)"),
        (b"\n\r\n", "names no photos (write a path per line, or separated by NULs)"),
        (b"\0\0", "names no photos (write a path per line, or separated by NULs)"),
        (b"\xff\xfea\0", "UTF-16 (write it as UTF-8)"),
        (b"\xfe\xff\0a", "UTF-16 (write it as UTF-8)"),
    ],
)
def test_a_list_without_paths_is_refused_in_one_line(content: bytes, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_bytes(content)
    with pytest.raises(PetinferError) as refused:
        read_list(str(file))
    assert str(refused.value) == f"--files-from: {file}: {problem}"


def test_a_list_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PetinferError) as refused:
        read_list(str(tmp_path / "nowhere"))
    problem = "cannot be read: No such file or directory (check the path)"
    assert str(refused.value) == f"--files-from: {tmp_path / 'nowhere'}: {problem}"


def test_closed_standard_input_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PetinferError, match="names no photos"):
        read_list("-")
    (stream,) = sources(["-"])
    assert isinstance(stream, io.BytesIO) and stream.read() == b""


def test_sources_are_the_paths_and_standard_input_for_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photo")))
    first, stdin, last = sources(["a.jpg", "-", "./-"])
    assert (first, last) == ("a.jpg", "./-")
    assert stdin.read() == b"photo"  # type: ignore[union-attr]


@needs_symlinks
def test_a_file_named_in_several_ways_is_there_once(top: Path) -> None:
    (top / "again").symlink_to(top / "below")
    (top / "link.jpg").symlink_to(top / "a.jpg")
    paths = ["a.jpg", "below/c.jpg", "b.png", "below/../a.jpg", "again/c.jpg", "link.jpg", "deep/c.jpg"]
    kept = ["a.jpg", "below/c.jpg", "b.png", "link.jpg", "deep/c.jpg"]
    assert without_repeats([f"{top}/{path}" for path in paths]) == [f"{top}/{path}" for path in kept]
