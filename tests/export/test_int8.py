"""int8 that is right on every processor: no two products leave 16 bits, and the file is one of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest
import torch
from torch import nn

from export.onnx_file.fp16 import to_fp16
from export.onnx_file.graph import macs, side_nodes
from export.onnx_file.int8 import Scheme, _sensitive_start, has_int8_sums, pair_sums, quantize, saturating_weights
from petinfer.classifier import BUNDLED_MODEL


@pytest.fixture(scope="module")
def fp32(exported: Path) -> onnx.ModelProto:
    return onnx.load(exported / "model-fp32.onnx")


@pytest.fixture(scope="module", params=["resnet18", "bundled"])
def int8(request: pytest.FixtureRequest, exported: Path) -> onnx.ModelProto:
    """A ResNet-18 just exported, and the bundled ResNet-34."""
    return onnx.load(exported / "model-int8.onnx" if request.param == "resnet18" else BUNDLED_MODEL)


def blocks(model: onnx.ModelProto) -> int:
    """How many blocks a ResNet has: one for every two convolutions, but for the first one and three shortcuts."""
    return (len([node for node in model.graph.node if node.op_type == "Conv"]) - 4) // 2


def test_the_bundled_file_cannot_saturate() -> None:
    model = onnx.load(BUNDLED_MODEL)
    assert saturating_weights(model) == []
    int8 = [init for init in model.graph.initializer if init.data_type == onnx.TensorProto.INT8]
    assert sum(np.prod(init.dims) for init in int8) > 20e6


def test_quantized_weights_are_as_fine_as_their_neighbours_allow(int8: onnx.ModelProto) -> None:
    model = int8
    assert saturating_weights(model) == []
    weights = [
        init for init in model.graph.initializer if init.data_type == onnx.TensorProto.INT8 and len(init.dims) > 1
    ]
    largest = [np.abs(onnx.numpy_helper.to_array(init).astype(int)).max() for init in weights]
    assert len(weights) == 4 + 2 * blocks(int8) and min(largest) > 64


def test_a_file_with_eight_bit_weights_is_found_out(mobile: onnx.ModelProto, small_images: np.ndarray) -> None:
    """255 · 127 twice is 64,770, twice what 16 bits hold: what processors without VNNI would clip."""
    assert saturating_weights(quantize(mobile, small_images, Scheme(weight_range="8 bits")))


def test_neighbours_are_those_that_are_multiplied_together() -> None:
    """One place of the kernel after the other, in each the input channels; an odd one at the end is alone."""
    weights = np.array([[[[1, -5]], [[2, -6]], [[4, 7]]]])  # [1 output, 3 inputs, 1, 2]: 1 2, 4 -5, -6 7
    assert pair_sums(weights).tolist() == [7]
    assert pair_sums(weights[:, :1]).tolist() == [5]
    assert pair_sums(-weights).tolist() == [7]


def sums_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The additions of blocks and their inputs."""
    weights = {each.name for each in model.graph.initializer}
    side, producers = side_nodes(model), {name: node for node in model.graph.node for name in node.output}
    additions = [node for node in model.graph.node if node.op_type == "Add" and node.name not in side]
    read = [[producers[name].input[0] if name in producers else name for name in node.input] for node in additions]
    return [node for node, names in zip(additions, read, strict=True) if not weights & set(names)]


def test_sums_are_rounded(exported: Path) -> None:
    """What they add is int8, and what they give."""
    int8 = onnx.load(exported / "model-int8.onnx")
    producers = {name: node for node in int8.graph.node for name in node.output}
    rounded = {node.input[0] for node in int8.graph.node if node.op_type == "QuantizeLinear"}
    sums = sums_of(int8)
    assert len(sums) == blocks(int8) == 8 and has_int8_sums(int8)
    assert {producers[name].op_type for node in sums for name in node.input} == {"DequantizeLinear"}
    assert {node.output[0] for node in sums} <= rounded


@pytest.mark.parametrize("network", ["resnet18", "bundled"])
def test_sums_in_float_are_not_rounded(fp32: onnx.ModelProto, network: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    scheme = Scheme(float_sums=True, compensated=False)
    model = onnx.load(BUNDLED_MODEL) if network == "bundled" else quantize(fp32, images, scheme)
    producers = {name: node for node in model.graph.node for name in node.output}
    sums = sums_of(model)
    assert len(sums) == blocks(model) and not has_int8_sums(model)
    head = [node for node in model.graph.node if node.name not in side_nodes(model)]
    pools = [node for node in head if node.op_type in ("ReduceMax", "ReduceMean")]
    assert len(pools) == 2 and {producers[pool.input[0]].op_type for pool in pools} == {"Relu"}
    rounded = [producers[name] for node in sums for name in node.input]
    rounded = [producers[node.input[0]] for node in rounded if node.op_type == "DequantizeLinear"]
    sources = [producers[node.input[0]].op_type for node in rounded if node.op_type == "QuantizeLinear"]
    assert sorted(set(sources)) == ["Conv", "MaxPool"] and len(sources) == blocks(model) + 3 + 1  # shortcuts, the pool


def test_the_input_and_the_outputs_stay_as_they_are(int8: onnx.ModelProto) -> None:
    model = int8
    (entry,) = model.graph.input
    assert (entry.name, entry.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert [entry.name for entry in model.graph.output][:2] == ["probabilities", "logits"]
    assert {entry.type.tensor_type.elem_type for entry in model.graph.output} == {onnx.TensorProto.FLOAT}


def test_the_graph_is_plain(fp32: onnx.ModelProto) -> None:
    """One domain, opset 17 or newer, a symbolic batch, no arithmetic on shapes, no path of the machine that made it."""
    assert [(entry.domain, entry.version >= 17) for entry in fp32.opset_import] == [("", True)]
    assert fp32.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not {"Shape", "Gather", "Range"} & {node.op_type for node in fp32.graph.node}
    assert b"/work" not in fp32.SerializeToString() and str(Path.home()).encode() not in fp32.SerializeToString()


def test_the_work_of_a_resnet_is_that_of_the_literature(fp32: onnx.ModelProto) -> None:
    """torchvision's tables say 1.81 GFLOPS for ResNet-18 and 3.66 for ResNet-34 at 224 px; these are GMAC."""
    assert macs(fp32) == pytest.approx(1.81e9, rel=0.01)
    assert macs(onnx.load(BUNDLED_MODEL)) == pytest.approx(3.66e9, rel=0.015)  # 1 % more from space to depth


def test_half_precision_is_the_networks_and_answers_are_single(fp32: onnx.ModelProto) -> None:
    fp16 = to_fp16(fp32)
    types = {init.name: init.data_type for init in fp16.graph.initializer}
    convolutions = [node for node in fp16.graph.node if node.op_type == "Conv"]
    assert {types[node.input[1]] for node in convolutions} == {onnx.TensorProto.FLOAT16}
    assert {entry.type.tensor_type.elem_type for entry in fp16.graph.output} == {onnx.TensorProto.FLOAT}


@pytest.fixture(scope="module")
def mobile() -> onnx.ModelProto:
    """A network as MobileNet's: convolutions, depthwise ones between them, each clipped to 0 to 6."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, 2), nn.ReLU6()]
    for channels in (16, 32):
        layers += [
            nn.Conv2d(channels, channels, 3, groups=channels),
            nn.ReLU6(),
            nn.Conv2d(channels, 32, 1),
            nn.ReLU6(),
        ]
    network = nn.Sequential(*layers).eval()
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=2 / layer.weight[0].numel() ** 0.5)
    return as_onnx(network)


def as_onnx(network: nn.Module) -> onnx.ModelProto:
    """The network over a photo's pixels, as `export_graph` writes one."""

    class OverPixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.network(image.permute(0, 3, 1, 2).float() / 128 - 1)

    program = torch.onnx.export(
        OverPixels().eval(), (torch.zeros(2, 32, 32, 3, dtype=torch.uint8),), input_names=["image"], output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, verbose=False,
    )  # fmt: skip
    return program.model_proto


def test_sums_of_other_than_int8_results_stay_in_float() -> None:
    """A block that multiplies, as squeeze and excitation does, gives floats."""

    class Block(nn.Module):
        def __init__(self, multiply: bool) -> None:
            super().__init__()
            self.convolution, self.multiply = nn.Conv2d(16, 16, 1), multiply

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            found = self.convolution(maps)
            return nn.functional.relu(maps + (found * found.mean() if self.multiply else found))

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), Block(False), Block(True), Block(False)).eval()
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    model = quantize(as_onnx(network), images, Scheme(compensated=False))
    rounded = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert [node.output[0] in rounded for node in sums_of(model)] == [True, False, True]


@pytest.fixture(scope="module")
def small_images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def mobile_int8(mobile: onnx.ModelProto, small_images: np.ndarray) -> onnx.ModelProto:
    return quantize(mobile, small_images)


def test_a_clip_from_0_needs_no_operation(mobile: onnx.ModelProto, mobile_int8: onnx.ModelProto) -> None:
    clips = [node for node in mobile_int8.graph.node if node.op_type == "Clip"]
    assert len([node for node in mobile.graph.node if node.op_type == "Clip"]) == 5
    assert len(clips) == 2  # those of the first convolution and of the depthwise one after it, which stay in float


def test_depthwise_weights_use_all_8_bits(mobile_int8: onnx.ModelProto) -> None:
    int8 = [
        each
        for each in mobile_int8.graph.initializer
        if each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4
    ]
    largest = {tuple(each.dims[1:]): np.abs(onnx.numpy_helper.to_array(each).astype(int)).max() for each in int8}
    assert sorted(largest) == [(1, 3, 3), (16, 1, 1), (32, 1, 1)]
    assert largest[1, 3, 3] >= 126
    assert saturating_weights(mobile_int8) == []


def test_int8_of_a_mobile_network_answers_as_fp32(
    mobile: onnx.ModelProto, mobile_int8: onnx.ModelProto, small_images: np.ndarray
) -> None:
    output = mobile.graph.output[0].name
    exact, rounded = (
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            [output], {"image": small_images}
        )[0]
        for model in (mobile, mobile_int8)
    )
    assert np.square(exact - rounded).mean() < 0.001 * np.square(exact).mean()


def test_a_mobile_network_starts_in_float_until_maps_are_an_eighth_as_wide() -> None:
    """The block that narrows them is an expanding convolution, a depthwise one and a projection; it is in int8."""
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)]
    for stride in (2, 1, 2, 1):
        layers += [nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 3, stride, 1, groups=16), nn.Conv2d(16, 8, 1)]
    network = as_onnx(nn.Sequential(*layers).eval())
    names = [node.name for node in network.graph.node if node.op_type == "Conv"]
    assert len(names) == 15 and _sensitive_start(network) == names[:9]
