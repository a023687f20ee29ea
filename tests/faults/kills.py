"""Kill training and export (-9) at random moments: no partial file may be taken as complete, and the run must go on.

    python -m tests.faults.kills train 20 FOLDER
    python -m tests.faults.kills export 20 FOLDER

FOLDER is for the photos, the runs and the model files. Each kill comes at a moment chosen at random within the time that a
whole run took; `train` then resumes, and `export` starts again into the same folder.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

from petinfer import Classifier
from petinfer.session.graph import check_graph
from petinfer.session.model_file import digest, read_spec

from ..conftest import draw

SETTINGS = {"arch": "resnet18", "size": 64, "batch_size": 8, "epochs": 2, "freeze_epochs": 1, "labels": "species"}


def main() -> None:
    """Prepare the folder, then kill; exits with 1 if a file was partial or the last run failed."""
    what, kills, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).absolute()
    prepare(folder)
    if what == "train":
        kill_train(folder, kills)
    else:
        kill_export(folder, kills)


def prepare(folder: Path) -> None:
    """Photos, starting weights and a recipe, unless they are there."""
    (photos := folder / "photos").mkdir(parents=True, exist_ok=True)
    for i in range(8):
        draw("standing", i).save(photos / f"Abyssinian_{i}.png")
        draw("lying", 100 + i).save(photos / f"beagle_{i}.png")
    torch.manual_seed(0)  # the weights are the same for every start, or a resumed run would refuse them
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    state = {name: tensor.half() for name, tensor in resnet18().state_dict().items() if "num_batches" not in name}
    save_file({name: tensor for name, tensor in state.items() if name[:3] != "fc."}, folder / "weights.safetensors")


def train_command(folder: Path, out: Path) -> list[str | Path]:
    """A run of some seconds, or what resumes it if it has begun."""
    command: list[str | Path] = [sys.executable, "-W", "ignore", "-m", "train", "--out", out]
    if (out / "recipe.json").exists():
        return [*command, "--resume"]
    given = ["--data", folder / "photos", "--weights", folder / "weights.safetensors"]
    return [*command, *given, "--recipe", folder / "settings.json"]


def kill_train(folder: Path, kills: int) -> None:
    """Kill and resume again and again; a run that finishes first is followed by another one."""
    seconds = timed(train_command(folder, folder / "whole"))
    ends: Counter[str] = Counter()
    out, number = folder / "run-0", 0
    while sum(ends.values()) < kills:
        command = train_command(folder, out)
        ends[run_and_kill(command, seconds) + " --resume" * ("--resume" in command)] += 1
        check_run(out)
        if (out / "report.html").exists():
            number += 1
            out = folder / f"run-{number}"
        print(dict(ends), f"{number} runs finished", flush=True)
    timed(train_command(folder, out))
    check_run(out)
    assert (out / "learner.pkl").exists()
    print("the last run was finished")


def check_run(out: Path) -> None:
    """Whatever is in a run's folder under its own name is complete."""
    for path in out.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    for path in out.glob("*.safetensors"):
        load_file(path)
    for path in [*out.glob("*.pkl"), *out.glob("*.pt"), *out.glob("*.pth")]:
        torch.load(path, map_location="cpu", weights_only=False)


def kill_export(folder: Path, kills: int) -> None:
    """Kill, and export again into the same folder."""
    if not (folder / "whole" / "learner.pkl").exists():
        timed(train_command(folder, folder / "whole"))
    out = folder / "exported"
    command = [sys.executable, "-W", "ignore", "-m", "export", folder / "whole", "--out", out, "--allow-worse"]
    command += ["--photos", folder / "photos", "--precision", "fp32", "--precision", "fp16"]
    seconds = timed(command)
    ends: Counter[str] = Counter()
    while sum(ends.values()) < kills:
        ends[run_and_kill(command, seconds)] += 1
        check_export(out)
        print(dict(ends), f"{len(list(out.glob('*.part')))} partial files, under names of their own", flush=True)
    timed(command)
    check_export(out)
    assert Classifier(out / "model-fp16.onnx").labels == ("dog", "cat")
    print("the last export was finished")


def check_export(out: Path) -> None:
    """Every model file is loadable and has the digest that is written in it; every other file is whole."""
    for path in out.glob("*.onnx"):
        check_graph(path)
        written = read_spec(path).sha256
        assert digest(path, written) == written, path
    for path in out.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    for path in out.glob("*.html"):
        assert path.read_text(encoding="utf-8").rstrip().endswith("</html>"), path


def timed(command: list[str | Path]) -> float:
    """Run to the end; the seconds that it took."""
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    return time.monotonic() - begin


def run_and_kill(command: list[str | Path], seconds: float) -> str:
    """Start, wait for a random part of ``seconds``, kill the process and its children; how it ended."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        status = process.wait(timeout=random.uniform(0, seconds))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "killed"
    assert status == 0, f"exit {status}: {' '.join(map(str, command))}"
    return "finished before"


if __name__ == "__main__":
    main()
