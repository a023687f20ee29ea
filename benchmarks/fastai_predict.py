"""From a photo's file to the answer: petinfer beside fastai's ``learn.predict``, in turn, on the same photos.

usage: python -m benchmarks.fastai_predict RUN/learner.pkl PHOTOS --model RUN/onnx/model-int8.onnx [--model …]
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import click

warnings.filterwarnings("ignore")

from fastai.vision.all import Learner, load_learner  # noqa: E402

from petinfer import Classifier  # noqa: E402
from petinfer.bench import processor_name  # noqa: E402

Predict = Callable[[Path], tuple[str, float]]  # a photo's label and probability


def by_fastai(learn: Learner, labels: tuple[str, ...]) -> Predict:
    """fastai's way, its progress bar left out."""

    def predict(photo: Path) -> tuple[str, float]:
        _, index, probabilities = learn.predict(photo)
        return labels[int(index)], float(probabilities[index])

    return predict


def by_petinfer(classifier: Classifier) -> Predict:
    """petinfer's way."""

    def predict(photo: Path) -> tuple[str, float]:
        prediction = classifier.predict(photo)
        return prediction.label, prediction.probability

    return predict


@click.command()
@click.argument("learner", type=click.Path(path_type=Path))
@click.argument("photos", type=click.Path(path_type=Path))
@click.option(
    "--model", "models", type=click.Path(path_type=Path), multiple=True, help="Model files; without, the bundled one."
)
@click.option("--number", type=click.IntRange(1), default=200, show_default=True, help="How many photos.")
@click.option("--threads", type=click.IntRange(1), help="Of each runtime.  [default: the cores at hand]")
def main(learner: Path, photos: Path, models: tuple[Path, ...], number: int, threads: int | None) -> None:
    """Time LEARNER's predict and petinfer on photos of the folder PHOTOS."""
    import torch

    classifiers = [Classifier(model, threads=threads, orientation="stored") for model in models or [None]]
    torch.set_num_threads(classifiers[0].threads)
    learn = load_learner(learner)
    ways = {"learn.predict": by_fastai(learn, classifiers[0].spec.labels)}
    ways |= {f"petinfer {classifier.spec.precision}": by_petinfer(classifier) for classifier in classifiers}
    found = sorted(photos.glob("*.jpg"))
    chosen = [found[i * len(found) // number] for i in range(min(number, len(found)))]
    with learn.no_bar():
        seconds, answers = in_turn(ways, chosen)
    print(f"{processor_name()}, {classifiers[0].threads} threads, {len(chosen)} photos of {photos}")
    report(seconds, answers)


def in_turn(
    ways: dict[str, Predict], photos: list[Path]
) -> tuple[dict[str, list[float]], dict[str, list[tuple[str, float]]]]:
    """Each photo goes each way before the next photo does; every way is warmed up on the first three photos."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[tuple[str, float]]] = {name: [] for name in ways}
    for predict in ways.values():
        for photo in photos[:3]:
            predict(photo)
    for done, photo in enumerate(photos, 1):
        for name, predict in ways.items():
            start = time.perf_counter()
            answer = predict(photo)
            seconds[name].append(time.perf_counter() - start)
            answers[name].append(answer)
        print(f"\r{done} of {len(photos)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return seconds, answers


def report(seconds: dict[str, list[float]], answers: dict[str, list[tuple[str, float]]]) -> None:
    """Medians, ratios photo by photo to the first way, and whether the answers agree with its."""
    first = next(iter(seconds))
    print(f"{'':16}{'median ms':>10}{'ratio':>8}{'answers that differ':>21}{'max |Δp|':>10}")
    for name, times in seconds.items():
        ratio = statistics.median(mine / theirs for mine, theirs in zip(times, seconds[first], strict=True))
        pairs = list(zip(answers[name], answers[first], strict=True))
        differ = sum(mine[0] != theirs[0] for mine, theirs in pairs)
        moved = max((abs(mine[1] - theirs[1]) for mine, theirs in pairs if mine[0] == theirs[0]), default=0.0)
        print(f"{name:16}{statistics.median(times) * 1000:10.2f}{ratio:8.3f}{differ:21}{moved:10.1e}")


if __name__ == "__main__":
    main()
