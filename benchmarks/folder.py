"""Times a folder of photos: petinfer as a command and as a stream, and ``learn.get_preds``.

usage: python -m benchmarks.folder RUN PHOTOS
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from petinfer.session.threads import available_cores

from .contenders import folder
from .conversions import Conversions
from .measurement import Findings, Row, Seconds, Setting, WrongAnswerError, make_row, show_progress
from .photos import evenly_spaced, photos_below
from .question import command
from .turns import Turns, load, started

QUESTION = "folder"
REFERENCE = "fastai learn.get_preds fp32"
ROUNDS = 2
WARM_UP = 64  # photos
ANSWERING = 900.0  # s
WARM, ALL = 0, 1  # the inputs

Answers = dict[str, list[int]]  # by contender's title, a class index per photo


def ask(conversions: Conversions, number: int) -> Findings:
    """Time a folder of photos on all cores: petinfer's command and stream, and learn.get_preds."""
    findings = Findings()
    chosen = evenly_spaced(photos_below(conversions.photos), number)
    run, model = conversions.run, conversions.run / "onnx" / "model-int8.onnx"
    with tempfile.TemporaryDirectory() as place:
        photos = [link(photo, Path(place), i) for i, photo in enumerate(chosen)]
        builds = {
            "learn.get_preds": partial(folder.get_preds, run),
            "petinfer classify": partial(folder.command, model, Path(place), len(photos)),
            "petinfer predict_stream": partial(folder.stream, model),
        }
        with started(builds, findings, ANSWERING) as workers:
            turns = Turns(load(workers, [photos[:WARM_UP], photos], findings, warm_up=1), findings, untimed=0)
            seconds, answers = measure(turns)
            findings.rows += make_rows(turns, seconds, answers, len(photos))
    return findings


def link(photo: Path, folder: Path, place: int) -> Path:
    """A link to the photo, with a name that keeps its place in the sorted folder."""
    target = folder / f"{place:06}{photo.suffix}"
    target.symlink_to(photo.resolve())
    return target


def measure(turns: Turns) -> tuple[Seconds, Answers]:
    """Time every contender on the whole folder once per round; also returns the answers of the last round."""
    seconds: Seconds = {each.title: [] for each in turns.workers}
    answers: Answers = {}
    for done in range(ROUNDS):
        for each in [*turns.workers]:
            taken = turns.take(each, ALL)
            if taken is not None:
                seconds[each.title].append(taken)
                answers[each.title] = each.answer()
        show_progress(QUESTION, done + 1, ROUNDS)
    turns.report()
    return seconds, answers


def make_rows(turns: Turns, seconds: Seconds, answers: Answers, photos: int) -> list[Row]:
    """A row for each contender, per photo; the answers are compared with the Learner's."""
    setting = Setting(QUESTION, available_cores(), f"{photos} photos", "ms/photo")
    per_photo = {title: [each / photos for each in taken] for title, taken in seconds.items()}
    reference = turns.find(REFERENCE)
    expected = answers[reference.title]
    return [
        make_row(setting, each, reference, per_photo, photos, count_different(answers[each.title], expected))
        for each in turns.workers
    ]


def count_different(answers: list[int], expected: list[int]) -> int:
    """The number of photos whose class is not the expected one, the Learner's."""
    if len(answers) != len(expected):
        raise WrongAnswerError(f"{len(answers)} answers for {len(expected)} photos")
    return sum(one != other for one, other in zip(answers, expected, strict=True))


main = command(ask, "number", 1000, "Number of photos.")

if __name__ == "__main__":
    main()
