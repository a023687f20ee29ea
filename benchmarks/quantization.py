"""Schemes of int8 beside each other: how far each is from fp32, and how long a photo takes.

usage: python -m benchmarks.quantization RUN [--data PHOTOS]
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import click

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from export.__main__ import choose_photos  # noqa: E402
from export.graph import export_graph  # noqa: E402
from export.learner import load_original  # noqa: E402
from export.parity import compare, softmax  # noqa: E402
from export.quantize import Scheme, quantize  # noqa: E402
from petinfer.bench.machine import processor_name  # noqa: E402
from petinfer.image import pixels  # noqa: E402
from petinfer.session.opening import session_options  # noqa: E402
from petinfer.session.threads import available_cores  # noqa: E402

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


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Where the run's photos lie.")
@click.option("--number", default=400, show_default=True, help="Validation photos to compare on.")
def main(run: Path, data: Path | None, number: int) -> None:
    """Quantize the Learner of RUN in each way, and compare with its fp32 file."""
    photos = choose_photos(run, data, None, None, None, 256, number)
    original = load_original(run, photos.comparison[0])
    calibration, images = (
        np.stack([pixels(photo, original.resize, "stored") for photo in part])
        for part in (photos.calibration, photos.comparison)
    )
    fp32 = export_graph(original)
    sessions = {"fp32": session(fp32.SerializeToString())}
    for name, scheme in SCHEMES.items():
        print(name, file=sys.stderr)
        sessions[name] = session(quantize(fp32, calibration, scheme).SerializeToString())
    logits = {name: answers(each, images) for name, each in sessions.items()}
    times = in_turn(sessions, images[:1])
    print(
        f"{processor_name()}, {available_cores()} threads; {len(images)} validation photos, {len(calibration)} calibrate\n"
    )
    print("| scheme | mean \\|Δp\\| | p99 \\|Δp\\| | max \\|Δp\\| | mean \\|Δ logit\\| | flips | time, fp32 = 1 |")
    print("|---|---|---|---|---|---|---|")
    for name in SCHEMES:
        found = compare(logits["fp32"], softmax(logits[name]), logits[name], photos.comparison, original.labels)
        ratio = statistics.median(mine / theirs for mine, theirs in zip(times[name], times["fp32"], strict=True))
        print(
            f"| {name} | {found.probability_mean:.1e} | {found.probability_p99:.1e} | {found.probability_max:.1e} |"
            f" {found.logit_mean:.1e} | {len(found.flips)} | {ratio:.2f} |"
        )


def session(model: bytes) -> onnxruntime.InferenceSession:
    """A model on the CPU, with the threads and options of petinfer's own."""
    return onnxruntime.InferenceSession(model, session_options(available_cores()), providers=["CPUExecutionProvider"])


def answers(each: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The logits of each image."""
    rows = [each.run(["logits"], {"image": image[np.newaxis]})[0] for image in images]
    return np.concatenate(rows).astype(np.float64)


def in_turn(
    sessions: dict[str, onnxruntime.InferenceSession], image: NDArray[np.uint8], rounds: int = 40
) -> dict[str, list[float]]:
    """Seconds for one image, every session once a round."""
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, each in sessions.items():
            start = time.perf_counter()
            each.run(None, {"image": image})
            seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
