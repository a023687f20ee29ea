"""Which photos `petinfer classify` takes, and the file that it writes: --files-from, --exclude, --no-recursive, -o."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from petinfer import Classifier
from petinfer.cli import main
from petinfer.cli.formats import Columns
from petinfer.cli.output_file import write_file

from ..conftest import cli_runner, obeys_ctrl_c
from .test_cli import petinfer

needs_symlinks = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")


@pytest.fixture
def folder(tmp_path: Path, cat_photo: Path) -> Path:
    """Photos in a folder and in two folders below it."""
    top = tmp_path / "photos"
    for name in ("a.jpg", "thumb_a.jpg", "one/b.jpg", "one/thumbs/c.jpg"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cat_photo, top / name)
    return top


def classified(top: Path, *arguments: object, stdin: bytes | None = None) -> list[str]:
    """The paths of the records, below ``top`` where they are."""
    lines = petinfer("classify", "--jsonl", *arguments, stdin=stdin).stdout.splitlines()
    return [os.path.relpath(json.loads(line)["path"], top).replace(os.sep, "/") for line in lines]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["a.jpg", "thumb_a.jpg", "one/b.jpg", "one/thumbs/c.jpg"]),
        (["--exclude", "thumb*"], ["a.jpg", "one/b.jpg"]),
        (["--exclude", "thumbs/"], ["a.jpg", "thumb_a.jpg", "one/b.jpg"]),
        (["--exclude", "one/*.jpg"], ["a.jpg", "thumb_a.jpg"]),
        (["--exclude", "b.jpg", "--exclude", "a.jpg"], ["thumb_a.jpg", "one/thumbs/c.jpg"]),
        (["--no-recursive"], ["a.jpg", "thumb_a.jpg"]),
        (["--no-recursive", "--exclude", "a*"], ["thumb_a.jpg"]),
    ],
)
@pytest.mark.parametrize("end", ["", "/"])
def test_exclude_and_no_recursive_leave_photos_of_a_folder_out(
    options: list[str], names: list[str], end: str, folder: Path
) -> None:
    assert classified(folder, f"{folder}{end}", *options) == names


def test_exclude_does_not_apply_to_a_photo_that_is_named(folder: Path) -> None:
    assert classified(folder, folder / "a.jpg", "--exclude", "a.jpg") == ["a.jpg"]


def test_excluded_photos_are_not_counted_as_skipped(folder: Path) -> None:
    assert petinfer("classify", "--jsonl", folder, "--exclude", "one").stderr == "2 cat\n"


def test_a_folder_of_which_all_is_left_out_is_exit_2(folder: Path) -> None:
    result = petinfer("classify", folder, "--exclude", "*")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("no photos in this folder (give photos or a folder of photos)\n")


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0", "\n\n"])
@pytest.mark.parametrize("end", [True, False])
def test_a_list_is_separated_by_newlines_or_nuls(separator: str, end: bool, folder: Path) -> None:
    names = [str(folder / "one" / "b.jpg"), str(folder / "a.jpg")]
    content = (separator.join(names) + separator * end).encode()
    (folder / "list.txt").write_bytes(content)
    assert classified(folder, "--files-from", folder / "list.txt") == ["one/b.jpg", "a.jpg"]
    assert classified(folder, "--files-from", "-", stdin=content) == ["one/b.jpg", "a.jpg"]


def test_a_list_may_begin_with_a_byte_order_mark(folder: Path) -> None:
    assert classified(folder, "--files-from", "-", stdin=b"\xef\xbb\xbf" + bytes(folder / "a.jpg")) == ["a.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_names_between_nuls_may_contain_newlines(folder: Path, cat_photo: Path) -> None:
    shutil.copy(cat_photo, folder / "new\nline.jpg")
    assert classified(folder, "--files-from", "-", stdin=bytes(folder / "new\nline.jpg") + b"\0") == ["new\nline.jpg"]


def test_a_list_follows_the_arguments_and_may_name_folders(folder: Path) -> None:
    listed = classified(folder, folder / "a.jpg", "--files-from", "-", stdin=bytes(folder / "one"))
    assert listed == ["a.jpg", "one/b.jpg", "one/thumbs/c.jpg"]


def test_a_dash_in_a_list_is_a_file(folder: Path, cat_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    shutil.copy(cat_photo, "-")
    assert classified(folder, "--files-from", "-", stdin=b"-\n") == ["-"]


def test_a_missing_photo_of_a_list_is_a_record_with_an_error(folder: Path) -> None:
    result = petinfer("classify", "--jsonl", "--files-from", "-", stdin=b"nowhere.jpg\n" + bytes(folder / "a.jpg"))
    assert result.exit_code == 1
    assert [json.loads(line).get("error") for line in result.stdout.splitlines()] == [
        "nowhere.jpg: no such file (check the path)",
        None,
    ]


@pytest.mark.parametrize(
    ("arguments", "content", "message"),
    [
        (["--files-from", "-"], b"", "--files-from: -: names no photos"),
        (["--files-from", "-"], b"\n\r\n", "--files-from: -: names no photos"),
        (["--files-from", "-"], "a.jpg".encode("utf-16"), "--files-from: -: UTF-16 (write it as UTF-8)"),
        (["--files-from", "nowhere.txt"], b"", "--files-from: nowhere.txt: cannot be read: No such file"),
        (["--files-from", "-", "-"], b"a.jpg", "standard input (-) can be read only once"),
        (["a.jpg", "-o", "a.txt"], b"", "--output: a.txt: the suffix is not .csv, .jsonl, .json or .parquet (rename"),
        (["a.jpg", "-o", "-"], b"", "--output: -: the suffix is not"),
        (["a.jpg", "-o", "nowhere/a.csv"], b"", "--output: nowhere/a.csv: its folder does not exist"),
        (["a.jpg", "-o", "folder.csv"], b"", "--output: folder.csv: not a regular file"),
        (["a.jpg", "-o", "a.csv", "--json"], b"", "--json and --output exclude each other"),
        (["a.jpg", "-o", "a.csv", "--threads", "4096"], b"", "--threads: 4096 requested"),
    ],
)
def test_a_list_or_output_that_cannot_be_is_one_line_and_exit_2(
    arguments: list[str], content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.csv").mkdir()
    result = petinfer("classify", *arguments, stdin=content)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr.replace(os.sep, "/") and "Traceback" not in result.stderr
    assert os.listdir() == ["folder.csv"]


@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_a_file_has_what_standard_output_would_have(form: str, folder: Path, tmp_path: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"no photo")
    answers = tmp_path / f"answers.{form.upper()}"
    result = petinfer("classify", folder, "-o", answers)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "4 cat, 1 unreadable\n")
    assert answers.read_text(encoding="utf-8") == petinfer("classify", folder, f"--{form}").stdout
    assert sorted(os.listdir(tmp_path)) == [answers.name, "photos"]


def test_a_file_that_is_there_is_replaced(cat_photo: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("before")
    petinfer("classify", cat_photo, "-o", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().startswith("path,label,probability,dog,cat,error,note,familiarity\n")


@needs_symlinks
def test_a_link_to_a_file_stays_a_link(cat_photo: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.csv").symlink_to(tmp_path / "elsewhere" / "b.csv")
    petinfer("classify", cat_photo, "-o", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").is_symlink() and os.listdir(tmp_path / "elsewhere") == ["b.csv"]


def interrupted(records: list[dict[str, Any]], error: BaseException) -> Any:
    yield from records
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_early_end_leaves_the_file_as_it_was(
    error: BaseException, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text("before")
    with pytest.raises(type(error)):
        write_file(interrupted([{"path": "x.jpg"}], error), Columns(("dog", "cat"), None), tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == "before"
    assert (tmp_path / "a.jsonl.partial").read_text() == '{"path": "x.jpg"}\n'
    path = tmp_path / "a.jsonl"
    assert capsys.readouterr().err == f"{path} was not written; {path}.partial has the answers so far\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_ctrl_c_keeps_the_answers_in_a_partial_file(cat_photo: Path, tmp_path: Path) -> None:
    """The second photo is a pipe: opening it waits until the process has written the first answer and reads."""
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "petinfer", "classify", "--threads", "1", cat_photo, pipe]
    command += ["-o", tmp_path / "a.csv"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=obeys_ctrl_c)
    with pipe.open("wb"):
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=120)
    partial = tmp_path / "a.csv.partial"
    assert errors.decode().splitlines() == [
        f"{tmp_path / 'a.csv'} was not written; {partial} has the answers so far",
        "1 cat",
    ]
    assert (run.returncode, (tmp_path / "a.csv").exists()) == (130, False)
    assert [row["label"] for row in rows(partial)] == ["cat"]


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_parquet_has_the_entries_of_a_json_record(folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (folder / "broken.jpg").write_bytes(b"no photo")
    Image.new("I;16", (40, 40), 300).save(folder / "clipped.png")
    assert petinfer("classify", folder, "-o", tmp_path / "a.parquet").exit_code == 1
    table = parquet.read_table(tmp_path / "a.parquet")
    expected = [json.loads(line) for line in petinfer("classify", "--jsonl", folder).stdout.splitlines()]
    names = ["path", "label", "probability", "probabilities", "orientation", "model", "error", "note"]
    assert table.column_names == names
    assert [Path(row["path"]).name for row in table.to_pylist() if row["note"]] == ["clipped.png"]
    assert table.to_pylist() == [{name: record.get(name) for name in names} for record in expected]


def test_parquet_is_complete_up_to_an_early_end(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    records = [{"path": f"{number}.jpg", "label": "cat"} for number in range(1500)]
    with pytest.raises(KeyboardInterrupt):
        write_file(interrupted(records, KeyboardInterrupt()), Columns(("dog", "cat"), 1), tmp_path / "a.parquet")
    (tmp_path / "a.parquet.partial").rename(tmp_path / "b.parquet")
    assert parquet.read_table(tmp_path / "b.parquet").column("path").to_pylist() == [each["path"] for each in records]


@pytest.mark.parametrize(("number", "expected"), [(0, []), (2000, [1000, 1000]), (2500, [1000, 1000, 500])])
def test_parquet_is_written_a_thousand_rows_at_a_time(number: int, expected: list[int], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    records = [{"path": f"{i}.jpg", "label": "cat"} for i in range(number)]
    write_file(records, Columns(("dog", "cat"), 1), tmp_path / "a.parquet")
    with parquet.ParquetFile(tmp_path / "a.parquet") as file:
        groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        assert groups == expected
        assert file.read().column("path").to_pylist() == [record["path"] for record in records]


def test_parquet_has_the_familiarity_of_a_model_that_knows_it(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    record = {"path": "a.jpg", "label": "cat", "familiarity": -0.5}
    write_file([record], Columns(("dog", "cat"), 1, familiarity=True), tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names[-2:] == ["note", "familiarity"]
    assert table.column("familiarity").to_pylist() == [-0.5]


def test_parquet_without_pyarrow_is_one_line_and_exit_2(
    cat_photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    result = cli_runner().invoke(main, ["classify", str(cat_photo), "-o", str(tmp_path / "a.parquet")])
    problem = "Parquet needs the package pyarrow (pip install pyarrow, or choose .csv or .jsonl)"
    assert (result.exit_code, result.stderr) == (2, f"Error: --output: {tmp_path / 'a.parquet'}: {problem}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_exit_2_and_leaves_the_file_as_it_was(folder: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the first row does not fit."""
    resource = pytest.importorskip("resource")
    (tmp_path / "a.csv").write_text("before")
    command = [sys.executable, "-m", "petinfer", "classify", folder, "-o", tmp_path / "a.csv"]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # noqa: E731
    done = subprocess.run(command, capture_output=True, timeout=120, text=True, preexec_fn=limit)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: cannot write: File too large" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "a.csv").read_text() == "before"


def test_top_leaves_the_other_classes_of_a_file_empty(cat_photo: Path, tmp_path: Path) -> None:
    petinfer("classify", "--top", 1, cat_photo, "-o", tmp_path / "a.csv")
    (row,) = rows(tmp_path / "a.csv")
    probability = str(Classifier().predict(cat_photo).probability)
    assert (row["cat"], row["dog"]) == (probability, "")
