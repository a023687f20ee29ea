"""Compares int8 schemes, or other quantizers: how far each is from fp32, and how long a photo takes.

usage: python -W ignore -m benchmarks.quantization RUN [--data PHOTOS] [--others quick]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numpy as np
import onnx
from numpy.typing import NDArray

from export.onnx_file.graph import export_graph
from export.onnx_file.int8 import Scheme, int8_share, quantize
from export.options import Options
from export.parity.compare import Parity, Reference, compare, softmax
from export.photos import choose_photos
from export.source.run import load_run
from petinfer.bench.machine import processor_name
from petinfer.image import pixels
from petinfer.session.threads import available_cores
from petinfer.spec import Resize

from .contenders.network import onnx_file
from .measurement import Findings, Seconds, median_ratio
from .quantizers import QUANTIZERS, SLOW, quantize_elsewhere
from .turns import Turns, load, measure_in_turns, started

CHOSEN = Scheme()
UNEVEN = replace(CHOSEN, equalized=0)
PLAIN = replace(CHOSEN, compensated=False)
SCHEMES = {
    "chosen: u8s8, by pairs, compensated, equalized, Percentile 99.999": CHOSEN,
    "… Percentile 99.99": replace(CHOSEN, percentile=99.99),
    "… MinMax": replace(CHOSEN, calibration="MinMax"),
    "… Entropy": replace(CHOSEN, calibration="Entropy"),
    "… first and last convolution in float": replace(CHOSEN, float_ends=True),
    "… not equalized": UNEVEN,
    "… … normalisation in float": replace(UNEVEN, int8_pixels=False),
    "… … … sums in float": replace(UNEVEN, int8_pixels=False, float_sums=True),
    "… first convolution 7 × 7": replace(CHOSEN, space_to_depth=False),
    "… each weight to its nearest step": PLAIN,
    "… … 7 bits (reduce_range)": replace(PLAIN, weight_range="7 bits"),
    "… … 8 bits: saturates without VNNI": replace(PLAIN, weight_range="8 bits"),
    "… … s8s8, 8 bits": replace(PLAIN, activations="int8", weight_range="8 bits"),
    "… … u8u8, 8 bits": replace(PLAIN, weights="uint8", weight_range="8 bits"),
}


HEADING = """\
| scheme | mean \\|Δp\\| | p99 \\|Δp\\| | max \\|Δp\\| | mean \\|Δ logit\\| | flips | in int8 | time: fp32 = 1 | chosen = 1 |
|---|---|---|---|---|---|---|---|---|"""
FP32 = "fp32"
FIRST = next(iter(SCHEMES))

Models = dict[str, Path]  # files, by the scheme's name


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the run's photos.")
@click.option("--number", default=400, show_default=True, help="Validation photos to compare on.")
@click.option("--calibration", default=256, show_default=True, help="Photos to calibrate on.")
@click.option(
    "--others",
    type=click.Choice(["quick", "all"]),
    help="Compare other quantizers with the chosen scheme, not petinfer's other schemes; all: also AdaRound, in hours.",
)
@click.option("--rounds", default=40, show_default=True, help="Turns of each file.")
def main(run: Path, data: Path | None, number: int, calibration: int, others: str | None, rounds: int) -> None:
    """Quantize the Learner of RUN with each scheme, and compare with its fp32 file."""
    photos = choose_photos(Options(run, data=data, calibration_photos=calibration, limit=number))
    source = load_run(run, photos.comparison[0])
    calibrating, images = (load_images(part, source.resize) for part in (photos.calibration, photos.comparison))
    findings, fp32 = Findings(), export_graph(source)
    with tempfile.TemporaryDirectory() as folder:
        schemes = {FIRST: CHOSEN} if others else SCHEMES
        models = make_files(fp32, calibrating, schemes, Path(folder))
        if others:
            models |= other_files(models[FP32], calibrating, others == "all", findings)
        logits, seconds = run_in_turns(models, images, rounds, findings)
        print(f"{processor_name()}, {available_cores()} threads; ", end="")
        print(f"{len(images)} validation photos, {len(calibrating)} for calibration\n\n{HEADING}")
        reference = Reference(photos.comparison, source.labels, logits.pop(FP32))
        for name in logits:
            parity = compare(reference, softmax(logits[name]), logits[name])
            print(table_row(name, parity, int8_share(onnx.load_model(str(models[name]))), seconds))


def make_files(fp32: onnx.ModelProto, images: NDArray[np.uint8], schemes: dict[str, Scheme], folder: Path) -> Models:
    """The fp32 file, and one for each scheme."""
    models = {FP32: fp32}
    for name, scheme in schemes.items():
        print(name, file=sys.stderr)
        models[name] = quantize(fp32, images, scheme)
    paths = {name: folder / f"{place}.onnx" for place, name in enumerate(models)}
    for name, path in paths.items():
        onnx.save_model(models[name], str(path))
    return paths


def other_files(fp32: Path, images: NDArray[np.uint8], adaround: bool, findings: Findings) -> Models:
    """A file by each other quantizer that is installed and succeeds, next to the fp32 file."""
    calibration = fp32.with_name("calibration.npy")
    np.save(calibration, images)
    made: Models = {}
    for place, name in enumerate(QUANTIZERS):
        if adaround or name not in SLOW:
            print(name, file=sys.stderr)
            target = fp32.with_name(f"other-{place}.onnx")
            for path in findings.attempt(name, partial(quantize_elsewhere, name, fp32, calibration, target)):
                made[name] = path
    return made


def load_images(photos: Sequence[Path], resize: Resize) -> NDArray[np.uint8]:
    """The network's input for each photo, uint8 [photos, height, width, 3]."""
    return np.stack([pixels(photo, resize, "stored") for photo in photos])


def run_in_turns(
    models: Models, images: NDArray[np.uint8], rounds: int, findings: Findings
) -> tuple[dict[str, NDArray[np.float64]], Seconds]:
    """The logits of each file, float64 [photos, classes], and seconds per round for one photo."""
    builds = {name: partial(onnx_file, name, path, available_cores()) for name, path in models.items()}
    logits: dict[str, NDArray[np.float64]] = {}
    with started(builds, findings) as workers:
        turns = Turns(load(workers, [*images], findings), findings)
        for each in [*turns.workers]:
            for rows in findings.attempt(each.name, each.answers):
                logits[each.name] = np.array(rows, np.float64)
        turns.workers = [each for each in turns.workers if each.name in logits]
        seconds = measure_in_turns(turns, 1, rounds, "time")
    measured = {title.strip(): taken for title, taken in seconds.items()}
    return {name: logits[name] for name in measured}, measured


def table_row(name: str, parity: Parity, share: float | None, seconds: Seconds) -> str:
    """A line of the table, Markdown."""
    differences = (parity.probability_mean, parity.probability_p99, parity.probability_max, parity.logit_mean)
    times = [f"{median_ratio(seconds[name], seconds[other]):.2f}" for other in (FP32, FIRST)]
    in_int8 = "?" if share is None else f"{share:.0%}"
    cells = [name, *(f"{difference:.1e}" for difference in differences), str(len(parity.flips)), in_int8, *times]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
