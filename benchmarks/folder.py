"""A folder of photos: petinfer as a command and as a stream, beside ``learn.get_preds``.

usage: python -m benchmarks.folder RUN PHOTOS
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from fastai.vision.all import Learner

from petinfer import Classifier
from petinfer.session.threads import available_cores

from . import learner
from .conversions import Conversions
from .measurement import Contender, Findings, Seconds, WrongAnswerError, row_of, settle, show_progress
from .photos import photos_below, spread
from .question import command

QUESTION = "folder"
ROUNDS = 2
WARM_UP = 64  # photos


def ask(forms: Conversions, photos: int) -> Findings:
    """Time a folder of photos: petinfer's command and stream beside learn.get_preds, with all cores."""
    findings = Findings()
    torch.set_num_threads(available_cores())
    learn = learner.load(forms.run)
    chosen = spread(photos_below(forms.photos), photos)
    with tempfile.TemporaryDirectory() as folder:
        linked = [link(photo, Path(folder), i) for i, photo in enumerate(chosen)]
        contenders = field_of_contenders(forms, learn, Path(folder))
        seconds, answers = in_turn(contenders, linked)
    reference = contenders[0]
    for each in contenders:
        findings.rows.append(
            row_of(
                QUESTION,
                each,
                reference,
                {title: [second / len(linked) for second in taken] for title, taken in seconds.items()},
                threads=available_cores(),
                photo=f"{len(linked)} photos",
                unit="ms/photo",
                answers=len(linked),
                differ=differing(answers[each.title], answers[reference.title]),
            )
        )
    return findings


def link(photo: Path, folder: Path, place: int) -> Path:
    """The photo under a name that keeps its place in the folder."""
    target = folder / f"{place:06}{photo.suffix}"
    target.symlink_to(photo.resolve())
    return target


def field_of_contenders(forms: Conversions, learn: Learner, folder: Path) -> list[Contender]:
    """The first is the reference. Each takes the photos of the folder and gives their classes."""
    model = forms.run / "onnx" / "model-int8.onnx"
    classifier = Classifier(model, orientation="stored")
    labels = classifier.spec.labels

    def get_preds(photos: Sequence[Path]) -> list[int]:
        return learn.get_preds(dl=learn.dls.test_dl(list(photos)))[0].argmax(1).tolist()  # type: ignore[no-any-return]

    def stream(photos: Sequence[Path]) -> list[int]:
        return [labels.index(answer.label) for answer in classifier.predict_stream(photos)]  # type: ignore[union-attr]

    def classify(photos: Sequence[Path]) -> list[int]:
        given = [folder] if len(photos) > WARM_UP else photos
        arguments = ["classify", "--jsonl", "--stored", "--model", str(model), *map(str, given)]
        code = "from petinfer.cli import main; main(prog_name='petinfer')"
        printed = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
        return [labels.index(json.loads(line)["label"]) for line in printed.stdout.splitlines()]

    return [
        Contender("fastai learn.get_preds", "fp32", get_preds),
        Contender("petinfer classify --jsonl", "int8", classify),
        Contender("petinfer predict_stream", "int8", stream),
    ]


def in_turn(contenders: Sequence[Contender], photos: Sequence[Path]) -> tuple[Seconds, dict[str, list[int]]]:
    """Every contender through the whole folder once a round; the answers of the last round."""
    seconds: dict[str, list[float]] = {each.title: [] for each in contenders}
    answers: dict[str, list[int]] = {}
    for each in contenders:
        each.run(photos[:WARM_UP])
    for done in range(ROUNDS):
        for each in contenders:
            settle()
            start = time.perf_counter()
            answers[each.title] = each.run(photos)
            seconds[each.title].append(time.perf_counter() - start)
        show_progress(QUESTION, done + 1, ROUNDS)
    return seconds, answers


def differing(mine: Sequence[int], learners: Sequence[int]) -> int:
    """On how many photos the classes differ; all were answered."""
    if len(mine) != len(learners):
        raise WrongAnswerError(f"{len(mine)} answers for {len(learners)} photos")
    return sum(one != other for one, other in zip(mine, learners, strict=True))


main = command(ask, "number", 1000, "How many photos.")

if __name__ == "__main__":
    main()
