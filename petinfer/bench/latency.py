"""Measures the latency from a photo's bytes to the answer, one query after the other, as MLPerf's single stream does."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import image
from ..classifier import Classifier
from ..errors import PetinferError
from ..verify import GOLDEN_PHOTOS
from .machine import peak_memory_mb

STEPS = ("decode", "resize", "inference", "total")
GOLDEN_PHOTO = GOLDEN_PHOTOS / "cat.jpg"  # the default photo

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Latency:
    """The measurements of one classifier."""

    seconds: Samples
    """float64 [queries, 4]: the duration of each of `STEPS`, s."""
    cores_busy: float
    """Processor time divided by wall time: how many threads were really computing."""
    peak_memory_mb: float | None = None
    """The process's peak resident memory, MB; None on Windows."""

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Percentiles of each step, ms."""
        names = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
        rows = np.percentile(self.seconds * 1000, list(names.values()), axis=0)
        return {step: dict(zip(names, rows[:, i].tolist(), strict=True)) for i, step in enumerate(STEPS)}

    def p90_bound(self) -> float | None:
        """An upper bound of the 90th percentile of the total with 99 % confidence, ms; None for too few queries."""
        allowed = over_latencies_allowed(len(self.seconds))
        return None if allowed is None else float(np.sort(self.seconds[:, -1])[-1 - allowed] * 1000)


def over_latencies_allowed(queries: int, percentile: float = 0.9, confidence: float = 0.99) -> int | None:
    """How many of the slowest queries may exceed a bound of the percentile: MLPerf's early stopping.

    That is the largest t with P(Binomial(queries, 1 - percentile) <= t) <= 1 - confidence; 64 queries allow 1, under 44 none.
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
    classifiers: Sequence[Classifier], photo: bytes, queries: int, duration: float, warm_up: int = 8
) -> list[Latency]:
    """Classify ``photo`` until ``queries`` are done and ``duration`` seconds have passed; the warm-up is not counted.

    Several classifiers take turns, one query each, so that changes of the machine's speed affect all of them.
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
    """One query through the functions that `Classifier.predict` calls; returns the duration of each of `STEPS`, s."""
    start = time.perf_counter()
    decoded = image.read(photo, classifier.orientation, classifier.min_decode_size, mode=classifier.spec.mode)
    read = time.perf_counter()
    pixels = image.fit(decoded, classifier.spec.resize, "photo", classifier.threads)[np.newaxis]
    resized = time.perf_counter()
    classifier.predict_pixels(pixels)
    end = time.perf_counter()
    return read - start, resized - read, end - resized, end - start


def ratio(one: Latency, other: Latency) -> tuple[float, float, float]:
    """Median of the ratios of paired totals, with its 95 % interval (order statistics of the ratios)."""
    ratios = np.sort(one.seconds[:, -1] / other.seconds[:, -1])
    half = 0.98 * math.sqrt(len(ratios))  # 1.96 standard deviations of Binomial(n, 1/2)
    low, high = (math.floor(len(ratios) / 2 - half), math.ceil(len(ratios) / 2 + half))
    return float(np.median(ratios)), float(ratios[max(low, 0)]), float(ratios[min(high, len(ratios) - 1)])


def throughput(classifier: Classifier, batches: Sequence[int], seconds: float = 1.0) -> list[dict[str, float]]:
    """Photos per second of the network alone, for each batch size and for 1, 2, 4 … up to the Classifier's threads.

    All combinations take turns, one batch each, for at least ``seconds`` each; the result is of the median batch.
    """
    fewer = thread_counts(classifier.threads)[:-1]
    alike = {n: Classifier(classifier.path, classifier.device, n) for n in fewer} | {classifier.threads: classifier}
    pixels = classifier.pixels(GOLDEN_PHOTO)[np.newaxis]
    times: dict[tuple[int, int], list[float]] = {(size, n): [] for size in batches for n in alike}
    for size, n in times:
        alike[n].run(pixels.repeat(size, 0))
    while not all(times.values()) or min(map(sum, times.values())) < seconds:
        for (size, n), spent in times.items():
            batch = pixels.repeat(size, 0)
            start = time.perf_counter()
            alike[n].run(batch)
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


_COLD_SECONDS = 600  # for one process, which takes a second on a PC


def require_interpreter() -> None:
    """Refuse to start new processes from a frozen program, whose executable is not a Python interpreter."""
    if getattr(sys, "frozen", False):
        raise PetinferError("--cold: cannot start Python from a frozen program (run it with an installed petinfer)")


def cold_start(photo: Path, classifier: Classifier, processes: int = 5) -> dict[str, float]:
    """Medians over new processes, ms: the whole process, and in it import, session and first answer.

    Each process makes a Classifier with the same settings.

    Raises:
        PetinferError: this is a frozen program (see `require_interpreter`), or a new process fails.
    """
    require_interpreter()
    alike = {"model": str(classifier.path), "threads": classifier.threads, "decode": classifier.decode}
    settings = {**alike, "device": classifier.device, "orientation": classifier.orientation}
    command = [sys.executable, "-c", _COLD, str(photo), json.dumps(settings)]
    rows = []
    # the command sets that variable for itself; a program that embeds petinfer does not have it
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    for _ in range(processes):
        start = time.perf_counter()
        printed = _run_new_process(command, environment)
        rows.append((time.perf_counter() - start, *map(float, printed.split())))
    names = ("process", "import", "session", "first answer")
    return {name: statistics.median(column) * 1000 for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _run_new_process(command: list[str], environment: dict[str, str]) -> str:
    """What it prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_COLD_SECONDS)
    except subprocess.TimeoutExpired:
        raise PetinferError(f"--cold: a new process takes more than {_COLD_SECONDS} s (end other programs)") from None
    if done.returncode:
        problem = (done.stderr.strip().splitlines() or [""])[-1][:200]
        ended = f"a new process ended with exit code {done.returncode}"
        raise PetinferError(f"--cold: {ended}: {problem} (check the installation: petinfer verify)")
    return done.stdout
