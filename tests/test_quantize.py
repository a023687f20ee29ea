"""int8 that is right on every processor: no two products leave 16 bits, and the file is one of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from export.graph import export_graph
from export.half import to_half
from export.learner import load_original
from export.quantize import Scheme, quantize, saturating_weights
from petinfer.classifier import BUNDLED_MODEL


@pytest.fixture(scope="module")
def fp32(tiny_learner: Path) -> onnx.ModelProto:
    return export_graph(load_original(tiny_learner, tiny_learner))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), np.uint8)


def test_the_bundled_file_cannot_saturate() -> None:
    model = onnx.load(BUNDLED_MODEL)
    assert saturating_weights(model) == []
    int8 = [init for init in model.graph.initializer if init.data_type == onnx.TensorProto.INT8]
    assert sum(np.prod(init.dims) for init in int8) > 20e6


def test_quantized_weights_have_seven_bits(fp32: onnx.ModelProto, images: np.ndarray) -> None:
    assert saturating_weights(quantize(fp32, images)) == []


def test_a_file_with_eight_bit_weights_is_found_out(fp32: onnx.ModelProto, images: np.ndarray) -> None:
    """255 · 127 twice is 64,770, twice what 16 bits hold: what processors without VNNI would clip."""
    assert saturating_weights(quantize(fp32, images, Scheme(seven_bits=False)))


def test_the_input_and_the_normalisation_stay_as_they_are(fp32: onnx.ModelProto, images: np.ndarray) -> None:
    model = quantize(fp32, images)
    (entry,) = model.graph.input
    assert (entry.name, entry.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert [entry.name for entry in model.graph.output] == ["probabilities", "logits"]


def test_the_graph_is_plain(fp32: onnx.ModelProto) -> None:
    """One domain, opset 17 or newer, a symbolic batch, no arithmetic on shapes, no path of the machine that made it."""
    assert [(entry.domain, entry.version >= 17) for entry in fp32.opset_import] == [("", True)]
    assert fp32.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not {"Shape", "Gather", "Range"} & {node.op_type for node in fp32.graph.node}
    assert b"/work" not in fp32.SerializeToString() and str(Path.home()).encode() not in fp32.SerializeToString()


def test_half_precision_is_the_networks_and_answers_are_single(fp32: onnx.ModelProto) -> None:
    half = to_half(fp32)
    types = {init.name: init.data_type for init in half.graph.initializer}
    convolutions = [node for node in half.graph.node if node.op_type == "Conv"]
    assert {types[node.input[1]] for node in convolutions} == {onnx.TensorProto.FLOAT16}
    assert [entry.type.tensor_type.elem_type for entry in half.graph.output] == [onnx.TensorProto.FLOAT] * 2
