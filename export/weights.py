"""``python -m export.weights MODEL``: a ResNet's weights out of a model file, for training to go on when its run is lost.

In a model file, convolutions contain the batch norms that follow them. Here batch norms are made anew: their statistics are
those of some photos, and their scale and shift leave the network's answers as they were. An int8 file's weights stay rounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import torch
import torchvision
from fastai.vision.core import imagenet_stats
from numpy.typing import NDArray
from onnx.numpy_helper import to_array
from safetensors.torch import save
from torch import Tensor, nn

from petinfer import Classifier
from petinfer.session.model_file import read_spec

from .atomic import write_atomically
from .errors import ExportError
from .exits import in_one_line
from .onnx_file.space_to_depth import as_stem
from .photos import evenly_spaced, photos_below
from .progress import progress_bar

_ARCHITECTURES = ("resnet18", "resnet34")
_STAGES = ("layer1", "layer2", "layer3", "layer4")
_CONVOLUTION = re.compile(r"model\.body\.(\d+)(?:\.(conv\d|downsample\.0))?\.weight")
_HEAD = {0: 2, 1: 4, 3: 6, 4: 8}  # places in the file, and in fastai's head, which also has pooling and dropout
_BATCH = 16

Array = NDArray[Any]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True,
              help="Training photos, for the statistics of the batch norms.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=512, show_default=True, help="Take this many of them.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="The weights (.safetensors), for python -m train --weights.")  # fmt: skip
@click.pass_context
def main(context: click.Context, /, model: Path, photos: Path, limit: int, out: Path) -> None:
    """Write the weights of MODEL, a ResNet-18 or ResNet-34 with fastai's head, as python -m train saves them."""
    with in_one_line(context):
        state = read_weights(model, evenly_spaced(photos_below(photos, {}), limit))
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, save(state, {"format": "pt"}))
        except OSError as error:
            raise ExportError(f"{out}: {error.strerror or error} (give another --out)") from error


def read_weights(path: Path, photos: list[Path]) -> dict[str, Tensor]:
    """The weights of a model file, with the names of a run's ``model.safetensors``.

    Args:
        path: a model file of fastai's ``vision_learner`` on a ResNet-18 or ResNet-34, in any precision.
        photos: the batch norms' statistics are those of these photos.

    Raises:
        ExportError: the file has another network.
    """
    architecture = read_spec(path).origin.get("architecture")
    if architecture not in _ARCHITECTURES:
        raise ExportError(
            f"{path}: its network is {architecture}, not {' or '.join(_ARCHITECTURES)} (give another file)"
        )
    values = _Values(onnx.load(path))
    try:
        body, pairs = _body(architecture, values)
        scale, shift = _normalisation(*pairs[0], values)
        head = dict(_head(values))
    except (KeyError, IndexError, AttributeError, RuntimeError) as error:
        problem = "not the network of fastai's vision_learner (export its Learner again)"
        raise ExportError(f"{path}: {problem}") from error
    _renew_batch_norms(body, pairs, _pixels(path, photos, scale, shift))
    names = [name for name, _ in body.named_children()]
    places = {name: f"0.{names.index(name.partition('.')[0])}.{name.partition('.')[2]}" for name in body.state_dict()}
    return {places[name]: value.contiguous() for name, value in body.state_dict().items()} | head


class _Values:
    """The constants of a graph, as float32."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.constants = {each.name: to_array(each) for each in model.graph.initializer}
        self.nodes = model.graph.node
        self.made = {name: node for node in self.nodes for name in node.output}

    def __getitem__(self, name: str) -> Array:
        if name in self.constants:
            return self.constants[name].astype(np.float32)
        node = self.made[name]
        if node.op_type != "DequantizeLinear":
            raise KeyError(name)
        quantized, scale = self[node.input[0]], self[node.input[1]]
        zero = self[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale)
        aligned = (-1,) + (1,) * (quantized.ndim - 1)
        return np.asarray((quantized - zero.reshape(aligned)) * scale.reshape(aligned), np.float32)


def _body(architecture: str, values: _Values) -> tuple[nn.Module, list[tuple[nn.Conv2d, nn.BatchNorm2d]]]:
    """The network without its last layer, whose batch norms only add the file's biases, and its convolutions with them."""
    net: Any = getattr(torchvision.models, architecture)(weights=None)
    del net.avgpool, net.fc
    blocks = [net.conv1, net.bn1, net.relu, net.maxpool, *(block for stage in _STAGES for block in getattr(net, stage))]
    pairs = []
    for node in values.nodes:
        if node.op_type == "Conv":
            found = _CONVOLUTION.match(node.input[1])
            if not found:
                raise KeyError(node.input[1])
            pairs.append(_place(blocks, int(found[1]), found[2]))
            _fill(*pairs[-1], values[node.input[1]], values[node.input[2]])
    if len(pairs) != sum(isinstance(module, nn.Conv2d) for module in net.modules()):
        raise KeyError("a convolution")
    return net.eval(), pairs


def _place(blocks: list[Any], place: int, part: str | None) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    if part is None:
        return blocks[place], blocks[place + 1]
    if part == "downsample.0":
        return blocks[place].downsample[0], blocks[place].downsample[1]
    return getattr(blocks[place], part), getattr(blocks[place], part.replace("conv", "bn"))


def _fill(convolution: nn.Conv2d, norm: nn.BatchNorm2d, weight: Array, bias: Array) -> None:
    if weight.shape[1:] == (12, 4, 4):
        weight = as_stem(weight)
    convolution.load_state_dict({"weight": torch.from_numpy(np.ascontiguousarray(weight))})
    norm.bias.data = torch.from_numpy(bias)
    norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]


def _normalisation(convolution: nn.Conv2d, norm: nn.BatchNorm2d, values: _Values) -> tuple[Array, Array]:
    """The scale and the shift of each colour, float32 [3]; a first convolution that multiplies by the scale no longer does."""
    if "scale" in values.constants:
        return values["scale"][:3], values["shift"][:3]
    mean, std = (np.array(each, np.float32) for each in imagenet_stats)
    scale, shift = 1 / (255 * std), -mean / std
    missing = shift / scale - values["shift"][:3]
    if np.abs(missing).max() > 0.5:  # of a pixel's 255 levels: it is rounded
        raise KeyError("another normalisation than ImageNet's")
    norm.bias.data -= torch.from_numpy(np.einsum("ocyx,c->o", convolution.weight.detach().numpy(), missing))
    convolution.weight.data /= torch.from_numpy(scale)[:, None, None]
    return scale, shift


def _head(values: _Values) -> Iterator[tuple[str, Tensor]]:
    for place, ours in _HEAD.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            name = f"model.layers.{place}.{part}"
            if name in values.constants:
                yield f"1.{ours}.{part}", torch.from_numpy(values[name])
        if place in (0, 3):
            yield f"1.{ours}.num_batches_tracked", torch.tensor(0)


def _pixels(path: Path, photos: list[Path], scale: Array, shift: Array) -> Iterator[Tensor]:
    """The photos as the network's first convolution sees them, float32 [batch, 3, height, width]."""
    classifier = Classifier(path, device="cpu")
    for start in progress_bar(range(0, len(photos), _BATCH), "reading photos"):
        pixels = np.array([classifier.pixels(photo) for photo in photos[start : start + _BATCH]])
        yield torch.from_numpy(pixels * scale + shift).permute(0, 3, 1, 2).contiguous()


def _renew_batch_norms(
    body: nn.Module, pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]], batches: Iterator[Tensor]
) -> None:
    """Give each batch norm the mean and variance of what it gets, and the scale and shift that undo them."""
    sums: dict[nn.Module, list[Tensor]] = {}

    def add(convolution: nn.Module, _: Any, maps: Tensor) -> None:
        maps = maps.double()
        found = [maps.sum((0, 2, 3)), maps.square().sum((0, 2, 3)), torch.tensor(maps[:, 0].numel())]
        before = sums.get(convolution, [torch.tensor(0)] * 3)
        sums[convolution] = [one + more for one, more in zip(before, found, strict=True)]

    hooks = [convolution.register_forward_hook(add) for convolution, _ in pairs]
    with torch.inference_mode():
        for batch in batches:
            for layer in body.children():
                batch = layer(batch)
    for hook in hooks:
        hook.remove()
    for convolution, norm in pairs:
        total, squares, count = sums[convolution]
        mean = total / count
        variance = squares / count - mean.square()
        norm.load_state_dict(
            {
                "running_mean": mean,
                "running_var": variance,
                "weight": (variance + norm.eps).sqrt(),
                "bias": norm.bias.data + mean,
                "num_batches_tracked": torch.tensor(0),
            }
        )


if __name__ == "__main__":
    main()
