"""The network as an ONNX graph that takes a photo's pixels as the resize left them."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import onnx
import torch
from fastai.layers import AdaptiveConcatPool2d
from fastai.layers import Flatten as FastaiFlatten
from torch import Tensor, nn

from petinfer.spec import METADATA_KEY, Spec

from .learner import Original, Statistics

OPSET = 18


class PixelsToAnswers(nn.Module):
    """``image`` uint8 [batch, height, width, 3] → ``probabilities`` and ``logits``, float32 [batch, classes]."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, statistics: Statistics | None) -> None:
        super().__init__()
        self.model = _with_plain_pooling(model)
        mean, std = statistics or ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        # fastai divides by 255, subtracts and divides again; one multiplication and one addition do the same
        self.register_buffer("scale", torch.tensor([1 / (255 * s) for s in std]).view(1, -1, 1, 1))
        self.register_buffer("shift", torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise, classify, softmax."""
        logits = self.model(image.permute(0, 3, 1, 2).float() * self.scale + self.shift)
        return logits.softmax(1), logits


class _GlobalConcatPool(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], 1)


def _with_plain_pooling(model: nn.Module) -> nn.Module:
    """fastai's head pools adaptively, whatever the size of the maps, which becomes a dozen nodes of arithmetic on shapes."""
    for name, child in model.named_children():
        if isinstance(child, AdaptiveConcatPool2d) and child.size == 1:
            setattr(model, name, _GlobalConcatPool())
        elif isinstance(child, FastaiFlatten):
            setattr(model, name, nn.Flatten())
        else:
            _with_plain_pooling(child)
    return model


def export_graph(original: Original) -> onnx.ModelProto:
    """The fp32 model, checked, without its description."""
    height, width = original.resize.height, original.resize.width
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            PixelsToAnswers(copy.deepcopy(original.model), original.statistics).eval(),
            (example,),
            input_names=["image"],
            output_names=["probabilities", "logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_where_it_came_from(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _forget_where_it_came_from(model: onnx.ModelProto) -> None:
    """Drop torch's notes on each node: stack traces with this machine's paths, a tenth of a megabyte."""
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
        *model.graph.initializer,
    ):
        del part.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""


def describe(model: onnx.ModelProto, spec: Spec) -> None:
    """Write the description into the model, in place of one that it had."""
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend([*kept, onnx.StringStringEntryProto(key=METADATA_KEY, value=spec.to_json())])


def save(model: onnx.ModelProto, path: Path) -> None:
    """One file, no external data."""
    onnx.save_model(model, str(path))
