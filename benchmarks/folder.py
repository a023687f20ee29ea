"""Times a folder of photos: petinfer as a command and as a stream, and ``learn.get_preds``.

usage: python -m benchmarks.folder RUN PHOTOS
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from fastai.vision.all import Learner

from petinfer import Classifier, PhotoError
from petinfer.session.model_file import read_spec
from petinfer.session.threads import available_cores

from . import learner
from .conversions import Conversions
from .measurement import (
    Contender,
    Findings,
    Seconds,
    Setting,
    WrongAnswerError,
    make_row,
    show_progress,
    wait_until_idle,
)
from .photos import evenly_spaced, photos_below
from .question import command

QUESTION = "folder"
ROUNDS = 2
WARM_UP = 64  # photos

Classify = Callable[[Sequence[Path]], list[int]]


def ask(conversions: Conversions, number: int) -> Findings:
    """Time a folder of photos on all cores: petinfer's command and stream, and learn.get_preds."""
    torch.set_num_threads(available_cores())
    learn = learner.load(conversions.run)
    chosen = evenly_spaced(photos_below(conversions.photos), number)
    with tempfile.TemporaryDirectory() as folder:
        photos = [link(photo, Path(folder), i) for i, photo in enumerate(chosen)]
        contenders = all_contenders(conversions.run / "onnx" / "model-int8.onnx", learn, Path(folder))
        seconds, answers = measure_in_turns(contenders, photos)
    setting = Setting(QUESTION, available_cores(), f"{len(photos)} photos", "ms/photo")
    per_photo = {title: [each / len(photos) for each in taken] for title, taken in seconds.items()}
    reference = contenders[0]
    findings = Findings()
    for each in contenders:
        differ = count_different(answers[each.title], answers[reference.title])
        findings.rows.append(make_row(setting, each, reference, per_photo, len(photos), differ))
    return findings


def link(photo: Path, folder: Path, place: int) -> Path:
    """A link to the photo, with a name that keeps its place in the sorted folder."""
    target = folder / f"{place:06}{photo.suffix}"
    target.symlink_to(photo.resolve())
    return target


def all_contenders(model: Path, learn: Learner, folder: Path) -> list[Contender]:
    """The reference first. Each classifies paths and returns class indices."""
    return [
        Contender("fastai learn.get_preds", "fp32", get_preds(learn)),
        Contender("petinfer classify --jsonl", "int8", classify(model, folder)),
        Contender("petinfer predict_stream", "int8", stream(model)),
    ]


def get_preds(learn: Learner) -> Classify:
    """fastai's way to classify many photos."""

    def run(photos: Sequence[Path]) -> list[int]:
        return learn.get_preds(dl=learn.dls.test_dl(list(photos)))[0].argmax(1).tolist()  # type: ignore[no-any-return]

    return run


def stream(model: Path) -> Classify:
    """petinfer from Python."""
    classifier = Classifier(model, orientation="stored")

    def run(photos: Sequence[Path]) -> list[int]:
        found = []
        for answer in classifier.predict_stream(photos):
            if isinstance(answer, PhotoError):
                raise answer
            found.append(classifier.labels.index(answer.label))
        return found

    return run


def classify(model: Path, folder: Path) -> Classify:
    """petinfer as a command, in a new process."""
    labels = read_spec(model).labels

    def run(photos: Sequence[Path]) -> list[int]:
        arguments = [folder] if len(photos) > WARM_UP else photos
        options = ["classify", "--jsonl", "--stored", "--model", str(model), *map(str, arguments)]
        code = "from petinfer.cli import main; main(prog_name='petinfer')"
        printed = subprocess.run([sys.executable, "-c", code, *options], check=True, capture_output=True, text=True)
        return [labels.index(json.loads(line)["label"]) for line in printed.stdout.splitlines()]

    return run


def measure_in_turns(contenders: Sequence[Contender], photos: Sequence[Path]) -> tuple[Seconds, dict[str, list[int]]]:
    """Time every contender on the whole folder once per round; also returns the answers of the last round."""
    seconds: dict[str, list[float]] = {each.title: [] for each in contenders}
    answers: dict[str, list[int]] = {}
    for each in contenders:
        each.run(photos[:WARM_UP])
    for done in range(ROUNDS):
        for each in contenders:
            wait_until_idle()
            start = time.perf_counter()
            answers[each.title] = each.run(photos)
            seconds[each.title].append(time.perf_counter() - start)
        show_progress(QUESTION, done + 1, ROUNDS)
    return seconds, answers


def count_different(answers: Sequence[int], expected: Sequence[int]) -> int:
    """The number of photos whose class is not the expected one, the Learner's."""
    if len(answers) != len(expected):
        raise WrongAnswerError(f"{len(answers)} answers for {len(expected)} photos")
    return sum(one != other for one, other in zip(answers, expected, strict=True))


main = command(ask, "number", 1000, "Number of photos.")

if __name__ == "__main__":
    main()
