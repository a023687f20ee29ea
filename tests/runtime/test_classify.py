"""Options of `petinfer classify` that are refused or passed on, what is completed, and when there is a summary."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete
from PIL import Image

from petinfer import Classifier
from petinfer.cli.app import main
from petinfer.cli.classify import _summary_at_the_end, _Tally

from .several_labels import colours_model, photo
from .test_cli import petinfer
from .test_cli_terminal import needs_terminal, summary

pytest.importorskip("onnx")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A model that answers in microseconds."""
    return colours_model(tmp_path / "small.onnx", None)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a photo that is red, and one that is hidden."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("red.png", ".hidden.png"):
        Image.fromarray(photo(200, 100, 0)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("option", "value", "limits"),
    [
        ("--max-bytes", "0", "x>=1"),
        ("--max-pixels", "0", "x>=1"),
        ("--top", "0", "x>=1"),
        ("--min-probability", "-0.1", "0<=x<=1"),
        ("--min-probability", "1.1", "0<=x<=1"),
        ("--min-coverage", "-0.1", "0<=x<=1"),
        ("--min-coverage", "1.1", "0<=x<=1"),
    ],
)
def test_a_number_outside_its_limits_is_exit_2(option: str, value: str, limits: str) -> None:
    result = petinfer("classify", "x.jpg", option, value)
    problem = f"Error: Invalid value for '{option}': {value} is not in the range {limits}."
    assert (result.exit_code, result.stdout, result.stderr.splitlines()[-1]) == (2, "", problem)


def test_a_limit_of_one_byte_pixel_or_class_is_one(photos: Path, small: Path) -> None:
    red = photos / "red.png"
    for option, problem in (("--max-bytes", "raise --max-bytes"), ("--max-pixels", "raise --max-pixels")):
        result = petinfer("classify", "--jsonl", red, "--model", small, option, 1)
        assert result.exit_code == 1 and problem in json.loads(result.stdout)["error"]
    assert petinfer("classify", red, "--model", small, "--max-pixels", 16).exit_code == 0


@pytest.mark.parametrize(("least", "label"), [(0.9, "red"), (1, None)])
def test_a_less_probable_photo_has_no_label(least: float, label: str | None, photos: Path, small: Path) -> None:
    result = petinfer("classify", "--jsonl", photos / "red.png", "--model", small, "--min-probability", least)
    record = json.loads(result.stdout)
    assert 0.97 < record["probability"] < 1
    assert (record["label"], record.get("sure")) == (label, None if label else False)


def completed(*words: str) -> list[tuple[str, str]]:
    """What a shell is offered for the last word, and of which type."""
    items: list[CompletionItem] = ShellComplete(main, {}, "petinfer", "_PETINFER_COMPLETE").get_completions(
        list(words[:-1]), words[-1]
    )
    return [(item.value, item.type) for item in items]


def test_paths_and_devices_are_completed() -> None:
    for words in (["classify", "ho"], ["classify", "--files-from", "ho"], ["classify", "-o", "ho"]):
        assert completed(*words) == [("ho", "file")]
    assert completed("classify", "--device", "c") == [("cuda", "plain"), ("coreml", "plain"), ("cpu", "plain")]
    assert completed("classify", "--device", "a") == [("auto", "plain")]


def test_a_single_photo_of_a_folder_has_a_summary_if_others_were_skipped(photos: Path, small: Path) -> None:
    assert petinfer("classify", photos, "--model", small).stderr == "1 red, 1 skipped (1 hidden)\n"
    (photos / ".hidden.png").unlink()
    assert petinfer("classify", photos, "--model", small).stderr == ""


def test_a_single_photo_that_is_copied_has_a_summary(photos: Path, small: Path, tmp_path: Path) -> None:
    result = petinfer("classify", photos / "red.png", "--model", small, "--copy-to", tmp_path / "sorted")
    assert result.stderr == f"1 red; 1 copied to {tmp_path / 'sorted'}\n"


def test_numbers_of_the_summary_have_commas() -> None:
    skipped = {"hidden": 1000, ".cr2 is not read": 1}
    assert summary({"cat": 1000}, 1000, skipped) == (
        "1,000 cat, 1,000 unreadable, 1,001 skipped (1,000 hidden, 1 .cr2 is not read)"
    )
    assert summary({}) == "0 photos"


@pytest.mark.parametrize(
    ("labels", "end"),
    [(10, "10 breed 9"), (11, "10 breed 9, 9 in 1 other class"), (12, "10 breed 9, 17 in 2 other classes")],
)
def test_labels_after_the_tenth_are_counted_together(labels: int, end: str) -> None:
    assert summary({f"breed {number}": 19 - number for number in range(labels)}).endswith(f"11 breed 8, {end}")


def test_thousands_of_other_classes_have_commas() -> None:
    labels = {f"breed {number}": 1 for number in range(1010)}
    assert summary(labels).endswith(", 1 breed 9, 1,000 in 1,000 other classes")


def test_help_names_the_defaults() -> None:
    text = " ".join(petinfer("classify", "--help").stdout.split())
    assert "a name that `petinfer devices` lists. [default: auto]" in text


def test_photos_are_decoded_and_turned_as_the_options_say(lying_photo: Path) -> None:
    """At four times its size, so that a fast decoder may leave pixels out."""
    with Image.open(lying_photo) as image:
        large = image.resize((4 * image.width, 4 * image.height))
        large.save(lying_photo, exif=image.getexif(), quality=95)
    found = []
    for options in (["--stored"], ["--upright"], ["--upright", "--fast-decode"]):
        record = json.loads(petinfer("classify", "--jsonl", lying_photo, *options).stdout)
        assert record["orientation"] == options[0].removeprefix("--")
        found.append(record["probability"])
    stored, upright, fast = Classifier(orientation="stored"), Classifier(), Classifier(decode="fast")
    assert found == [each.predict(lying_photo).probability for each in (stored, upright, fast)]
    assert len(set(found)) == 3


def watched(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[str, str]:
    """What a terminal shows of standard error, and what standard output has, which is not a file nor a terminal."""
    import pty

    (screen, terminal), (answers, pipe) = pty.openpty(), os.pipe()
    with os.fdopen(terminal, "w") as errors, os.fdopen(pipe, "w") as out:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", errors)
        monkeypatch.setattr(sys, "stdout", out)
        main(["classify", *map(str, arguments)], standalone_mode=False)
        monkeypatch.undo()
        errors.write("end")
        errors.flush()
        shown = os.read(screen, 10_000).decode()
    with os.fdopen(screen), os.fdopen(answers) as found:
        return shown.removesuffix("end"), found.read()


@needs_terminal
def test_progress_is_for_several_photos_whose_answers_go_to_a_file(
    photos: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    red, out = photos / "red.png", ["-o", tmp_path / "a.csv"]
    one = watched(monkeypatch, red, "--model", small, *out)
    quiet = watched(monkeypatch, red, red, "--model", small, "-q", *out)
    assert one == quiet == ("", "")
    shown, _ = watched(monkeypatch, red, red, "--model", small, *out)
    assert shown.startswith("0/2 photos\r") and shown.endswith("\r2 red\r\n")
    shown, answers = watched(monkeypatch, red, red, "--model", small)
    assert (shown, answers) == ("2 red\r\n", f"red     98.17%  {red}\n" * 2)


@pytest.mark.parametrize(
    ("end", "printed"), [(None, "1 cat\n"), (KeyboardInterrupt, "1 cat\n"), (MemoryError, "1 cat\n"), (OSError, "")]
)
def test_the_summary_is_printed_at_each_end_but_a_closed_pipe(
    end: type[BaseException] | None, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = _Tally()
    with pytest.raises(end) if end else nullcontext(), _summary_at_the_end(tally, None):
        list(tally.counted(iter([{"label": "cat"}])))
        if end:
            raise end
    assert capsys.readouterr().err == printed
