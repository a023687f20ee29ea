"""From a JPEG's bytes to the answer: decoding, resizing and the network are timed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..measurement import Contender
from .network import plain_session
from .normalisation import Statistics, normalise


def predict(run: Path, threads: int) -> Contender:
    """fastai's own way."""
    import torch

    from .. import learner

    torch.set_num_threads(threads)
    learn = learner.load(run)
    return Contender("fastai learn.predict", "fp32", lambda photo: learn.predict(photo)[2])


def petinfer(model: Path, threads: int, precision: str, decode: Literal["exact", "fast"]) -> Contender:
    """petinfer, with fastai's orientation: photos are not turned."""
    from petinfer import Classifier

    classifier = Classifier(model, threads=threads, orientation="stored", decode=decode)
    name = "petinfer" if decode == "exact" else f"petinfer {decode}"
    return Contender(name, precision, classifier.predict, decide=lambda answer: classifier.labels.index(answer.label))


def onnxruntime(path: Path, statistics: Statistics, threads: int) -> Contender:
    """onnxruntime with code that its user would write: Pillow, numpy, and the statistics copied from the training."""
    session = plain_session(path, threads)

    def run(photo: bytes) -> Any:
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BILINEAR)
        logits = session.run(None, {"input": normalise(np.asarray(square), statistics)})[0]
        exponentials = np.exp(logits - logits.max())
        return exponentials / exponentials.sum()

    return Contender("onnxruntime", "fp32", run)


def torch_with_fastai_pixels(run: Path, threads: int) -> Contender:
    """torch without ``learn.predict``: the Learner's own Resize, then its network."""
    import torch

    from .. import learner

    torch.set_num_threads(threads)
    return Contender("torch eager", "fp32", learner.torch_with_fastai_pixels(learner.load(run)))
