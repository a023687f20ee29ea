"""The range of each activation, measured on photos a few at a time.

onnxruntime's own calibrators keep every activation of every photo until the last one is through: 12 GB for 240 photos of a
ResNet-34. Here the photos go through the network twice, once for the extremes of each tensor and once for a histogram
between them, and only these are kept. The histograms are the same to the last count.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import HistogramCalibrater, HistogramCollector, TensorsData

Progress = Callable[[Iterable[Any], str], Iterable[Any]]
Images = NDArray[np.uint8]

_BINS = {"Entropy": 128, "Percentile": 2048}  # onnxruntime's own numbers
_MEMORY = 256_000_000  # bytes of activations held at a time
_BATCH = 16

log = logging.getLogger(__name__)


def quietly(items: Iterable[Any], title: str) -> Iterable[Any]:
    """Show no progress."""
    return items


class _Extremes:
    """The least and the greatest value of a tensor, and of its absolute values."""

    def __init__(self) -> None:
        self.low = self.absolute_low = np.float32(np.inf)
        self.high = self.absolute_high = np.float32(-np.inf)

    def add(self, values: NDArray[np.float32]) -> None:
        absolute = np.abs(values)
        self.low, self.high = min(self.low, values.min()), max(self.high, values.max())
        self.absolute_low = min(self.absolute_low, absolute.min())
        self.absolute_high = max(self.absolute_high, absolute.max())


def measure_ranges(
    model: Path, operators: list[str], images: Images, scheme: tuple[str, float], progress: Progress
) -> TensorsData:
    """The range in which int8 represents each activation that these operators take or give.

    Args:
        model: a file in fp32.
        operators: those that will be quantized, by ONNX's names.
        images: calibration photos, uint8 [photos, height, width, 3].
        scheme: MinMax, Entropy or Percentile, and which percentile.
        progress: shows how far an iterable is; called with the batches and a title.
    """
    method, percentile = scheme
    with tempfile.TemporaryDirectory() as folder:
        session, names = _session_with_activations(model, operators, Path(folder) / "activations.onnx")
        batches = in_batches(images, session, names)
        extremes = _extremes(session, names, progress(batches, "calibrating int8: ranges"))
        if method == "MinMax":
            return TensorsData(
                CalibrationMethod.MinMax, {name: (each.low, each.high) for name, each in extremes.items()}
            )
        histograms = _histograms(session, extremes, method, progress(batches, "calibrating int8: histograms"))
    return TensorsData(CalibrationMethod[method], _thresholds(histograms, method, percentile))


def in_batches(images: Images, session: InferenceSession, names: list[str], memory: int | None = None) -> list[Images]:
    """The images in batches of at most 16, and of so few that a session's outputs stay below ``memory`` bytes."""
    one = sum(output.nbytes for output in session.run(names, {"image": images[:1]}))
    size = max(1, min(_BATCH, (memory or _MEMORY) // max(1, one)))
    return [images[start : start + size] for start in range(0, len(images), size)]


def _session_with_activations(model: Path, operators: list[str], path: Path) -> tuple[InferenceSession, list[str]]:
    """A session that also outputs the activations to be quantized, and their names."""
    calibrator = HistogramCalibrater(model, operators, str(path))
    calibrator.augment_graph()
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL  # which would fuse activations away
    options.enable_cpu_mem_arena = False  # which would keep what the largest batch took
    session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session, sorted(calibrator.tensors_to_calibrate)


def _extremes(session: InferenceSession, names: list[str], batches: Iterable[Images]) -> dict[str, _Extremes]:
    extremes = {name: _Extremes() for name in names}
    for batch in batches:
        for name, values in zip(names, session.run(names, {"image": batch}), strict=True):
            extremes[name].add(values)
    return extremes


def _histograms(
    session: InferenceSession, extremes: dict[str, _Extremes], method: str, batches: Iterable[Images]
) -> dict[str, tuple[Any, ...]]:
    """Each activation's histogram as onnxruntime's collector keeps it: counts, edges, least, greatest, largest absolute."""
    counts = {name: np.zeros(_BINS[method], np.int64) for name in extremes}
    edges: dict[str, NDArray[Any]] = {}
    for batch in batches:
        for name, values in zip(extremes, session.run(list(extremes), {"image": batch}), strict=True):
            found, edges[name] = _histogram(values.ravel(), extremes[name], method)
            counts[name] += found
    return {
        name: (counts[name], edges[name].astype(np.float32), each.low, each.high, each.absolute_high)
        for name, each in extremes.items()
    }


def _histogram(values: NDArray[np.float32], extremes: _Extremes, method: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of absolute values for a percentile, of both signs for the entropy: as in onnxruntime's ``HistogramCollector``."""
    if method == "Percentile":
        ends = (extremes.absolute_low, extremes.absolute_high)
        return np.histogram(np.abs(values), _BINS[method], ends)  # type: ignore[arg-type]
    ends = (-extremes.absolute_high, extremes.absolute_high)
    return np.histogram(values, _BINS[method], ends)  # type: ignore[arg-type]


def _thresholds(histograms: dict[str, tuple[Any, ...]], method: str, percentile: float) -> dict[str, Any]:
    """Each activation's range, by onnxruntime's own search; what that prints goes to the log."""
    symmetric = method == "Percentile"
    collector = HistogramCollector(method.lower(), symmetric, _BINS[method], 128, percentile, "same")
    collector.histogram_dict = {name: each[:4] if symmetric else each for name, each in histograms.items()}
    with logged_output():
        return dict(collector.compute_collection_result())


@contextlib.contextmanager
def logged_output() -> Iterator[None]:
    """Send what a library prints to the log."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        yield
    for line in printed.getvalue().splitlines():
        log.info(line)
