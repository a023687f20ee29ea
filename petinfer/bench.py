"""Latency from a photo's bytes to the answer: one query after the other, as MLPerf's single stream."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import PIL
from numpy.typing import NDArray

from . import __version__, image
from .classifier import Classifier
from .errors import PetinferError
from .machine import governor, load, peak_memory_mb, processor_flags, processor_name
from .roofline import peak_macs
from .verify import GOLDEN_PHOTOS, file_sha256

STEPS = ("decode", "resize", "inference", "total")
GOLDEN_PHOTO = GOLDEN_PHOTOS / "cat.jpg"  # what is measured where nobody gives a photo

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Latency:
    """What was measured of one classifier."""

    seconds: Samples
    """float64 [queries, steps], the steps being `STEPS`."""
    cores_busy: float
    """Processor time over wall time while it was measured: how many threads really computed."""
    peak_memory_mb: float | None = None
    """The largest memory that the process had resident when it was measured, MB."""

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Milliseconds for each step, and for the whole also the bound that its 90th percentile stays under."""
        names = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
        rows = np.percentile(self.seconds * 1000, list(names.values()), axis=0)
        return {step: dict(zip(names, rows[:, i].tolist(), strict=True)) for i, step in enumerate(STEPS)}

    def p90_bound(self) -> float | None:
        """Milliseconds that the 90th percentile of the whole is under with 99 % confidence; None for too few queries."""
        allowed = over_latencies_allowed(len(self.seconds))
        return None if allowed is None else float(np.sort(self.seconds[:, -1])[-1 - allowed] * 1000)


def over_latencies_allowed(queries: int, percentile: float = 0.9, confidence: float = 0.99) -> int | None:
    """How many of the slowest queries may be left out so that the rest bounds the percentile: MLPerf's early stopping.

    The largest t with P(Binomial(queries, 1 - percentile) <= t) <= 1 - confidence; 64 queries allow 1, under 44 none.
    """
    cumulated, found = 0.0, None
    for t in range(queries):
        ways = math.lgamma(queries + 1) - math.lgamma(t + 1) - math.lgamma(queries - t + 1)
        cumulated += math.exp(ways + t * math.log(1 - percentile) + (queries - t) * math.log(percentile))
        if cumulated > 1 - confidence:
            break
        found = t
    return found


def measure(
    classifiers: Sequence[Classifier], photo: bytes, queries: int = 64, duration: float = 6.0, warm_up: int = 8
) -> list[Latency]:
    """Classify ``photo`` until ``queries`` are done and ``duration`` seconds have passed; the warm-up is not counted.

    Several classifiers take turns, a query each, so that the machine's mood falls on all of them alike.
    """
    for classifier in classifiers:
        for _ in range(warm_up):
            _query(classifier, photo)
    samples: list[list[tuple[float, ...]]] = [[] for _ in classifiers]
    busy = [0.0 for _ in classifiers]
    started = time.perf_counter()
    while len(samples[0]) < queries or time.perf_counter() - started < duration:
        for i, classifier in enumerate(classifiers):
            processor = time.process_time()
            samples[i].append(_query(classifier, photo))
            busy[i] += time.process_time() - processor
    seconds = [np.array(each) for each in samples]
    peak = peak_memory_mb()
    return [Latency(each, spent / float(each[:, -1].sum()), peak) for each, spent in zip(seconds, busy, strict=True)]


def _query(classifier: Classifier, photo: bytes) -> tuple[float, ...]:
    """One query by the same functions as `Classifier.predict`, with a look at the clock between them."""
    start = time.perf_counter()
    decoded = image.read(photo, classifier.orientation, classifier.enough)
    read = time.perf_counter()
    pixels = np.asarray(image.resize(decoded, classifier.spec.resize))[np.newaxis]
    resized = time.perf_counter()
    classifier.answer(pixels)
    end = time.perf_counter()
    return read - start, resized - read, end - resized, end - start


def ratio(one: Latency, other: Latency) -> tuple[float, float, float]:
    """Median of the ratios of paired totals, with its 95 % interval (order statistics of the ratios)."""
    ratios = np.sort(one.seconds[:, -1] / other.seconds[:, -1])
    half = 0.98 * math.sqrt(len(ratios))  # 1.96 standard deviations of Binomial(n, 1/2)
    low, high = (math.floor(len(ratios) / 2 - half), math.ceil(len(ratios) / 2 + half))
    return float(np.median(ratios)), float(ratios[max(low, 0)]), float(ratios[min(high, len(ratios) - 1)])


def throughput(classifier: Classifier, batches: Sequence[int], seconds: float = 1.0) -> list[dict[str, float]]:
    """Photos a second of the network alone: on batches of these sizes, with one thread, two, four … up to this Classifier's.

    Each pair of the two computes for ``seconds`` at least, taking turns with the others a batch each; the median counts.
    """
    fewer = thread_counts(classifier.threads)[:-1]
    alike = {n: Classifier(classifier.path, classifier.device, n) for n in fewer} | {classifier.threads: classifier}
    pixels = classifier.pixels(GOLDEN_PHOTO)[np.newaxis]
    times: dict[tuple[int, int], list[float]] = {(size, n): [] for size in batches for n in alike}
    for size, n in times:
        alike[n].infer(pixels.repeat(size, 0))
    while not all(times.values()) or min(map(sum, times.values())) < seconds:
        for (size, n), spent in times.items():
            batch = pixels.repeat(size, 0)
            start = time.perf_counter()
            alike[n].infer(batch)
            spent.append(time.perf_counter() - start)
    return [
        {"batch": size, "threads": n, "photos_per_second": size / statistics.median(spent)}
        for (size, n), spent in times.items()
    ]


def thread_counts(most: int) -> list[int]:
    """The powers of two below ``most``, and ``most``."""
    return [*(2**i for i in range(most.bit_length()) if 2**i < most), most]


_COLD = """
import json, sys, time
start = time.perf_counter()
from petinfer import Classifier
imported = time.perf_counter()
classifier = Classifier(**json.loads(sys.argv[2]))
loaded = time.perf_counter()
classifier.predict(sys.argv[1])
print(imported - start, loaded - imported, time.perf_counter() - loaded)
"""


def cold_start(photo: Path, classifier: Classifier, processes: int = 5) -> dict[str, float]:
    """Medians over fresh processes, milliseconds: the whole process, and in it import, session and first answer.

    Each process makes a Classifier like this one.
    """
    alike = {"model": str(classifier.path), "threads": classifier.threads, "decode": classifier.decode}
    settings = {**alike, "device": classifier.device, "orientation": classifier.orientation}
    command = [sys.executable, "-c", _COLD, str(photo), json.dumps(settings)]
    rows = []
    # that variable is the command's own, and a program that embeds petinfer has none
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    for _ in range(processes):
        start = time.perf_counter()
        printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        rows.append((time.perf_counter() - start, *map(float, printed.split())))
    names = ("process", "import", "session", "first answer")
    return {name: statistics.median(column) * 1000 for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def roofline(classifier: Classifier, latency: Latency) -> dict[str, float] | None:
    """How near the model step comes to what this machine can do at best; None off the CPU, and for a file that does not
    tell its work.

    ``peak_gmacs``: multiply-accumulates a second, in 10⁹; ``floor``: what the network takes at that speed, ms;
    ``share``: of the floor in the median of the model step.
    """
    macs = classifier.spec.origin.get("macs")
    if not macs or classifier.provider != "CPUExecutionProvider":
        return None
    peak = peak_macs(classifier.spec.precision, classifier.threads)
    floor = macs / peak * 1000
    median = float(np.median(latency.seconds[:, STEPS.index("inference")])) * 1000
    return {"peak_gmacs": peak / 1e9, "floor": floor, "share": floor / median}


def surroundings(classifier: Classifier) -> dict[str, Any]:
    """What a latency depends on: the processor and what else it does, what really ran, the model, and the versions."""
    return {
        "processor": processor_name(),
        "flags": processor_flags(),
        "governor": governor(),
        "load": load(),
        "provider": classifier.provider,
        "threads": classifier.threads,
        "precision": classifier.spec.precision,
        "decode": classifier.decode,
        "model": str(classifier.path),
        "sha256": file_sha256(classifier.path, classifier.spec.sha256),
        "score": classifier.spec.score,
        "versions": {
            "petinfer": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }


def require_matplotlib() -> None:
    """Raise `PetinferError` where `plot` cannot draw: before an hour of measuring, rather than after."""
    if find_spec("matplotlib") is None:
        raise PetinferError("--plot: matplotlib is not installed (pip install 'petinfer[bench]')")


def plot(latencies: dict[str, Latency], path: Path) -> None:
    """Draw each query's latency in its order, and how they are spread; needs matplotlib (the extra ``bench``)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    course, spread = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    for name, latency in latencies.items():
        milliseconds = latency.seconds[:, -1] * 1000
        course.plot(milliseconds, ".", markersize=3, label=f"{name}, median {np.median(milliseconds):.1f} ms")
        spread.hist(milliseconds, bins=40, orientation="horizontal", alpha=0.6)
    course.set(xlabel="query", ylabel="ms from bytes to answer", ylim=(0, None))
    spread.set(xlabel="queries")
    course.legend(frameon=False, loc="lower left")
    for axes in (course, spread):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
