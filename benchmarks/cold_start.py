"""Whole processes, from nothing to the answer for one photo: wall time, and the peak of resident memory.

usage: python -m benchmarks.cold_start RUN PHOTOS

A child's peak begins with what its parent had resident when it was started (Linux counts the memory that exec leaves):
so this imports neither torch nor fastai.
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

from .conversions import REPOSITORY, Conversions
from .measurement import Contender, Findings, Row, WrongAnswerError, row_of, show_progress
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
    """A command to start, and what it must print; None for one that answers nothing."""

    name: str
    precision: str
    arguments: Sequence[str]
    answers: bool = True

    @property
    def title(self) -> str:
        """As a contender's."""
        return f"{self.name} {self.precision}"


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    seconds: float
    megabytes: float
    printed: str


def ask(forms: Conversions, rounds: int) -> Findings:
    """Time whole processes: import, load, one photo."""
    findings = Findings()
    photo = small_photos(photos_below(forms.photos), 1)[0].resolve()
    started = [Process("fastai", "fp32", (_FASTAI, str(photo), str((forms.run / "learner.pkl").resolve())))]
    for name, form in (("petinfer classify", "int8"), ("petinfer classify", "fp32")):
        model = str((forms.run / "onnx" / f"model-{form}.onnx").resolve())
        started.append(Process(name, form, (_PETINFER, "classify", "--stored", "--csv", "--model", model, str(photo))))
    started.append(Process("runtime imports alone", "", (_IMPORTS,), answers=False))
    started += findings.attempt(
        "torch and torchvision",
        lambda: Process("torch and torchvision", "fp32", (_TORCH, str(photo), str(forms.path("traced").resolve()))),
    )
    costs = in_turn(started, rounds)
    check_answers(costs, forms.run)
    findings.rows += rows_of(started, costs)
    return findings


def in_turn(processes: Sequence[Process], rounds: int) -> dict[str, list[Cost]]:
    """Each process once a round; a first round, which reads the files from disk, is not counted."""
    costs: dict[str, list[Cost]] = {each.title: [] for each in processes}
    for done in range(rounds + 1):
        for each in processes:
            cost = start(each)
            if done:
                costs[each.title].append(cost)
        show_progress(TIME, done, rounds)
    return costs


def start(process: Process) -> Cost:
    """Run a process to its end, and ask the system what it took."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        command = [sys.executable, "-W", "ignore", "-c", *process.arguments]
        begun = time.perf_counter()
        child = subprocess.Popen(command, stdout=output, stderr=errors, cwd=REPOSITORY)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read().decode()
        errors.seek(0)
        told = errors.read().decode()
    if child.returncode:
        raise RuntimeError(f"{process.title}: ended with {child.returncode}: {told[-300:]}")
    peak, own = usage.ru_maxrss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if peak <= own:
        raise RuntimeError(f"{process.title}: its peak memory cannot be told from this process's own")
    return Cost(seconds, peak / (1e6 if sys.platform == "darwin" else 1e3), printed)


def check_answers(costs: dict[str, list[Cost]], run: Path) -> None:
    """Each process must have answered as fastai's did; petinfer prints a word, the others the class's number."""
    from petinfer import Classifier

    labels = Classifier(run / "onnx" / "model-int8.onnx").spec.labels
    expected = int(costs["fastai fp32"][0].printed)
    for title, each in costs.items():
        for printed in {cost.printed for cost in each if cost.printed}:
            last = printed.splitlines()[-1]
            answer = labels.index(last.split(",")[1]) if title.startswith("petinfer") else int(last)
            if answer != expected:
                raise WrongAnswerError(f"{title}: answers {labels[answer]}, the Learner {labels[expected]}")


def rows_of(processes: Sequence[Process], costs: dict[str, list[Cost]]) -> list[Row]:
    """Time, then memory, of each process beside fastai's."""
    contenders = [Contender(each.name, each.precision, lambda _: None) for each in processes]
    compared = {each.title: int(each.answers) for each in processes}
    measured = {
        (TIME, "ms"): {title: [cost.seconds for cost in each] for title, each in costs.items()},
        (MEMORY, "MB"): {title: [cost.megabytes for cost in each] for title, each in costs.items()},
    }
    return [
        row_of(
            question, each, contenders[0], values, threads=0, photo="500x375", unit=unit, answers=compared[each.title]
        )
        for (question, unit), values in measured.items()
        for each in contenders
    ]


main = command(ask, "rounds", 5, "Processes of each kind.")

if __name__ == "__main__":
    main()
