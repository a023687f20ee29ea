"""The command line: exact output, exit codes, and what goes to which stream."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from petinfer import Classifier
from petinfer.cli import main
from petinfer.cli.app import COMMANDS

from ..conftest import cli_runner


def petinfer(*arguments: object, stdin: bytes | None = None) -> Result:
    return cli_runner().invoke(main, [str(argument) for argument in arguments], input=stdin, catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path, cat_photo: Path) -> Path:
    """Photos in an order that differs from that of their names, one in a folder below, and a text file."""
    for name in ("b.jpg", "a.JPG", "below/c.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(cat_photo, tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a photo")
    return tmp_path


def test_the_table_gives_label_probability_and_path(cat_photo: Path) -> None:
    probability = Classifier().predict(cat_photo).probability
    result = petinfer("classify", cat_photo)
    assert (result.exit_code, result.stdout) == (0, f"cat  {probability:7.2%}  {cat_photo}\n")


def test_json_is_one_record_an_input_in_the_order_given(folder: Path) -> None:
    result = petinfer("classify", "--json", folder / "b.jpg", folder / "nowhere.jpg", folder / "a.JPG")
    records = json.loads(result.stdout)
    assert [record["path"] for record in records] == [str(folder / name) for name in ("b.jpg", "nowhere.jpg", "a.JPG")]
    model = Classifier().spec.sha256
    assert list(records[0]) == ["path", "label", "probability", "probabilities", "familiarity", "orientation", "model"]
    assert (records[0]["orientation"], records[0]["model"]) == ("upright", model)
    assert records[1] == {
        "path": str(folder / "nowhere.jpg"),
        "error": f"{folder}/nowhere.jpg: no such file (check the path)",
        "orientation": "upright",
        "model": model,
    }
    assert result.exit_code == 1


def test_a_folder_is_searched_in_a_stable_order(folder: Path) -> None:
    result = petinfer("classify", "--jsonl", folder)
    paths = [json.loads(line)["path"] for line in result.stdout.splitlines()]
    assert paths == [str(folder / name) for name in ("a.JPG", "b.jpg", "below/c.jpeg")]
    assert result.exit_code == 0


def test_a_dash_is_a_photo_on_standard_input(cat_photo: Path) -> None:
    result = petinfer("classify", "-", "--jsonl", stdin=cat_photo.read_bytes())
    assert json.loads(result.stdout)["path"] == "-"
    assert json.loads(result.stdout)["label"] == "cat"


def test_csv_has_a_column_a_class(folder: Path) -> None:
    rows = list(
        csv.DictReader(io.StringIO(petinfer("classify", "--csv", folder / "b.jpg", folder / "notes.txt").stdout))
    )
    assert list(rows[0]) == ["path", "label", "probability", "dog", "cat", "error", "note", "familiarity"]
    assert (rows[0]["label"], rows[0]["cat"], rows[0]["error"]) == ("cat", rows[0]["probability"], "")
    assert (rows[1]["label"], rows[1]["error"]) == ("", f"{folder}/notes.txt: not a photo in a known format "
                                                        "(known are JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM, AVIF)")  # fmt: skip


def test_top_gives_the_most_probable_classes(cat_photo: Path) -> None:
    assert list(json.loads(petinfer("classify", "--jsonl", "--top", 1, cat_photo).stdout)["probabilities"]) == ["cat"]
    assert petinfer("classify", "--top", 2, cat_photo).stdout.split()[::2] == ["cat", "dog", str(cat_photo)]


def test_an_error_in_the_table_goes_to_standard_error(folder: Path) -> None:
    result = petinfer("classify", folder / "notes.txt", folder / "b.jpg")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ") and "notes.txt" in result.stderr
    assert result.stdout.endswith(f"  {folder / 'b.jpg'}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify"], "Missing argument 'PHOTO...'"),
        (["classify", "--model", "none.onnx", "x.jpg"], "Error: none.onnx: no such model file"),
        (["classify", "--device", "abacus", "x.jpg"], "Error: --device: 'abacus' is unknown"),
        (["classify", "--threads", "4096", "x.jpg"], "Error: --threads: 4096 requested, "),
        (["bench", "nowhere.jpg"], "Error: nowhere.jpg: no such file"),
        (["bench", "-"], "standard input (-) cannot be read again"),
        (["bench", "--json", "--csv"], "--json and --csv exclude each other"),
        (["classify", "--json", "--csv", "x.jpg"], "--json and --csv exclude each other"),
        (["classify", "--upright", "--stored", "x.jpg"], "--upright and --stored exclude each other"),
        (["classify", "--json", "--device", "abacus", "x.jpg"], "Error: --device: 'abacus' is unknown"),
    ],
)
def test_a_usage_model_or_device_error_is_one_line_and_exit_2(arguments: list[str], message: str) -> None:
    result = petinfer(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr and "Traceback" not in result.stderr


def test_a_folder_without_photos_is_exit_2(tmp_path: Path) -> None:
    result = petinfer("classify", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no photos in this folder" in result.stderr


def test_the_record_of_a_clipped_16_bit_photo_has_a_note(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    Image.fromarray(np.full((40, 40), 60_000, np.uint16)).save(path)
    (record,) = json.loads(cli_runner().invoke(main, ["classify", "--json", str(path)]).stdout)
    assert record["note"].startswith("grey of more than 8 bits: values were cut")


def test_an_empty_folder_next_to_a_photo_has_its_record(cat_photo: Path, tmp_path: Path) -> None:
    result = petinfer("classify", "--jsonl", tmp_path, cat_photo)
    assert [json.loads(line).get("error") for line in result.stdout.splitlines()] == [
        f"{tmp_path}: a folder without photos, or that cannot be read (give photos)",
        None,
    ]
    assert result.exit_code == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_a_folder_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    assert len(petinfer("classify", "--jsonl", folder).stdout.splitlines()) == 3


def test_standard_input_is_read_once(cat_photo: Path) -> None:
    result = petinfer("classify", "-", "-", stdin=cat_photo.read_bytes())
    assert result.exit_code == 2 and "standard input (-) can be read only once" in result.stderr


def test_a_dash_is_standard_input_even_where_a_file_is_called_so(
    cat_photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_bytes(b"no photo")
    assert petinfer("classify", "-", stdin=cat_photo.read_bytes()).stdout.startswith("cat")


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own."""
    program = [sys.executable, "-m", "petinfer", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, timeout=120, env=os.environ | environment)


@pytest.mark.parametrize("options", [[], ["--threads", "1"], ["--fast-decode", "--upright"]])
def test_the_process_answers_as_the_command_does(options: list[str], lying_photo: Path) -> None:
    """It opens the session before it knows the options, or decodes the photo before it has the session."""
    done = run("classify", "--json", *options, lying_photo)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == json.loads(petinfer("classify", "--json", *options, lying_photo).stdout)


@pytest.mark.parametrize(("options", "status"), [([], 1), (["--threads", "0"], 2), (["--model", "none.onnx"], 2)])
def test_the_process_reports_errors_as_the_command_does(options: list[str], status: int, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"no photo")
    done = run("classify", tmp_path / "photo.jpg", *options)
    assert (done.returncode, done.stdout) == (status, b"")
    assert done.stderr.decode() == petinfer("classify", tmp_path / "photo.jpg", *options).stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_read_once_and_after_the_model(cat_photo: Path, tmp_path: Path) -> None:
    """A second reading would wait for ever, as the first does while nobody writes."""
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    assert run("classify", "--model", "none.onnx", pipe).returncode == 2
    with subprocess.Popen([sys.executable, "-m", "petinfer", "classify", pipe], stderr=subprocess.PIPE) as process:
        pipe.write_bytes(cat_photo.read_bytes()[:20000])
        assert process.stderr is not None and b"image file is truncated" in process.stderr.read()
    assert process.returncode == 1


@pytest.mark.parametrize("moment", ["numpy", "onnxruntime", "click", "PIL.Image"])
def test_ctrl_c_is_quiet_while_it_loads(moment: str, cat_photo: Path) -> None:
    """The signal arrives as that module is found."""
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits it ignored
class Interrupt:
    def find_spec(self, name, *_):
        if name == {moment!r}: signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from petinfer.__main__ import run
run()
"""
    done = subprocess.run([sys.executable, "-c", code, "classify", str(cat_photo)], capture_output=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("form", [[], ["--json"], ["--jsonl"], ["--csv"]])
def test_a_name_that_the_terminal_cannot_print_is_escaped(form: list[str], cat_photo: Path, tmp_path: Path) -> None:
    names = [tmp_path / "emoji 😀.jpg", tmp_path / "plain.jpg"]
    for name in names:
        shutil.copy(cat_photo, name)
    done = run("classify", *form, *names, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"2 cat\n")
    assert done.stdout.count(b"cat") >= 2 and b"plain.jpg" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", ["--json", "--jsonl", "--csv"])
def test_a_full_disk_is_one_line_and_exit_2(form: str, cat_photo: Path) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123  a device, not a file
        program = [sys.executable, "-m", "petinfer", "classify", form, str(cat_photo)]
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: cannot write: No space left on device") and "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_help_on_a_full_disk_is_one_line_and_exit_2() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123  a device, not a file
        program = [sys.executable, "-m", "petinfer", "--help"]
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (
        2,
        "Error: cannot write: No space left on device (check where the answers go)\n",
    )


def test_a_large_file_is_refused_with_the_option_that_allows_it(cat_photo: Path) -> None:
    result = petinfer("classify", "--jsonl", "--max-bytes", 1000, cat_photo)
    assert json.loads(result.stdout)["error"].endswith("over the limit of 0 MB (raise --max-bytes)")
    assert petinfer("classify", "--jsonl", "--max-bytes", 100_000, cat_photo).exit_code == 0


def test_skipped_image_files_are_reported_on_standard_error(folder: Path) -> None:
    (folder / "phone.cr2").write_bytes(b"raw")
    (folder / ".hidden.jpg").write_bytes(b"hidden")
    result = petinfer("classify", "--jsonl", folder)
    assert (len(result.stdout.splitlines()), result.exit_code) == (3, 0)
    assert result.stderr == "3 cat, 2 skipped (1 hidden, 1 .cr2 is not read)\n"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse the name")
def test_csv_has_names_that_are_not_utf8(cat_photo: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.jpg"
    shutil.copy(cat_photo, name)
    done = subprocess.run(
        [sys.executable, "-m", "petinfer", "classify", "--csv", name], capture_output=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[1].startswith(os.fsencode(tmp_path) + rb"/\udcff.jpg,cat,")


def test_empty_standard_input_is_named(cat_photo: Path) -> None:
    result = petinfer("classify", "--jsonl", "-", stdin=b"")
    assert json.loads(result.stdout)["error"].endswith(": empty, 0 bytes (check the file)")
    assert result.exit_code == 1


def test_help_loads_nothing_heavy() -> None:
    code = "import sys\nfrom petinfer.cli import main\nprint({'numpy', 'onnxruntime', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, text=True).stdout == "set()\n"


def test_a_start_loads_the_file_of_its_command_alone(cat_photo: Path) -> None:
    """Each file costs every start a millisecond or more."""
    code = f"""
import sys
from petinfer.cli import main
main(["classify", {str(cat_photo)!r}], standalone_mode=False)
print(sorted(name for name in sys.modules if name.startswith(("petinfer.cli.", "petinfer.bench", "petinfer.verify"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, text=True)
    loaded = [f"petinfer.cli.{name}" for name in ("app", "classify", "formats", "inputs")]
    assert done.stdout.splitlines()[1:] == [str(loaded)]


def test_help_lists_each_command_with_its_whole_line() -> None:
    listed = petinfer("--help").stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_a_misspelt_command_is_exit_2() -> None:
    result = petinfer("clasify")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: No such command 'clasify'" in result.stderr


def test_a_closed_pipe_ends_quietly(cat_photo: Path) -> None:
    photos = " ".join([str(cat_photo)] * 40)  # so many that the pipe is closed before the last answer
    command = f"{sys.executable} -m petinfer classify --jsonl {photos} | head -c 1"
    result = subprocess.run(command, shell=True, capture_output=True, timeout=120, text=True)
    assert (result.stdout, result.stderr) == ("{", "")


def test_bench_reports_each_step_and_the_device(cat_photo: Path) -> None:
    content = json.loads(petinfer("bench", cat_photo, "--json", "--queries", 3, "--duration", 0, "--threads", 1).stdout)
    assert (content["photo"], content["answer"]["label"]) == (str(cat_photo), "cat")
    assert (content["provider"], content["threads"], content["precision"]) == ("CPUExecutionProvider", 1, "int8")
    assert list(content["milliseconds"]) == ["decode", "resize", "inference", "total"]
    assert list(content["milliseconds"]["total"]) == ["p50", "p90", "p99", "p99.9", "max"]
    assert content["p90_bound"] is None  # three queries bound nothing
    assert [len(samples) for samples in content["samples"].values()] == [3, 3, 3, 3]
    steps = [content["samples"][step] for step in ("decode", "resize", "inference")]
    assert [sum(parts) for parts in zip(*steps, strict=True)] == pytest.approx(content["samples"]["total"])


def test_every_command_is_in_the_readme() -> None:
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"petinfer {name}" not in readme] == []
