"""Times the way from a JPEG's bytes to the answer, for photos of 500 x 375 px and of 12 megapixels.

usage: python -m benchmarks.photo_to_answer RUN PHOTOS
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from fastai.vision.all import Learner
from PIL import Image

from petinfer import Classifier

from . import learner
from .conversions import Conversions
from .measurement import Contender, Findings, Row, Setting, count_different, make_row, measure_in_turns
from .model_step import plain_session
from .photos import camera_photos, photos_below, small_photos
from .question import command, thread_counts

QUESTION = "photo to answer"
REFERENCE = "fastai learn.predict"
PHOTOS = 12  # of 500 x 375 px
CAMERA_PHOTOS = 4
VARIANTS: tuple[tuple[str, Literal["exact", "fast"]], ...] = (("int8", "exact"), ("int8", "fast"), ("fp32", "exact"))


def ask(conversions: Conversions, rounds: int) -> Findings:
    """Time petinfer and its alternatives from a photo's bytes to the answer."""
    findings = Findings()
    learn = learner.load(conversions.run)
    small = [photo.read_bytes() for photo in small_photos(photos_below(conversions.photos), PHOTOS)]
    large = camera_photos(conversions.photos, CAMERA_PHOTOS)
    for threads in thread_counts():
        torch.set_num_threads(threads)
        contenders = all_contenders(conversions, learn, threads, findings)
        for size, photos, times in (("500x375", small, rounds), ("12 Mpx", large, max(4, rounds // 2))):
            expected = learner.decisions(learn, photos)
            findings.rows += measure(Setting(QUESTION, threads, size), contenders, photos, expected, times)
    return findings


def measure(
    setting: Setting,
    contenders: Sequence[Contender],
    photos: Sequence[bytes],
    expected: Sequence[int],
    rounds: int,
) -> list[Row]:
    """A row for each contender on photos of one size, compared with ``learn.predict``."""
    differ = {each.title: count_different(each, photos, expected) for each in contenders}
    title = f"{QUESTION}, {setting.photo}, threads {setting.threads}"
    seconds = measure_in_turns(contenders, photos, rounds, title)
    return [make_row(setting, each, contenders[0], seconds, len(photos), differ[each.title]) for each in contenders]


def all_contenders(conversions: Conversions, learn: Learner, threads: int, findings: Findings) -> list[Contender]:
    """The reference, petinfer, and every rival that can take part with this number of threads."""
    own = [petinfer(conversions, threads, precision, decode) for precision, decode in VARIANTS]
    builds: dict[str, Callable[[], Contender]] = {
        "onnxruntime": lambda: onnxruntime(conversions, learn, threads),
        "torch eager": lambda: Contender("torch eager", "fp32", learner.torch_with_fastai_pixels(learn)),
    }
    fastai = Contender(REFERENCE, "fp32", lambda photo: learn.predict(photo)[2])
    return [fastai, *own] + [each for name, build in builds.items() for each in findings.attempt(name, build)]


def petinfer(conversions: Conversions, threads: int, precision: str, decode: Literal["exact", "fast"]) -> Contender:
    """petinfer, with fastai's orientation: photos are not turned."""
    model = conversions.run / "onnx" / f"model-{precision}.onnx"
    classifier = Classifier(model, threads=threads, orientation="stored", decode=decode)
    name = "petinfer" if decode == "exact" else f"petinfer {decode}"
    return Contender(name, precision, classifier.predict, decide=lambda answer: classifier.labels.index(answer.label))


def onnxruntime(conversions: Conversions, learn: Learner, threads: int) -> Contender:
    """onnxruntime with code that its user would write: Pillow, numpy, and the statistics copied from the training."""
    session = plain_session(conversions.path("plain_onnx"), threads)
    statistics = learner.statistics_of(learn)

    def run(photo: bytes) -> Any:
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BILINEAR)
        logits = session.run(None, {"input": learner.normalise(np.asarray(square), statistics)})[0]
        exponentials = np.exp(logits - logits.max())
        return exponentials / exponentials.sum()

    return Contender("onnxruntime", "fp32", run)


main = command(ask, "rounds", 48, "Rounds on 500 x 375 px for each number of threads; half as many on 12 megapixels.")

if __name__ == "__main__":
    main()
