"""Latency from a photo's bytes to the answer: one query after the other, as MLPerf's single stream."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import PIL
from numpy.typing import NDArray

from . import __version__, image
from .classifier import Classifier

STEPS = ("decode", "resize", "inference", "total")
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Latency:
    """What was measured; ``seconds`` is float64 [queries, steps], the steps being `STEPS`."""

    seconds: NDArray[np.float64]
    cores_busy: float
    """Processor time over wall time while it was measured: how many threads really computed."""

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Milliseconds for each step at each of `PERCENTILES`."""
        table = np.percentile(self.seconds * 1000, PERCENTILES, axis=0)
        return {
            step: {f"p{p}": float(table[row, column]) for row, p in enumerate(PERCENTILES)}
            for column, step in enumerate(STEPS)
        }


def measure(
    classifier: Classifier, photo: bytes, queries: int = 64, duration: float = 6.0, warm_up: int = 8
) -> Latency:
    """Classify ``photo`` until ``queries`` are done and ``duration`` seconds have passed; the warm-up is not counted."""
    for _ in range(warm_up):
        _query(classifier, photo)
    samples: list[tuple[float, ...]] = []
    started, processor = time.perf_counter(), time.process_time()
    while len(samples) < queries or time.perf_counter() - started < duration:
        samples.append(_query(classifier, photo))
    wall = time.perf_counter() - started
    return Latency(np.array(samples), (time.process_time() - processor) / wall)


def _query(classifier: Classifier, photo: bytes) -> tuple[float, ...]:
    """One query by the same functions as `Classifier.predict`, with a look at the clock between them."""
    start = time.perf_counter()
    decoded = image.read(photo, classifier.orientation)
    read = time.perf_counter()
    pixels = np.asarray(image.resize(decoded, classifier.spec.resize))[np.newaxis]
    resized = time.perf_counter()
    classifier.answer(pixels)
    end = time.perf_counter()
    return read - start, resized - read, end - resized, end - start


def surroundings(classifier: Classifier) -> dict[str, Any]:
    """What a latency depends on: the processor, what really ran, and the versions."""
    return {
        "processor": processor_name(),
        "provider": classifier.provider,
        "threads": classifier.threads,
        "precision": classifier.spec.precision,
        "model": str(classifier.path),
        "versions": {
            "petinfer": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }


def processor_name() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model")))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
