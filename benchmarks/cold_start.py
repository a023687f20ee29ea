"""Measures whole processes, from start to the answer for one photo: wall time and peak resident memory.

usage: python -m benchmarks.cold_start RUN PHOTOS

Linux counts a child's peak from what its parent had resident when it started the child. So this module imports neither
torch nor fastai.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .conversions import REPOSITORY, Conversions
from .measurement import Findings, Named, Row, Setting, WrongAnswerError, make_row, show_progress
from .photos import photos_below, small_photos
from .question import command

TIME, MEMORY = "cold start", "peak memory"

_PETINFER = "from petinfer.__main__ import run; run()"
_IMPORTS = "import numpy, PIL.Image, onnxruntime"
_FASTAI = """
import sys
from fastai.vision.all import load_learner
learn = load_learner(sys.argv[2])
with learn.no_bar(): _, index, _ = learn.predict(sys.argv[1])
print(int(index))
"""
_TORCH = """
import sys, torch
from PIL import Image
from torchvision.transforms import v2
see = v2.Compose([v2.Resize(224), v2.CenterCrop(224), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
                  v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
model = torch.jit.load(sys.argv[2])
with torch.inference_mode():
    print(int(model(see(Image.open(sys.argv[1]).convert("RGB"))[None]).argmax()))
"""


@dataclass(frozen=True)
class Process:
    """A Python program and its arguments; it prints its answer unless ``answers`` is False."""

    name: str
    precision: str
    arguments: Sequence[str]
    answers: bool = True

    @property
    def title(self) -> str:
        """Name and precision, as of a contender."""
        return f"{self.name} {self.precision}"


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    seconds: float
    megabytes: float
    printed: str


def ask(conversions: Conversions, rounds: int) -> Findings:
    """Time whole processes: import, load, one photo."""
    findings = Findings()
    photo = str(small_photos(photos_below(conversions.photos), 1)[0].resolve())
    run = conversions.run.resolve()
    processes = [
        Process("fastai", "fp32", (_FASTAI, photo, str(run / "learner.pkl"))),
        *(
            petinfer_process(run / "onnx" / f"model-{precision}.onnx", precision, photo)
            for precision in ("int8", "fp32")
        ),
        Process("runtime imports alone", "", (_IMPORTS,), answers=False),
    ]
    processes += findings.attempt(
        "torch and torchvision",
        lambda: Process("torch and torchvision", "fp32", (_TORCH, photo, str(conversions.path("traced").resolve()))),
    )
    costs = start_in_turns(processes, rounds)
    check_answers(costs, run)
    findings.rows += make_rows(processes, costs)
    return findings


def petinfer_process(model: Path, precision: str, photo: str) -> Process:
    """The command ``petinfer classify``."""
    arguments = (_PETINFER, "classify", "--stored", "--csv", "--model", str(model), photo)
    return Process("petinfer classify", precision, arguments)


def start_in_turns(processes: Sequence[Process], rounds: int) -> dict[str, list[Cost]]:
    """Start each process once per round. One more round comes first, to read the files from disk, and is not counted."""
    costs: dict[str, list[Cost]] = {each.title: [] for each in processes}
    for done in range(rounds + 1):
        for each in processes:
            cost = start(each)
            if done:
                costs[each.title].append(cost)
        show_progress(TIME, done, rounds)
    return costs


def start(process: Process) -> Cost:
    """Run a process to its end and ask the system what it took."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        command = [sys.executable, "-W", "ignore", "-c", *process.arguments]
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=output, stderr=errors, cwd=REPOSITORY)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        printed, stderr = (_content(file) for file in (output, errors))
    if child.returncode:
        raise RuntimeError(f"{process.title}: exit code {child.returncode}: {stderr[-300:]}")
    peak, own = usage.ru_maxrss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if peak <= own:
        raise RuntimeError(f"{process.title}: its peak memory is not above this process's own, so it is unknown")
    return Cost(seconds, peak / (1e6 if sys.platform == "darwin" else 1e3), printed)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def check_answers(costs: dict[str, list[Cost]], run: Path) -> None:
    """Compare each process's class with that of fastai's. petinfer prints a label, the others a class index."""
    from petinfer.session.model_file import read_spec

    labels = read_spec(run / "onnx" / "model-int8.onnx").labels
    expected = int(costs["fastai fp32"][0].printed)
    for title, each in costs.items():
        for printed in {cost.printed for cost in each if cost.printed}:
            last = printed.splitlines()[-1]
            answer = labels.index(last.split(",")[1]) if title.startswith("petinfer") else int(last)
            if answer != expected:
                raise WrongAnswerError(f"{title}: answers {labels[answer]}, the Learner {labels[expected]}")


def make_rows(processes: Sequence[Process], costs: dict[str, list[Cost]]) -> list[Row]:
    """Time, then memory, of each process compared with fastai's."""
    contenders = [Named(each.name, each.precision) for each in processes]
    compared = {each.title: int(each.answers) for each in processes}
    seconds = {title: [cost.seconds for cost in each] for title, each in costs.items()}
    megabytes = {title: [cost.megabytes for cost in each] for title, each in costs.items()}
    measured = {Setting(TIME, 0, "500x375", "ms"): seconds, Setting(MEMORY, 0, "500x375", "MB"): megabytes}
    return [
        make_row(setting, each, contenders[0], values, answers=compared[each.title])
        for setting, values in measured.items()
        for each in contenders
    ]


main = command(ask, "rounds", 5, "Processes of each kind.")

if __name__ == "__main__":
    main()
