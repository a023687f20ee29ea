"""Other quantizers make an int8 file from the fp32 file and the same calibration photos, each in a process of its own.

usage: python -m benchmarks.quantizers NAME FP32 IMAGES TARGET

They are not dependencies of petinfer: pip install nncf amd-quark aimet-onnx (neural-compressor writes no ONNX since 3.0).
IMAGES is a .npy file with uint8 [photos, height, width, 3].
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnx.utils
from numpy.typing import NDArray

from .conversions import REPOSITORY, ConversionError

Images = NDArray[np.uint8]
LIMIT = 7200.0  # s
ADAROUND_ITERATIONS = 1000  # for each layer; aimet recommends 10,000, which takes hours on two cores


def nncf(model: onnx.ModelProto, images: Images) -> onnx.ModelProto:
    """Post-training quantization with nncf's defaults."""
    import nncf  # type: ignore

    quantized: onnx.ModelProto = nncf.quantize(model, nncf.Dataset(feeds(images)), subset_size=len(images))
    return quantized


def quark(model: onnx.ModelProto, images: Images, preset: str = "U8S8_AAWS") -> onnx.ModelProto:
    """AMD's Quark: uint8 activations, int8 weights by channel, and Quark's ranges by percentile."""
    from onnxruntime.quantization import CalibrationDataReader
    from quark.onnx import ModelQuantizer  # type: ignore
    from quark.onnx.quantization.config import Config, get_default_config  # type: ignore

    class Reader(CalibrationDataReader):
        waiting = iter(feeds(images))

        def get_next(self) -> dict[str, Images] | None:
            return next(self.waiting, None)

    chosen = get_default_config(preset)
    chosen.per_channel = True
    quantized: onnx.ModelProto = ModelQuantizer(Config(global_quant_config=chosen)).quantize_model(
        model, calibration_data_reader=Reader()
    )
    return quantized


def quark_adaround(model: onnx.ModelProto, images: Images) -> onnx.ModelProto:
    """Quark with its preset for AdaRound."""
    return quark(model, images, "U8S8_AAWS_ADAROUND")


def aimet(model: onnx.ModelProto, images: Images, equalize: bool = False, iterations: int = 0) -> onnx.ModelProto:
    """Qualcomm's AIMET: weights by channel; with cross-layer equalization or AdaRound where asked for."""
    from aimet_onnx import QuantizationSimModel, apply_adaround  # type: ignore
    from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight  # type: ignore
    from aimet_onnx.cross_layer_equalization import equalize_model  # type: ignore
    from aimet_onnx.utils import duplicate_shared_initializers  # type: ignore

    duplicate_shared_initializers(model.graph)  # it quantizes each use of a weight by itself
    (equalize_model if equalize else fold_all_batch_norms_to_weight)(model)
    simulation = QuantizationSimModel(model, config_file=per_channel_settings())
    if iterations:
        apply_adaround(simulation, feeds(images), iterations)
    simulation.compute_encodings(feeds(images))
    quantized: onnx.ModelProto = simulation.to_onnx_qdq(prequantize_constants=True)
    return quantized


def per_channel_settings() -> str:
    """AIMET's own settings for weights by channel, a file."""
    from aimet_onnx.common import quantsim_config  # type: ignore

    return str(Path(quantsim_config.__file__).parent / "default_config_per_channel.json")


def feeds(images: Images) -> list[dict[str, Images]]:
    """A batch of one for each photo."""
    return [{"image": image[np.newaxis]} for image in images]


Quantizer = Callable[[onnx.ModelProto, Images], onnx.ModelProto]

QUANTIZERS: dict[str, Quantizer] = {
    "nncf": nncf,
    "amd-quark, U8S8": quark,
    "amd-quark, U8S8, AdaRound": quark_adaround,
    "aimet-onnx": aimet,
    "aimet-onnx, CLE": lambda model, images: aimet(model, images, equalize=True),
    "aimet-onnx, CLE, AdaRound": lambda model, images: aimet(model, images, True, ADAROUND_ITERATIONS),
}
SLOW = [name for name in QUANTIZERS if name.endswith("AdaRound")]


def quantize_elsewhere(name: str, fp32: Path, images: Path, target: Path, seconds: float = LIMIT) -> Path:
    """The file that a quantizer makes, in a process that may take this long.

    Raises:
        ConversionError: it failed; the message is the last line that it wrote.
    """
    command: Sequence[Any] = (sys.executable, "-W", "ignore", "-m", "benchmarks.quantizers", name, fp32, images, target)
    # in the target's folder, since Quark writes tables to the working directory
    settings: dict[str, Any] = {
        "cwd": target.parent,
        "env": {**os.environ, "PYTHONPATH": str(REPOSITORY)},
        "timeout": seconds,
    }
    try:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, errors="replace", **settings)
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"took over {seconds:.0f} s") from error
    if done.returncode or not target.exists():
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise ConversionError(lines[-1].removeprefix("Error: "))
    return target


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", type=click.Choice(sorted(QUANTIZERS)))
@click.argument("fp32", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def main(name: str, fp32: Path, images: Path, target: Path) -> None:
    """Quantize FP32 with the quantizer NAME, calibrated on IMAGES, into TARGET."""
    # without heat and familiarity: they stay in float in petinfer's files, and nncf's do not run with them
    network = onnx.utils.Extractor(onnx.load_model(str(fp32))).extract_model(["image"], ["logits"])
    try:
        onnx.save_model(QUANTIZERS[name](network, np.load(images)), str(target))
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is not installed") from error


if __name__ == "__main__":
    main()
