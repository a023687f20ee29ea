"""From a JPEG's bytes to the answer: a photo of 500 x 375 px, and one of 12 megapixels.

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
from .measurement import Contender, Findings, differing, in_turn, row_of
from .model_step import plain_session
from .photos import camera_photos, photos_below, small_photos
from .question import command, thread_counts

QUESTION = "photo to answer"
REFERENCE = "fastai learn.predict"
PHOTOS = 12  # of 500 x 375 px
CAMERA_PHOTOS = 4

_VARIANTS: tuple[tuple[str, Literal["exact", "fast"]], ...] = (("int8", "exact"), ("int8", "fast"), ("fp32", "exact"))


def ask(forms: Conversions, rounds: int) -> Findings:
    """Time petinfer and others from a photo's bytes to the answer."""
    findings = Findings()
    learn = learner.load(forms.run)
    small = [photo.read_bytes() for photo in small_photos(photos_below(forms.photos), PHOTOS)]
    sizes = {"500x375": (small, rounds), "12 Mpx": (camera_photos(forms.photos, CAMERA_PHOTOS), max(4, rounds // 2))}
    for threads in thread_counts():
        torch.set_num_threads(threads)
        contenders = field_of_contenders(forms, learn, threads, findings)
        for size, (photos, times) in sizes.items():
            measure(findings, contenders, photos, learner.decisions(learn, photos), size, threads, times)
    return findings


def measure(
    findings: Findings,
    contenders: Sequence[Contender],
    photos: Sequence[bytes],
    expected: Sequence[int],
    size: str,
    threads: int,
    rounds: int,
) -> None:
    """All contenders on photos of one size, each beside ``learn.predict``."""
    differ = {each.title: differing(each, photos, expected) for each in contenders}
    seconds = in_turn(contenders, photos, rounds, f"{QUESTION}, {size}, threads {threads}")
    findings.rows += [
        row_of(
            QUESTION,
            each,
            contenders[0],
            seconds,
            threads=threads,
            photo=size,
            answers=len(photos),
            differ=differ[each.title],
        )
        for each in contenders
    ]


def field_of_contenders(forms: Conversions, learn: Learner, threads: int, findings: Findings) -> list[Contender]:
    """The reference, petinfer, and every rival who can take part here, at this number of threads."""
    own = [by_petinfer(forms, threads, precision, decode) for precision, decode in _VARIANTS]
    builds: dict[str, Callable[[], Contender]] = {
        "onnxruntime": lambda: by_onnxruntime(forms, learn, threads),
        "torch eager": lambda: Contender("torch eager", "fp32", learner.torch_with_fastai_pixels(learn)),
    }
    fastai = Contender(REFERENCE, "fp32", lambda photo: learn.predict(photo)[2])
    return [fastai, *own] + [each for name, build in builds.items() for each in findings.attempt(name, build)]


def by_petinfer(forms: Conversions, threads: int, precision: str, decode: Literal["exact", "fast"]) -> Contender:
    """petinfer; orientation as fastai's, which does not turn photos."""
    model = forms.run / "onnx" / f"model-{precision}.onnx"
    classifier = Classifier(model, threads=threads, orientation="stored", decode=decode)
    labels = classifier.spec.labels
    name = "petinfer" if decode == "exact" else f"petinfer {decode}"
    return Contender(name, precision, classifier.predict, decide=lambda answer: labels.index(answer.label))


def by_onnxruntime(forms: Conversions, learn: Learner, threads: int) -> Contender:
    """onnxruntime with what its user writes around it: Pillow, numpy, and the statistics copied from the training."""
    session = plain_session(forms.path("plain_onnx"), threads)
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


main = command(ask, "rounds", 48, "Rounds on 500 x 375 px at each number of threads; half as many on 12 megapixels.")

if __name__ == "__main__":
    main()
