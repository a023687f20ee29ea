"""A folder of photos: an input is a list of paths, and what is decided is a list of class indices."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from petinfer.session.threads import available_cores

from ..measurement import Contender

Classify = Callable[[Sequence[Path]], list[int]]


def get_preds(run: Path) -> Contender:
    """fastai's way to classify many photos."""
    import torch

    from .. import learner

    torch.set_num_threads(available_cores())
    learn = learner.load(run)

    def classify(photos: Sequence[Path]) -> list[int]:
        return learn.get_preds(dl=learn.dls.test_dl(list(photos)))[0].argmax(1).tolist()  # type: ignore[no-any-return]

    return _contender("fastai learn.get_preds", "fp32", classify)


def stream(model: Path) -> Contender:
    """petinfer from Python."""
    from petinfer import Classifier, PhotoError

    classifier = Classifier(model, orientation="stored")

    def classify(photos: Sequence[Path]) -> list[int]:
        found = []
        for answer in classifier.predict_stream(photos):
            if isinstance(answer, PhotoError):
                raise answer
            found.append(classifier.labels.index(answer.label))
        return found

    return _contender("petinfer predict_stream", "int8", classify)


def command(model: Path, folder: Path, number: int) -> Contender:
    """petinfer as a command, in a new process. It gets the folder itself when it is to classify all ``number`` photos."""
    from petinfer.session.model_file import read_spec

    labels = read_spec(model).labels

    def classify(photos: Sequence[Path]) -> list[int]:
        arguments = [folder] if len(photos) == number else photos
        options = ["classify", "--jsonl", "--stored", "--model", str(model), *map(str, arguments)]
        code = "from petinfer.cli import main; main(prog_name='petinfer')"
        printed = subprocess.run([sys.executable, "-c", code, *options], check=True, capture_output=True, text=True)
        return [labels.index(json.loads(line)["label"]) for line in printed.stdout.splitlines()]

    return _contender("petinfer classify --jsonl", "int8", classify)


def _contender(name: str, precision: str, classify: Classify) -> Contender:
    return Contender(name, precision, classify, decide=lambda found: found)
