"""Converts a run's weights to the formats that rivals read; each once per folder, in a separate process.

usage: python -m benchmarks.conversions RUN PHOTOS FOLDER FORMAT
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

REPOSITORY = Path(__file__).parent.parent
CALIBRATION_PHOTOS = 128


class ConversionError(Exception):
    """A conversion failed."""


@dataclass(frozen=True)
class Conversions:
    """The converted weights of a run."""

    run: Path
    photos: Path
    folder: Path

    def path(self, name: str) -> Path:
        """The file in one format, a key of `FILES`; converted now if it does not exist yet.

        Raises:
            ConversionError: the conversion failed; the message is the last line that it wrote.
        """
        target = self.folder / FILES[name]
        if target.exists():
            return target
        print(f"converting to {target.name}", file=sys.stderr)
        arguments = [str(path.resolve()) for path in (self.run, self.photos, self.folder)]
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.conversions", *arguments, name]
        # load_learner imports train's labelling function, so it must run in the repository
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if done.returncode or not target.exists():
            lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            raise ConversionError(lines[-1].removeprefix("Error: "))
        return target


def traced(run: Path, photos: Path, target: Path) -> None:
    """TorchScript, which runs with torch alone, without fastai's classes."""
    import torch

    from .learner import load

    torch.jit.save(torch.jit.trace(load(run).model, torch.zeros(1, 3, 224, 224)), target)


def plain_onnx(run: Path, photos: Path, target: Path) -> None:
    """The network alone, exported as in torch's tutorials: normalised float32 in, logits out."""
    import torch

    from .learner import load

    example = (torch.zeros(1, 3, 224, 224),)
    torch.onnx.export(
        load(run).model, example, target, input_names=["input"], output_names=["logits"], external_data=False
    )


def openvino_int8(run: Path, photos: Path, target: Path) -> None:
    """OpenVINO's own int8: post-training quantization by nncf with its defaults, from the fp32 file."""
    import nncf  # type: ignore
    import openvino

    from petinfer import Classifier

    from .photos import evenly_spaced, photos_below

    model = run / "onnx" / "model-fp32.onnx"
    classifier = Classifier(model, orientation="stored")
    chosen = evenly_spaced(photos_below(photos), CALIBRATION_PHOTOS)
    calibration = nncf.Dataset([classifier.pixels(photo)[None] for photo in chosen])
    quantized = nncf.quantize(openvino.Core().read_model(model), calibration, subset_size=len(chosen))
    openvino.save_model(quantized, target, compress_to_fp16=False)


def ncnn_network(run: Path, photos: Path, target: Path) -> None:
    """ncnn's two files, converted from TorchScript by pnnx, weights in fp32.

    This runs the program pnnx. ``pnnx.export`` also imports the Python code it writes, which is invalid for ``nn.Sequential``.
    """
    import pnnx  # type: ignore

    script = target.parent / "pnnx" / "network.pt"
    script.parent.mkdir(exist_ok=True)
    traced(run, photos, script)
    command = [pnnx.EXEC_PATH, script.name, "inputshape=[1,3,224,224]f32", "fp16=0"]
    subprocess.run(command, cwd=script.parent, check=True, stdout=sys.stderr)
    (script.parent / "network.ncnn.bin").rename(target.with_suffix(".bin"))
    (script.parent / "network.ncnn.param").rename(target)


FILES = {"traced": "traced.pt", "plain_onnx": "plain.onnx", "openvino_int8": "nncf-int8.xml", "ncnn": "ncnn.param"}
_CONVERTERS: dict[str, Callable[[Path, Path, Path], Any]] = {
    "traced": traced,
    "plain_onnx": plain_onnx,
    "openvino_int8": openvino_int8,
    "ncnn": ncnn_network,
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("photos", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("name", metavar="FORMAT", type=click.Choice(sorted(FILES)))
def main(run: Path, photos: Path, folder: Path, name: str) -> None:
    """Convert the weights of RUN to FORMAT, into FOLDER."""
    try:
        _CONVERTERS[name](run, photos, folder / FILES[name])
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is not installed (pip install {error.name})") from error


if __name__ == "__main__":
    main()
