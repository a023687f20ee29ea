"""Compares int8 schemes: how far each is from fp32, and how long a photo takes.

usage: python -W ignore -m benchmarks.quantization RUN [--data PHOTOS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.onnx_file.graph import export_graph
from export.onnx_file.int8 import Scheme, quantize
from export.options import Options
from export.parity.compare import Parity, Reference, compare, softmax
from export.photos import choose_photos
from export.source.run import load_run
from petinfer.bench.machine import processor_name
from petinfer.image import pixels
from petinfer.session.opening import session_options
from petinfer.session.threads import available_cores
from petinfer.spec import Resize

from .measurement import median_ratio

CHOSEN = Scheme()
PLAIN = replace(CHOSEN, compensated=False)
SCHEMES = {
    "chosen: u8s8, by pairs, compensated, sums in float, Percentile 99.999": CHOSEN,
    "… Percentile 99.99": replace(CHOSEN, percentile=99.99),
    "… MinMax": replace(CHOSEN, calibration="MinMax"),
    "… Entropy": replace(CHOSEN, calibration="Entropy"),
    "… first and last convolution in float": replace(CHOSEN, float_ends=True),
    "… sums in int8": replace(CHOSEN, float_sums=False),
    "… first convolution 7 × 7": replace(CHOSEN, space_to_depth=False),
    "… each weight to its nearest step": PLAIN,
    "… … 7 bits (reduce_range)": replace(PLAIN, weight_range="7 bits"),
    "… … 8 bits: saturates without VNNI": replace(PLAIN, weight_range="8 bits"),
    "… … s8s8, 8 bits": replace(PLAIN, activations="int8", weight_range="8 bits"),
    "… … u8u8, 8 bits": replace(PLAIN, weights="uint8", weight_range="8 bits"),
}


HEADING = """\
| scheme | mean \\|Δp\\| | p99 \\|Δp\\| | max \\|Δp\\| | mean \\|Δ logit\\| | flips | time, fp32 = 1 |
|---|---|---|---|---|---|---|"""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the run's photos.")
@click.option("--number", default=400, show_default=True, help="Validation photos to compare on.")
def main(run: Path, data: Path | None, number: int) -> None:
    """Quantize the Learner of RUN with each scheme, and compare with its fp32 file."""
    photos = choose_photos(Options(run, data=data, calibration_photos=256, limit=number))
    source = load_run(run, photos.comparison[0])
    calibration, images = (load_images(part, source.resize) for part in (photos.calibration, photos.comparison))
    fp32 = export_graph(source)
    sessions = {"fp32": open_session(fp32.SerializeToString())}
    for name, scheme in SCHEMES.items():
        print(name, file=sys.stderr)
        sessions[name] = open_session(quantize(fp32, calibration, scheme).SerializeToString())
    logits = {name: logits_of(session, images) for name, session in sessions.items()}
    reference = Reference(photos.comparison, source.labels, logits["fp32"])
    seconds = measure_in_turns(sessions, images[:1])
    print(f"{processor_name()}, {available_cores()} threads; ", end="")
    print(f"{len(images)} validation photos, {len(calibration)} for calibration\n\n{HEADING}")
    for name in SCHEMES:
        parity = compare(reference, softmax(logits[name]), logits[name])
        print(table_row(name, parity, median_ratio(seconds[name], seconds["fp32"])))


def load_images(photos: Sequence[Path], resize: Resize) -> NDArray[np.uint8]:
    """The network's input for each photo, uint8 [photos, height, width, 3]."""
    return np.stack([pixels(photo, resize, "stored") for photo in photos])


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """A session on the CPU, with petinfer's threads and options."""
    return onnxruntime.InferenceSession(model, session_options(available_cores()), providers=["CPUExecutionProvider"])


def logits_of(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The logits, float64 [photos, classes]."""
    rows = [session.run(["logits"], {"image": image[np.newaxis]})[0] for image in images]
    return np.concatenate(rows).astype(np.float64)


def measure_in_turns(
    sessions: dict[str, onnxruntime.InferenceSession], image: NDArray[np.uint8], rounds: int = 40
) -> dict[str, list[float]]:
    """Seconds for one image, every session once per round."""
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {"image": image})
            seconds[name].append(time.perf_counter() - start)
    return seconds


def table_row(name: str, parity: Parity, time_ratio: float) -> str:
    """A line of the table, Markdown."""
    differences = (parity.probability_mean, parity.probability_p99, parity.probability_max, parity.logit_mean)
    cells = [name, *(f"{difference:.1e}" for difference in differences), str(len(parity.flips)), f"{time_ratio:.2f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
