"""Converts a run's weights to the formats that rivals read; each once per folder, in a separate process.

usage: python -m benchmarks.conversions RUN PHOTOS FOLDER FORMAT
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

REPOSITORY = Path(__file__).parent.parent
CALIBRATION_PHOTOS = 128
_SHAPE = (1, 3, 224, 224)


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

    torch.jit.save(torch.jit.trace(_network(run), torch.zeros(_SHAPE)), target)


def plain_onnx(run: Path, photos: Path, target: Path) -> None:
    """The network alone, exported as in torch's tutorials: normalised float32 in, logits out."""
    import torch

    example = (torch.zeros(_SHAPE),)
    torch.onnx.export(
        _network(run), example, target, input_names=["input"], output_names=["logits"], external_data=False
    )


def openvino_int8(run: Path, photos: Path, target: Path) -> None:
    """OpenVINO's own int8: post-training quantization by nncf with its defaults, from the fp32 file."""
    import nncf  # type: ignore
    import openvino

    images = calibration_images(run, photos)
    model = openvino.Core().read_model(run / "onnx" / "model-fp32.onnx")
    quantized = nncf.quantize(model, nncf.Dataset([image[None] for image in images]), subset_size=len(images))
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


def ncnn_int8(run: Path, photos: Path, target: Path) -> None:
    """ncnn's own int8, from its fp32 files: KL divergence chooses the ranges of activations, which is ncnn's default.

    Its two programs are in ncnn's releases and source, not in its wheel.
    """
    from .learner import load

    table, quantize = (program(name) for name in ("ncnn2table", "ncnn2int8"))
    fp32 = target.with_name(FILES["ncnn"])
    if not fp32.exists():
        ncnn_network(run, photos, fp32)
    ranges = target.with_suffix(".table")
    with tempfile.TemporaryDirectory() as place:
        names = [Path(place) / f"{i}.npy" for i in range(CALIBRATION_PHOTOS)]
        for name, batch in zip(names, calibration_batches(load(run), run, photos), strict=False):
            np.save(name, batch[0])
        listed = Path(place) / "photos.txt"
        listed.write_text("".join(f"{name}\n" for name in names if name.exists()), encoding="utf-8")
        shape = f"shape=[{_SHAPE[3]},{_SHAPE[2]},{_SHAPE[1]}]"
        weights = [fp32, fp32.with_suffix(".bin")]
        subprocess.run([table, *weights, listed, ranges, shape, "method=kl", "type=1"], check=True, stdout=sys.stderr)
    subprocess.run([quantize, *weights, target, target.with_suffix(".bin"), ranges], check=True, stdout=sys.stderr)


def program(name: str) -> str:
    """The path of a program.

    Raises:
        ConversionError: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise ConversionError(f"{name} is not on the PATH")
    return found


def executorch_fp32(run: Path, photos: Path, target: Path) -> None:
    """ExecuTorch's program for XNNPACK, in fp32."""
    _write_executorch(_exported(without_adaptive_pools(_network(run))), target)


def executorch_int8(run: Path, photos: Path, target: Path) -> None:
    """ExecuTorch's own int8 for XNNPACK: its quantizer with its defaults, weights by channel."""
    import torch
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from .learner import load

    quantizer = xnnpack.XNNPACKQuantizer()
    quantizer.set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
    learn = load(run)
    prepared = prepare_pt2e(_exported(without_adaptive_pools(learn.model)).module(), quantizer)
    for batch in calibration_batches(learn, run, photos):
        prepared(torch.from_numpy(batch))
    _write_executorch(_exported(convert_pt2e(prepared)), target)


def litert_fp32(run: Path, photos: Path, target: Path) -> None:
    """LiteRT's file (formerly TensorFlow Lite), in fp32."""
    import litert_torch
    import torch

    litert_torch.convert(without_adaptive_pools(_network(run)), (torch.zeros(_SHAPE),)).export(str(target))


def litert_int8(run: Path, photos: Path, target: Path) -> None:
    """LiteRT's own int8: its quantizer's recipe for static int8, from the fp32 file."""
    from ai_edge_quantizer import quantizer, recipe

    from .learner import load

    fp32 = target.with_name(FILES["litert_fp32"])
    if not fp32.exists():
        litert_fp32(run, photos, fp32)
    converter = quantizer.Quantizer(str(fp32), recipe.static_wi8_ai8())
    (name,) = _inputs_of_litert(fp32)
    batches = calibration_batches(load(run), run, photos)
    found = converter.calibrate({"serving_default": [{name: batch} for batch in batches]})
    converter.quantize(found).export_model(str(target))


def calibration_images(run: Path, photos: Path) -> list[NDArray[np.uint8]]:
    """The calibration photos in the network's size, uint8 [height, width, 3] each."""
    from petinfer import Classifier

    from .photos import evenly_spaced, photos_below

    classifier = Classifier(run / "onnx" / "model-fp32.onnx", orientation="stored")
    return [classifier.pixels(photo) for photo in evenly_spaced(photos_below(photos), CALIBRATION_PHOTOS)]


def calibration_batches(learn: Any, run: Path, photos: Path) -> list[NDArray[np.float32]]:
    """What the Learner's network sees of the calibration photos, float32 [1, 3, height, width] each."""
    from .contenders.normalisation import normalise
    from .learner import statistics_of

    statistics = statistics_of(learn)
    return [normalise(image, statistics) for image in calibration_images(run, photos)]


def _network(run: Path) -> Any:
    from .learner import load

    return load(run).model


def without_adaptive_pools(network: Any) -> Any:
    """The network, changed in place: a maximum and a mean for fastai's pooling, which ExecuTorch and LiteRT cannot convert."""
    import torch
    from fastai.vision.all import AdaptiveConcatPool2d

    class MaximumAndMean(torch.nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return torch.cat([maps.amax((2, 3), keepdim=True), maps.mean((2, 3), keepdim=True)], 1)

    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, AdaptiveConcatPool2d):
                setattr(module, name, MaximumAndMean())
    return network


def _exported(network: Any) -> Any:
    import torch

    return torch.export.export(network, (torch.zeros(_SHAPE),))


def _write_executorch(program: Any, target: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    target.write_bytes(lowered.to_executorch().buffer)


def _inputs_of_litert(path: Path) -> list[str]:
    from ai_edge_litert.interpreter import Interpreter

    return list(Interpreter(str(path)).get_signature_runner().get_input_details())


FILES = {
    "traced": "traced.pt",
    "plain_onnx": "plain.onnx",
    "openvino_int8": "nncf-int8.xml",
    "ncnn": "ncnn.param",
    "ncnn_int8": "ncnn-int8.param",
    "executorch_fp32": "executorch-fp32.pte",
    "executorch_int8": "executorch-int8.pte",
    "litert_fp32": "litert-fp32.tflite",
    "litert_int8": "litert-int8.tflite",
}
_CONVERTERS: dict[str, Callable[[Path, Path, Path], Any]] = {
    "traced": traced,
    "plain_onnx": plain_onnx,
    "openvino_int8": openvino_int8,
    "ncnn": ncnn_network,
    "ncnn_int8": ncnn_int8,
    "executorch_fp32": executorch_fp32,
    "executorch_int8": executorch_int8,
    "litert_fp32": litert_fp32,
    "litert_int8": litert_int8,
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
    except ConversionError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
