"""A portable model file computes the same bits, and holds nothing that other runtimes refuse."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import petinfer
from export.onnx_file.portable import make_portable
from petinfer.image import pixels
from petinfer.verify import GOLDEN_PHOTOS


def dequantizing(zero_point: np.ndarray) -> onnx.ModelProto:
    """A graph that dequantizes three biases and adds them; two of them share a zero point."""
    biases = [numpy_helper.from_array(np.array([i, -7], np.int32), f"bias{i}") for i in range(3)]
    constants = [numpy_helper.from_array(np.float32(0.25), "scale"), numpy_helper.from_array(zero_point, "zero")]
    nodes = [helper.make_node("DequantizeLinear", [f"bias{i}", "scale", "zero"], [f"float{i}"]) for i in range(3)]
    nodes.append(helper.make_node("Sum", ["x", "float0", "float1", "float2"], ["y"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "biases", ends[:1], ends[1:], [*biases, *constants])
    opsets = [helper.make_opsetid(domain, version) for domain, version in (("", 18), ("com.microsoft", 1))]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[bytes]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [output.tobytes() for output in session.run(None, inputs)]


def test_zero_points_of_int32_and_unused_operator_sets_are_removed() -> None:
    model = dequantizing(np.int32(0))
    before = run(model, {"x": np.array([1, 2], np.float32)})
    make_portable(model)
    onnx.checker.check_model(model, full_check=True)
    assert [len(node.input) for node in model.graph.node] == [2, 2, 2, 4]
    assert [each.name for each in model.graph.initializer] == ["bias0", "bias1", "bias2", "scale"]
    assert [each.domain for each in model.opset_import] == [""]
    assert run(model, {"x": np.array([1, 2], np.float32)}) == before


def test_a_zero_point_that_matters_stays() -> None:
    model = dequantizing(np.int32(1))
    expected = copy.deepcopy(model.graph)
    make_portable(model)
    assert model.graph == expected


def test_an_operator_set_used_only_inside_a_branch_stays() -> None:
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    branch = helper.make_graph([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], "branch", [], [value])
    choice = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "z")]
    inputs = [helper.make_tensor_value_info("c", TensorProto.BOOL, []), ends[0]]
    opsets = [
        helper.make_opsetid(domain, version) for domain, version in (("", 18), ("com.microsoft", 1), ("ai.onnx.ml", 5))
    ]
    model = helper.make_model(helper.make_graph([choice], "choice", inputs, ends[1:]), opset_imports=opsets)
    make_portable(model)
    assert [each.domain for each in model.opset_import] == ["", "com.microsoft"]


@pytest.fixture(scope="module")
def bundled() -> Path:
    return petinfer.Classifier().path


def test_the_bundled_models_answers_stay_bit_identical(bundled: Path) -> None:
    model, to = onnx.load(bundled), petinfer.Classifier().spec.resize
    batch = np.stack([pixels(path, to, "stored") for path in sorted(GOLDEN_PHOTOS.iterdir())])
    before = run(model, {"image": batch})
    make_portable(model)
    biases = [each.name for each in model.graph.initializer if each.data_type == TensorProto.INT32]
    readers = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in biases]
    assert len(readers) == 36
    assert {len(node.input) for node in readers} == {2}
    assert [each.domain for each in model.opset_import] == [""]
    assert run(model, {"image": batch}) == before
