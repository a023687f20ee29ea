"""What `petinfer classify` shows to people: the summary, the progress on a terminal, and what shells complete."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from petinfer.cli.classify import _Tally
from petinfer.cli.progress import _clock

from .test_cli import petinfer, run

needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is POSIX's")


def summary(labels: dict[str, int], unreadable: int = 0, skipped: dict[str, int] | None = None) -> str:
    tally = _Tally()
    records = [{"label": label} for label, number in labels.items() for _ in range(number)]
    assert list(tally.counted(iter(records + [{"error": ""}] * unreadable))) == records + [{"error": ""}] * unreadable
    tally.skipped = Counter(skipped)
    return tally.summary()


def test_the_summary_counts_labels_and_what_was_not_classified() -> None:
    assert summary({"cat": 2, "dog": 1031}, 1, {"hidden": 38, ".cr2 is not read": 2}) == (
        "1,031 dog, 2 cat, 1 unreadable, 40 skipped (38 hidden, 2 .cr2 is not read)"
    )
    assert summary({}, 2) == "2 unreadable"


def test_the_summary_names_the_ten_most_frequent_labels() -> None:
    labels = {f"breed {number}": 20 - number for number in range(13)}
    assert summary(labels).endswith(", 11 breed 9, 27 in 3 other classes")


def test_a_label_cannot_control_the_terminal() -> None:
    assert summary({"\x1b[31mcat": 1}) == "1 \\x1b[31mcat"


@pytest.mark.parametrize("form", [[], ["--json"], ["--jsonl"], ["--csv"]])
def test_several_photos_end_with_a_summary_on_standard_error(form: list[str], cat_photo: Path) -> None:
    result = petinfer("classify", *form, cat_photo, cat_photo)
    assert (result.exit_code, result.stderr) == (0, "2 cat\n")
    assert "2 cat" not in result.stdout


def test_a_single_photo_has_no_summary(cat_photo: Path) -> None:
    assert petinfer("classify", cat_photo).stderr == ""


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_leaves_answers_and_errors(option: str, cat_photo: Path, tmp_path: Path) -> None:
    shutil.copy(cat_photo, tmp_path / "a.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    (tmp_path / ".hidden.jpg").write_bytes(b"hidden")
    result = petinfer("classify", option, tmp_path, "--copy-to", tmp_path / "sorted")
    assert result.stdout.endswith("a.jpg\n")
    assert result.stderr.startswith(f"Error: {tmp_path / 'broken.jpg'}: not a photo") and result.stderr.count("\n") == 1


def on_a_terminal(*arguments: object, answers: Path | None = None, **environment: str) -> list[str]:
    """The lines that a terminal shows in turn, of standard error and, without a file of answers, of standard output."""
    import pty

    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "petinfer", "classify", *map(str, arguments)]
    variables = os.environ | {"TERM": "xterm"} | environment
    if answers is None:
        subprocess.run(command, stdout=terminal, stderr=terminal, timeout=120, env=variables)
    else:
        with answers.open("w") as out:
            subprocess.run(command, stdout=out, stderr=terminal, timeout=120, env=variables)
    os.set_blocking(screen, False)
    os.write(terminal, b"\r")  # there is something to read
    shown = os.read(screen, 100_000).decode()
    os.close(screen)
    os.close(terminal)
    return [line for line in shown.replace("\r\n", "\n\r").split("\r") if line.strip()]


@needs_terminal
@pytest.mark.parametrize("form", [[], ["--jsonl"]])
def test_a_terminal_shows_the_progress_of_a_file(form: list[str], cat_photo: Path, tmp_path: Path) -> None:
    shown = on_a_terminal(*form, *[cat_photo] * 3, answers=tmp_path / "answers")
    assert shown[0] == "0/3 photos"
    assert [line.split(",")[0] for line in shown[1:-1]] == ["1/3 photos", "2/3 photos", "3/3 photos"]
    assert shown[-1] == "3 cat\n"
    assert (tmp_path / "answers").read_text().count("cat") >= 3


@needs_terminal
def test_the_table_on_a_terminal_is_not_mixed_with_the_progress(cat_photo: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    shown = on_a_terminal(cat_photo, tmp_path / "broken.jpg", cat_photo)
    progress = [line for line in shown if "/3 photos" in line]
    assert [line[:3] for line in progress] == ["0/3", "1/3", "2/3", "3/3"]
    rest = [line for line in shown if line not in progress]
    assert rest[0] == rest[2] == petinfer("classify", cat_photo).stdout
    assert rest[1].startswith("Error: ") and rest[3] == "2 cat, 1 unreadable\n"


@needs_terminal
def test_output_to_a_file_shows_the_progress(cat_photo: Path, tmp_path: Path) -> None:
    assert on_a_terminal(cat_photo, cat_photo, "-o", tmp_path / "a.csv")[0] == "0/2 photos"


@needs_terminal
@pytest.mark.parametrize(("options", "term"), [(["-q"], "xterm"), ([], "dumb")])
def test_quiet_and_dumb_terminals_have_no_progress(
    options: list[str], term: str, cat_photo: Path, tmp_path: Path
) -> None:
    shown = on_a_terminal(*options, cat_photo, cat_photo, answers=tmp_path / "answers", TERM=term)
    assert shown == ([] if options else ["2 cat\n"])


@needs_terminal
@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_gets_no_colours(environment: dict[str, str], cat_photo: Path, tmp_path: Path) -> None:
    """There are none to turn off: see https://no-color.org."""
    shown = on_a_terminal(cat_photo, tmp_path / "nowhere.jpg", **environment)
    assert len(shown) > 3 and not any("\x1b" in line for line in shown)


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00"), (65, "1:05"), (3600, "1:00:00"), (90061, "25:01:01")])
def test_the_time_left_is_minutes_and_seconds(seconds: float, text: str) -> None:
    assert _clock(seconds) == text


def complete(shell: str, words: str = "", word: int = 0) -> str:
    """What the command prints where a shell asks it to complete ``words``, or for the shell's script."""
    code = "import sys; from petinfer.__main__ import run; sys.argv[0] = 'petinfer'; run()"
    environment = os.environ | {"_PETINFER_COMPLETE": shell, "COMP_WORDS": words, "COMP_CWORD": str(word)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, text=True, env=environment)
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_completion_script(shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("needs bash, whose version click asks for")
    script = complete(f"{shell}_source")
    assert "_PETINFER_COMPLETE" in script and f"{shell}_complete" in script


def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    program = tmp_path / "petinfer"
    program.write_text(f"#!{sys.executable}\nfrom petinfer.__main__ import run\nrun()\n")
    program.chmod(0o755)
    press_tab = "COMP_WORDS=(petinfer ver) COMP_CWORD=1; _petinfer_completion petinfer; echo ${COMPREPLY[@]}"
    command = ["bash", "-c", f"{complete('bash_source')}\n{press_tab}"]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, capture_output=True, timeout=120, text=True, env=os.environ | {"PATH": path})
    assert (done.stdout, done.returncode) == ("verify\n", 0)


def test_commands_options_devices_and_files_are_completed() -> None:
    assert complete("bash_complete", "petinfer de", 1) == "plain,devices\n"
    assert complete("bash_complete", "petinfer classify --move", 2) == "plain,--move-to\n"
    assert complete("bash_complete", "petinfer classify --device op", 3) == "plain,openvino\n"
    assert complete("bash_complete", "petinfer classify --device au", 3) == "plain,auto\n"
    assert complete("bash_complete", "petinfer classify holi", 2) == "file,holi\n"
    assert complete("bash_complete", "petinfer classify -o an", 3) == "file,an\n"


def test_each_record_has_the_orientation_and_the_models_hash(lying_photo: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    for option in ("upright", "stored"):
        done = run("classify", "--jsonl", f"--{option}", lying_photo, tmp_path / "broken.jpg")
        records = [json.loads(line) for line in done.stdout.splitlines()]
        assert [record["orientation"] for record in records] == [option, option]
        assert all(len(record["model"]) == 64 for record in records)
