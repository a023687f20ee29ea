"""The Learner and how it learns: weights from a file, checkpoints, and a run as a whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fastai.vision.all import Learner, Normalize, error_rate, load_learner, vision_learner
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

from petinfer import Classifier
from train.data import Split, dataloaders, find_photos, random_split
from train.errors import TrainingError
from train.learning import make_learner, seed_everything
from train.recipe import Recipe

SMALL = Recipe(arch="resnet18", size=64, batch_size=8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Starting weights of resnet18 without its last layer, half precision, as the issue's resnet34 file is made."""
    torch.manual_seed(0)
    state = {name: tensor.half() for name, tensor in resnet18().state_dict().items() if not name.startswith("fc.")}
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file({name: tensor for name, tensor in state.items() if "num_batches" not in name}, path)
    return path


def learner(photos: Path, weights: Path | None) -> Learner:
    seed_everything(1)
    split = random_split(find_photos(photos, "species"), photos, SMALL)
    return make_learner(dataloaders(photos, split, SMALL), SMALL, weights)


def test_weights_from_a_file_lead_to_the_pipeline_of_pretrained_ones(
    drawn_photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights once as our file, once where torch.hub finds them as torchvision's: the Learners are equal."""
    state = resnet18().state_dict() | {name: tensor.float() for name, tensor in load_file(weights).items()}
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ours, theirs = learner(drawn_photos, weights), learner(drawn_photos, None)
    body = {name for name in ours.model.state_dict() if name.startswith("0.")}
    assert body and ours.model.state_dict().keys() == theirs.model.state_dict().keys()
    for name in body:
        assert torch.equal(ours.model.state_dict()[name], theirs.model.state_dict()[name]), name
    for learn in (ours, theirs):
        assert [p.requires_grad for p in learn.model.parameters()] == [
            p.requires_grad for p in theirs.model.parameters()
        ]
        assert learn.opt.frozen_idx == 2
        assert [type(f) for f in learn.dls.after_batch.fs] == [type(f) for f in theirs.dls.after_batch.fs]
    statistics = [next(f for f in learn.dls.after_batch.fs if isinstance(f, Normalize)) for learn in (ours, theirs)]
    assert torch.equal(statistics[0].mean, statistics[1].mean) and torch.equal(statistics[0].std, statistics[1].std)


def test_the_learner_is_the_lessons(drawn_photos: Path, weights: Path) -> None:
    ours = learner(drawn_photos, weights)
    lesson = vision_learner(ours.dls, resnet18, metrics=error_rate, pretrained=False)
    assert str(ours.model) == str(lesson.model)
    assert type(ours.loss_func) is type(lesson.loss_func) and ours.opt_func is lesson.opt_func


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no weights for resnet18"),
        (b"\x10\0\0\0\0\0\0\0{}", "no weights for resnet18"),
    ],
)
def test_a_damaged_weights_file_is_told(drawn_photos: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        learner(drawn_photos, tmp_path / "weights.safetensors")


def test_weights_of_another_architecture_are_told(drawn_photos: Path, tmp_path: Path, weights: Path) -> None:
    state = load_file(weights)
    save_file(
        {name: tensor for name, tensor in state.items() if name != "layer2.0.conv1.weight"},
        tmp_path / "few.safetensors",
    )
    with pytest.raises(TrainingError, match=r"few.safetensors: no weights for resnet18: lacks layer2.0.conv1.weight"):
        learner(drawn_photos, tmp_path / "few.safetensors")
    save_file(state | {"extra.weight": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(TrainingError, match=r"holds an unknown extra.weight"):
        learner(drawn_photos, tmp_path / "more.safetensors")


def train(out: Path, photos: Path, weights: Path, *more: object, epochs: int = 1) -> subprocess.Popen[str]:
    """A run in a process of its own, on small photos."""
    recipe = out.parent / "recipe.json"
    recipe.write_text(json.dumps({"arch": "resnet18", "size": 64, "batch_size": 8, "epochs": epochs}))
    command = [
        sys.executable,
        "-m",
        "train",
        "--data",
        photos,
        "--weights",
        weights,
        "--out",
        out,
        "--recipe",
        recipe,
        *more,
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(part) for part in command], env=os.environ | {"PYTHONUNBUFFERED": "1"}, **pipes)


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
    process = train(out, drawn_photos, weights)
    printed, problems = process.communicate()
    assert process.returncode == 0, problems
    return out, printed


def test_a_run_prints_what_the_lesson_prints(run: tuple[Path, str]) -> None:
    _, printed = run
    assert "validation error rate: 0." in printed and "loss: " in printed
    assert "Is this a cat?: " in printed and "Probability it's a cat: " in printed


def test_a_run_keeps_the_learner_its_weights_its_settings_and_its_split(run: tuple[Path, str]) -> None:
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


def test_a_run_is_evaluated_for_programs_and_for_people(run: tuple[Path, str]) -> None:
    metrics = json.loads((run[0] / "metrics.json").read_text())
    assert metrics["validation"]["error"]["photos"] == 6
    assert metrics["validation"]["labels"] == ["dog", "cat"]
    assert "<img" in (run[0] / "report.html").read_text()


def test_a_saved_run_is_evaluated_again_on_other_photos(run: tuple[Path, str], drawn_photos: Path) -> None:
    command = [sys.executable, "-m", "train", "evaluate", run[0], "--test", drawn_photos]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in printed.splitlines()] == ["validation", "test"]
    assert json.loads((run[0] / "metrics.json").read_text())["test"]["error"]["photos"] == 32


def test_predict_prints_what_the_lesson_prints(run: tuple[Path, str], drawn_photos: Path) -> None:
    command = [sys.executable, "-m", "train", "predict", run[0], drawn_photos / "Abyssinian_1.png"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] in ("Is this a cat?: True", "Is this a cat?: False")
    assert lines[1].startswith("Probability it's a cat: ") and len(lines[1].split(".")[1]) == 6


def test_a_run_is_not_written_over(run: tuple[Path, str], drawn_photos: Path, weights: Path) -> None:
    process = train(run[0], drawn_photos, weights)
    printed, problems = process.communicate()
    assert (process.returncode, printed) == (2, "")
    assert problems.strip().endswith(f"{run[0]}: holds a run already (another --out, or --resume to go on with it)")


@pytest.mark.parametrize("argument", ["--data", "--weights"])
def test_a_missing_folder_or_file_is_one_line_and_exit_2(
    argument: str, drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    process = train(tmp_path / "run", drawn_photos, weights, argument, tmp_path / "nowhere")
    printed, problems = process.communicate()
    assert (process.returncode, printed) == (2, "")
    assert problems.splitlines()[-1].startswith(f"Error: {tmp_path}/nowhere: ") and "Traceback" not in problems


def test_without_a_network_fetching_is_one_line_and_exit_2(tmp_path: Path, drawn_photos: Path) -> None:
    """A proxy that refuses stands for a network that is not there."""
    nowhere = {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "FASTAI_HOME": str(tmp_path),
        "TORCH_HOME": str(tmp_path),
    }
    for more in ([], ["--data", str(drawn_photos)]):
        command = [sys.executable, "-m", "train", "--out", str(tmp_path / "run"), *more]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | nowhere)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("Error: ") and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, drawn_photos: Path, weights: Path) -> Path:
    """A run of six epochs that nobody killed."""
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    _, problems = (process := train(out, drawn_photos, weights, "--augment", epochs=6)).communicate()
    assert process.returncode == 0, problems
    return out


@pytest.mark.parametrize("epochs_seen", [2, 4])
def test_a_killed_run_goes_on_by_itself_and_ends_on_the_weights_of_one_that_was_not(
    epochs_seen: int, drawn_photos: Path, weights: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    out = tmp_path / "run"
    process = train(out, drawn_photos, weights, "--augment", epochs=6)
    wait_for_epochs(process, epochs_seen)  # the one before has its checkpoint by then
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "model.safetensors").exists()
    kept = torch.load(out / "checkpoint.pth", weights_only=True)["log"]
    command = [sys.executable, "-m", "train", "--out", out, "--resume"]
    subprocess.run(command, capture_output=True, check=True)
    recipe = json.loads((out / "recipe.json").read_text())
    assert (recipe["settings"]["epochs"], len(recipe["outcome"]["log"])) == (6, 7)
    assert recipe["outcome"]["log"][: len(kept)] == kept and len(kept) >= epochs_seen - 1
    assert (out / "learner.pkl").exists()
    expected, actual = (load_file(folder / "model.safetensors") for folder in (uninterrupted, out))
    for name in expected:
        assert torch.equal(expected[name], actual[name]), name


def test_settings_beside_resume_are_refused(run: tuple[Path, str]) -> None:
    for option in ("--epochs", "--limit"):
        command = [sys.executable, "-m", "train", "--out", run[0], "--resume", option, "9"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2 and "--resume: goes on with the settings of the run" in done.stderr


def test_a_photo_of_a_given_split_that_is_broken_is_left_out(
    run: tuple[Path, str], drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    photos = shutil.copytree(drawn_photos, tmp_path / "photos")
    split = Split.load(run[0] / "split.json")
    (photos / split.train[0]).write_bytes(b"no photo")
    process = train(tmp_path / "run", photos, weights, "--split", run[0] / "split.json")
    _, problems = process.communicate()
    assert process.returncode == 0 and f"left out, cannot be decoded: {photos / split.train[0]}" in problems
    assert Split.load(tmp_path / "run" / "split.json") == Split(split.train[1:], split.valid)


def test_a_split_of_other_photos_is_one_line_and_exit_2(run: tuple[Path, str], weights: Path, tmp_path: Path) -> None:
    process = train(tmp_path / "run", tmp_path, weights, "--split", run[0] / "split.json")
    _, problems = process.communicate()
    assert process.returncode == 2 and "in the split but not in the folder, with 31 more" in problems


@pytest.mark.parametrize(
    "content", ['{"settings": 5}', '{"labels": "colour"}', '{"epochs": "two"}', "[]", '{"era": 1}']
)
def test_a_wrong_recipe_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(TrainingError, match="recipe"):
        Recipe.load(tmp_path / "recipe.json")


def test_two_runs_with_one_seed_and_split_predict_alike(
    run: tuple[Path, str], drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    process = train(tmp_path / "again", drawn_photos, weights, "--split", run[0] / "split.json")
    _, problems = process.communicate()
    assert process.returncode == 0, problems
    first, again = (load_file(folder / "model.safetensors") for folder in (run[0], tmp_path / "again"))
    for name in first:
        assert torch.equal(first[name], again[name]), name


@pytest.mark.parametrize("labels", ["breed", "folder"])
def test_other_labels_are_learnt_and_run_by_the_same_runtime(
    labels: str, drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    """Breeds by name, and anybody's classes by folder: trained, exported and classified without a changed line."""
    for photo in drawn_photos.iterdir():
        folder = tmp_path / "photos" / ("standing" if photo.name.startswith("A") else "lying")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / photo.name).write_bytes(photo.read_bytes())
    process = train(tmp_path / "run", tmp_path / "photos", weights, "--labels", labels)
    _, problems = process.communicate()
    assert process.returncode == 0, problems
    command = [sys.executable, "-m", "export", tmp_path / "run", "--out", tmp_path / "onnx", "--allow-worse"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spec = Classifier(tmp_path / "onnx" / "model-fp32.onnx").spec
    assert set(spec.labels) == ({"Abyssinian", "beagle"} if labels == "breed" else {"standing", "lying"})
    assert spec.score["photos"] == 6


def test_ctrl_c_keeps_what_was_learnt(drawn_photos: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = train(out, drawn_photos, weights, epochs=200)
    wait_for_epochs(process, 2)  # the first has its checkpoint by then
    process.send_signal(signal.SIGINT)
    printed, problems = process.communicate()
    assert process.returncode == 130, problems
    assert "interrupted: what was learnt in" in problems and "error rate: " in printed
    assert json.loads((out / "recipe.json").read_text())["outcome"]["completed"] is False
    assert (out / "model.safetensors").exists()


def test_lr_find_shows_a_rate_and_its_plot_and_does_not_train(
    drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    process = train(tmp_path / "run", drawn_photos, weights, "--find-lr")
    printed, problems = process.communicate()
    assert process.returncode == 0, problems
    assert printed.startswith("valley: ")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lr_find.png"]


def test_two_processes_train_one_learner(drawn_photos: Path, weights: Path, tmp_path: Path) -> None:
    """fastai's ``distrib_ctx``, over gloo on the CPU."""
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"arch": "resnet18", "size": 64, "batch_size": 8}))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--data", drawn_photos, "--weights", weights, "--out", tmp_path / "run", "--recipe", recipe]
    command = [*launch, "-m", "train", *options]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" photos to train on, ") == 2  # each of the two says so
    assert done.stdout.count("Is this a cat?: ") == 1
    assert len(json.loads((tmp_path / "run" / "recipe.json").read_text())["outcome"]["log"]) == 2
