"""A run as a whole: its files, what it prints, Ctrl-C, resuming, and wrong arguments."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from fastai.vision.all import load_learner
from PIL import Image
from safetensors.torch import load_file

from export.options import Options
from export.pipeline import export
from petinfer import Classifier
from train.__main__ import main
from train.artifacts import replacing
from train.calibration import fit_temperature
from train.errors import TrainingError
from train.evaluation import predict_logits
from train.recipe import Recipe
from train.split import Split

from ..conftest import cli_runner, obeys_ctrl_c

TIMEOUT = 600  # seconds for one process, which takes 15 on two idle cores


def invoke(*arguments: object) -> Result:
    """``python -m train`` with these arguments, in this process, which has imported fastai already."""
    return cli_runner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def options(out: Path, photos: Path, weights: Path, epochs: int) -> list[object]:
    """Those of a run on small photos."""
    recipe = out.parent / "recipe.json"
    recipe.write_text(json.dumps({"arch": "resnet18", "size": 64, "batch_size": 8, "epochs": epochs}))
    return ["--data", photos, "--weights", weights, "--out", out, "--recipe", recipe]


def train(out: Path, photos: Path, weights: Path, *more: object, epochs: int = 1) -> Result:
    """A run on small photos."""
    return invoke(*options(out, photos, weights, epochs), *more)


def start(out: Path, photos: Path, weights: Path, *more: object, epochs: int) -> subprocess.Popen[str]:
    """A run in a process of its own, to be interrupted."""
    command = [sys.executable, "-m", "train", *options(out, photos, weights, epochs), *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([str(part) for part in command], env=environment, preexec_fn=obeys_ctrl_c, **pipes)


def wait_for_epochs(process: subprocess.Popen[str], epochs: int) -> None:
    """Read what a run prints until so many epochs have their line in its table."""
    assert process.stdout is not None
    for line in process.stdout:
        epochs -= bool(re.search(r"\d+ +\d+\.\d{6} +\d+\.\d{6}", line))
        if not epochs:
            return


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, drawn_photos: Path, weights: Path) -> tuple[Path, str]:
    """A finished run of the lesson on the drawn photos, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "lesson"
    done = train(out, drawn_photos, weights)
    assert done.exit_code == 0, done.stderr
    return out, done.stdout


def test_a_run_prints_what_the_lesson_prints(run: tuple[Path, str]) -> None:
    _, printed = run
    assert "validation error rate: 0." in printed and "loss: " in printed
    assert "Is this a cat?: " in printed and "Probability it's a cat: " in printed


def test_a_run_saves_the_learner_its_weights_and_its_settings(run: tuple[Path, str]) -> None:
    out, _ = run
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["labels"] == ["dog", "cat"]
    assert recipe["preprocessing"]["resize"] == {
        "method": "crop",
        "size": [64, 64],
        "pad_mode": "reflection",
        "resample": 2,
    }
    assert recipe["preprocessing"]["normalize"]["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert len(recipe["outcome"]["log"]) == 2
    assert {"fastai", "torch", "python"} <= set(recipe["versions"])
    pickled = load_learner(out / "learner.pkl").model.state_dict()
    for name, tensor in load_file(out / "model.safetensors").items():
        assert torch.equal(tensor, pickled[name]), name
    assert not list(out.glob("*.part"))


def test_a_run_names_its_inputs_by_their_content(run: tuple[Path, str], drawn_photos: Path, weights: Path) -> None:
    recipe = json.loads((run[0] / "recipe.json").read_text())
    sums = sorted(hashlib.sha256(photo.read_bytes()).hexdigest() for photo in drawn_photos.iterdir())
    assert recipe["photos"]["content_sha256"] == hashlib.sha256("".join(f"{s}\n" for s in sums).encode()).hexdigest()
    assert recipe["weights"] == {"file": weights.name, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}


def test_a_run_writes_metrics_and_a_report(run: tuple[Path, str]) -> None:
    metrics = json.loads((run[0] / "metrics.json").read_text())
    assert metrics["validation"]["error"]["photos"] == 6
    assert metrics["validation"]["labels"] == ["dog", "cat"]
    assert "<img" in (run[0] / "report.html").read_text()


def test_a_saved_run_is_evaluated_again_on_other_photos(run: tuple[Path, str], drawn_photos: Path) -> None:
    done = invoke("evaluate", run[0], "--test", drawn_photos)
    assert done.exit_code == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["validation", "test"]
    assert json.loads((run[0] / "metrics.json").read_text())["test"]["error"]["photos"] == 32


def test_a_saved_run_is_calibrated_again_on_other_photos(
    drawn_photos: Path, weights: Path, tmp_path: Path, run: tuple[Path, str]
) -> None:
    out, others = tmp_path / "run", tmp_path / "others"
    shutil.copytree(run[0], out)
    others.mkdir()
    for photo in sorted(drawn_photos.iterdir())[::4]:
        Image.open(photo).rotate(90).save(others / photo.name)
    learn = load_learner(out / "learner.pkl")
    logits, labels = predict_logits(learn, sorted(others.iterdir()))
    expected = fit_temperature(logits, labels)
    done = invoke("calibrate", out, "--photos", others)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"temperature {expected:.3f}, fitted on 8 photos")
    outcome = json.loads((out / "recipe.json").read_text())["outcome"]
    assert outcome["temperature"] == pytest.approx(expected) and outcome["calibrated_on"]["photos"] == 8
    calibrated = load_learner(out / "learner.pkl")
    assert predict_logits(calibrated, sorted(others.iterdir()))[0] == pytest.approx(
        logits / expected, rel=1e-4, abs=1e-6
    )
    last = list(load_file(out / "model.safetensors").values())[-1]
    assert any(torch.equal(last, tensor) for tensor in calibrated.model.state_dict().values())


def test_photos_of_the_training_cannot_calibrate(run: tuple[Path, str], drawn_photos: Path) -> None:
    done = invoke("calibrate", run[0], "--photos", drawn_photos)
    assert done.exit_code == 2 and done.stderr == (
        "Error: --photos: 26 photos are of the run's training (give photos that are not)\n"
    )


def test_predict_prints_what_the_lesson_prints(run: tuple[Path, str], drawn_photos: Path) -> None:
    done = invoke("predict", run[0], drawn_photos / "Abyssinian_1.png")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] in ("Is this a cat?: True", "Is this a cat?: False")
    assert lines[1].startswith("Probability it's a cat: ") and len(lines[1].split(".")[1]) == 6


def test_a_run_is_not_written_over(run: tuple[Path, str], drawn_photos: Path, weights: Path) -> None:
    done = train(run[0], drawn_photos, weights)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.strip().endswith(
        f"{run[0]}: already contains a run (use another --out, or --resume to continue it)"
    )


@pytest.mark.parametrize("argument", ["--data", "--weights"])
def test_a_missing_folder_or_file_is_one_line_and_exit_2(
    argument: str, drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    done = train(tmp_path / "run", drawn_photos, weights, argument, tmp_path / "nowhere")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"Error: {tmp_path}/nowhere: ")


def test_without_a_network_fetching_is_one_line_and_exit_2(tmp_path: Path, drawn_photos: Path) -> None:
    """A proxy that refuses connections stands for a missing network."""
    nowhere = {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "FASTAI_HOME": str(tmp_path),
        "TORCH_HOME": str(tmp_path),
    }
    code = """
import sys
from train.__main__ import main
for photos in ([], ["--data", sys.argv[2]]):
    try: main(["--out", sys.argv[1], *photos])
    except SystemExit as done: print("exit", done.code)
"""
    command = [sys.executable, "-c", code, tmp_path / "run", drawn_photos]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | nowhere, timeout=TIMEOUT)
    assert done.stdout.count("exit 2\n") == 2 and "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("Error: ") and sum(line.startswith("Error: ") for line in lines) == 2


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, drawn_photos: Path, weights: Path) -> Path:
    """A run of four epochs that nobody killed."""
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    done = train(out, drawn_photos, weights, "--augment", epochs=4)
    assert done.exit_code == 0, done.stderr
    return out


@pytest.mark.parametrize("epochs_seen", [2, 3])
def test_a_killed_run_resumes_and_ends_on_the_weights_of_one_that_was_not(
    epochs_seen: int, drawn_photos: Path, weights: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    out = tmp_path / "run"
    process = start(out, drawn_photos, weights, "--augment", epochs=4)
    wait_for_epochs(process, epochs_seen)  # the one before has its checkpoint by then
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=TIMEOUT)
    assert not (out / "model.safetensors").exists()
    kept = torch.load(out / "checkpoint.pth", weights_only=True)["log"]
    done = invoke("--out", out, "--resume")
    assert done.exit_code == 0, done.stderr
    recipe = json.loads((out / "recipe.json").read_text())
    assert (recipe["settings"]["epochs"], len(recipe["outcome"]["log"])) == (4, 5)
    assert recipe["outcome"]["log"][: len(kept)] == kept and len(kept) >= epochs_seen - 1
    assert (out / "learner.pkl").exists()
    expected, actual = (load_file(folder / "model.safetensors") for folder in (uninterrupted, out))
    for name in expected:
        assert torch.equal(expected[name], actual[name]), name


def test_settings_with_resume_are_refused(run: tuple[Path, str]) -> None:
    for option in ("--epochs", "--limit"):
        done = invoke("--out", run[0], "--resume", option, "9")
        assert done.exit_code == 2 and "--resume: continues with the settings of the run" in done.stderr


def test_a_photo_of_a_given_split_that_is_broken_is_left_out(
    run: tuple[Path, str], drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    photos = shutil.copytree(drawn_photos, tmp_path / "photos")
    split = Split.load(run[0] / "split.json")
    (photos / split.train[0]).write_bytes(b"no photo")
    done = train(tmp_path / "run", photos, weights, "--split", run[0] / "split.json")
    assert done.exit_code == 0 and f"left out, cannot be decoded: {photos / split.train[0]}" in done.stderr
    assert Split.load(tmp_path / "run" / "split.json") == Split(split.train[1:], split.valid)


def test_a_split_of_other_photos_is_one_line_and_exit_2(run: tuple[Path, str], weights: Path, tmp_path: Path) -> None:
    done = train(tmp_path / "run", tmp_path, weights, "--split", run[0] / "split.json")
    assert done.exit_code == 2 and "in the split but not in the folder, with 31 more" in done.stderr


@pytest.mark.parametrize(
    "content", ['{"settings": 5}', '{"labels": "colour"}', '{"epochs": "two"}', "[]", '{"era": 1}']
)
def test_a_wrong_recipe_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(TrainingError, match="recipe"):
        Recipe.load(tmp_path / "recipe.json")


def test_two_runs_with_one_seed_and_split_predict_alike(
    run: tuple[Path, str], drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    done = train(tmp_path / "again", drawn_photos, weights, "--split", run[0] / "split.json")
    assert done.exit_code == 0, done.stderr
    first, again = (load_file(folder / "model.safetensors") for folder in (run[0], tmp_path / "again"))
    for name in first:
        assert torch.equal(first[name], again[name]), name


@pytest.mark.parametrize("labels", ["breed", "folder"])
def test_breeds_and_folders_are_trained_exported_and_classified(
    labels: str, drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    """Breeds by file name, and any classes by folder."""
    for photo in drawn_photos.iterdir():
        folder = tmp_path / "photos" / ("standing" if photo.name.startswith("A") else "lying")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / photo.name).write_bytes(photo.read_bytes())
    done = train(tmp_path / "run", tmp_path / "photos", weights, "--labels", labels)
    assert done.exit_code == 0, done.stderr
    export(Options(tmp_path / "run", tmp_path / "onnx", precisions=("fp32",)))
    spec = Classifier(tmp_path / "onnx" / "model-fp32.onnx").spec
    assert set(spec.labels) == ({"Abyssinian", "beagle"} if labels == "breed" else {"standing", "lying"})
    assert spec.score["photos"] == 6


def test_ctrl_c_saves_the_weights_so_far(drawn_photos: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out, drawn_photos, weights, epochs=200)
    wait_for_epochs(process, 2)  # the first has its checkpoint by then
    process.send_signal(signal.SIGINT)
    printed, problems = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, problems
    assert "interrupted after " in problems and "error rate: " in printed
    assert json.loads((out / "recipe.json").read_text())["outcome"]["completed"] is False
    assert (out / "model.safetensors").exists()


def test_lr_find_prints_a_rate_saves_its_plot_and_does_not_train(
    drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    done = train(tmp_path / "run", drawn_photos, weights, "--find-lr", "--batch-size", "2")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("valley: ")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lr_find.png"]


def test_two_processes_train_one_learner(drawn_photos: Path, weights: Path, tmp_path: Path) -> None:
    """fastai's ``distrib_ctx``, over gloo on the CPU."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "train", *options(tmp_path / "run", drawn_photos, weights, 1)]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" photos to train on, ") == 2  # each of the two says so
    assert done.stdout.count("Is this a cat?: ") == 1
    assert len(json.loads((tmp_path / "run" / "recipe.json").read_text())["outcome"]["log"]) == 2


def test_ctrl_c_twice_exits_with_130_and_without_a_traceback(drawn_photos: Path, weights: Path, tmp_path: Path) -> None:
    process = start(tmp_path / "run", drawn_photos, weights, epochs=200)
    wait_for_epochs(process, 2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, problems = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, problems
    assert "Traceback" not in problems and "Aborted" not in problems


def test_ctrl_c_before_the_end_of_the_first_epoch_saves_nothing(
    drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    """In a process that sends itself the signal with its first batch."""
    code = """
import os, signal, sys
from fastai.vision.all import Callback, Learner
class Interrupt(Callback):
    order, sent = -20, False
    def before_batch(self):
        if not self.sent: os.kill(os.getpid(), signal.SIGINT)
        self.sent = True
fine_tune = Learner.fine_tune
def interrupted(self, *args, **kwargs):
    with self.added_cbs(Interrupt()): fine_tune(self, *args, **kwargs)
Learner.fine_tune = interrupted
from train.__main__ import main
main(sys.argv[1:])
"""
    out = tmp_path / "run"
    command = [sys.executable, "-c", code, *map(str, options(out, drawn_photos, weights, 1))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, preexec_fn=obeys_ctrl_c)
    assert done.returncode == 130, done.stderr
    assert "nothing was saved" in done.stderr and "error rate" not in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ["recipe.json", "split.json"]


def test_the_files_of_a_run_have_the_same_mode(run: tuple[Path, str]) -> None:
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in run[0].iterdir()}
    assert len(set(modes.values())) == 1, modes


def test_help_does_not_import_fastai() -> None:
    code = "import sys, train.__main__; print({'torch', 'fastai', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "set()\n"


@pytest.mark.parametrize("arguments", [("predict", "photo.jpg"), ("evaluate",)])
def test_a_run_that_does_not_exist_is_one_line_and_exit_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    name, *rest = arguments
    done = invoke(name, tmp_path / "nowhere", *rest)
    assert (done.exit_code, done.stderr.startswith(f"Error: {tmp_path}/nowhere: no such folder")) == (2, True)


def test_resuming_what_is_not_a_run_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = invoke("--resume", "--out", tmp_path)
    assert (done.exit_code, done.stderr.startswith(f"Error: {tmp_path}: not a run")) == (2, True)


def test_a_teacher_of_another_student_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"teacher": "efficientnet-lite2"}')
    recipe = ["--recipe", tmp_path / "recipe.json", "--arch", "efficientnet-lite2"]
    done = invoke("--out", tmp_path / "run", *recipe)
    expected = (
        "Error: recipe: a teacher needs resnet18 or resnet34, not efficientnet-lite2 (another arch, or no teacher)\n"
    )
    assert (done.exit_code, done.stderr) == (2, expected)
    assert not (tmp_path / "run").exists()


def test_a_teacher_in_several_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    (tmp_path / "recipe.json").write_text('{"teacher": "efficientnet-lite2"}')
    done = invoke("--out", tmp_path / "run", "--recipe", tmp_path / "recipe.json")
    assert done.exit_code == 2 and "needs a single process" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "write", [lambda part: part.write_text("x" * 99_999), lambda part: torch.save(torch.zeros(99_999), part)]
)
def test_a_full_disk_is_one_line(write: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "file.part").symlink_to("/dev/full")
    message = r"file: cannot be written: .* \(free some space, or another --out\)"
    with pytest.raises(TrainingError, match=message), replacing(tmp_path / "file") as part:
        write(part)
    assert list(tmp_path.iterdir()) == []


def test_several_folders_a_held_out_source_and_calibration(drawn_photos: Path, weights: Path, tmp_path: Path) -> None:
    """Photos of one folder train, those of the other validate, and a listed photo does neither."""
    folders = [tmp_path / "web", tmp_path / "phone"]
    for i, photo in enumerate(sorted(drawn_photos.iterdir())):
        folders[i % 2].mkdir(exist_ok=True)
        shutil.copy(photo, folders[i % 2])
    (tmp_path / "list.txt").write_text(f"{sorted(folders[0].iterdir())[0].name}\n")
    more = ("--data", folders[1], "--hold-out-source", "phone", "--without", tmp_path / "list.txt", "--calibrate")
    done = train(tmp_path / "run", folders[0], weights, *more)
    assert done.exit_code == 0, done.stderr
    split = Split.load(tmp_path / "run" / "split.json")
    assert {name.split("/")[0] for name in split.train} == {"web"} and len(split.train) == 15
    assert {name.split("/")[0] for name in split.valid} == {"phone"} and len(split.valid) == 16
    outcome = json.loads((tmp_path / "run" / "recipe.json").read_text())["outcome"]
    assert 0.2 <= outcome["temperature"] <= 5
