"""Times the way from a JPEG's bytes to the answer, for photos of 500 x 375 px and of 12 megapixels.

usage: python -m benchmarks.photo_to_answer RUN PHOTOS
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from . import learner
from .contenders import photo
from .contenders.normalisation import Statistics
from .conversions import Conversions
from .measurement import Findings, Row, Setting, make_row
from .model_step import compare_answers
from .photos import camera_photos, photos_below, small_photos
from .question import command, thread_counts
from .turns import Recipes, Turns, load, measure_in_turns, started
from .worker import Build

QUESTION = "photo to answer"
REFERENCE = "fastai learn.predict fp32"
PHOTOS = 12  # of 500 x 375 px
CAMERA_PHOTOS = 4
VARIANTS: tuple[tuple[str, Literal["exact", "fast"]], ...] = (("int8", "exact"), ("int8", "fast"), ("fp32", "exact"))


def ask(conversions: Conversions, rounds: int) -> Findings:
    """Time petinfer and its alternatives from a photo's bytes to the answer."""
    findings = Findings()
    learn = learner.load(conversions.run)
    small = [path.read_bytes() for path in small_photos(photos_below(conversions.photos), PHOTOS)]
    large = camera_photos(conversions.photos, CAMERA_PHOTOS)
    sizes = (("500x375", small, rounds), ("12 Mpx", large, max(4, rounds // 2)))
    expected = {size: learner.decisions(learn, photos) for size, photos, _ in sizes}
    for threads in thread_counts():
        builds = recipes(conversions, learner.statistics_of(learn), threads, findings)
        with started(builds, findings) as workers:
            for size, photos, times in sizes:
                turns = Turns(load(workers, photos, findings), findings)
                findings.rows += measure(Setting(QUESTION, threads, size), turns, expected[size], times)
                workers = turns.workers
    return findings


def measure(setting: Setting, turns: Turns, expected: Sequence[int], rounds: int) -> list[Row]:
    """A row for each contender on photos of one size, compared with ``learn.predict``."""
    differ = compare_answers(turns, expected)
    seconds = measure_in_turns(turns, len(expected), rounds, f"{QUESTION}, {setting.photo}, threads {setting.threads}")
    reference = turns.find(REFERENCE)
    return [make_row(setting, each, reference, seconds, len(expected), differ[each.title]) for each in turns.workers]


def recipes(conversions: Conversions, statistics: Statistics, threads: int, findings: Findings) -> Recipes:
    """What builds the reference, petinfer and every rival, by name."""
    run = conversions.run
    builds: dict[str, Build] = {"learn.predict": partial(photo.predict, run, threads)}
    for precision, decode in VARIANTS:
        model = run / "onnx" / f"model-{precision}.onnx"
        builds[f"petinfer {precision}, {decode}"] = partial(photo.petinfer, model, threads, precision, decode)
    for path in findings.attempt("onnxruntime", lambda: conversions.path("plain_onnx")):
        builds["onnxruntime"] = partial(photo.onnxruntime, path, statistics, threads)
    return builds | {"torch eager": partial(photo.torch_with_fastai_pixels, run, threads)}


main = command(ask, "rounds", 48, "Rounds on 500 x 375 px for each number of threads; half as many on 12 megapixels.")

if __name__ == "__main__":
    main()
