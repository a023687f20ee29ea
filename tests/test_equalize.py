"""Channels brought to ranges nearer to each other: the network stays the same in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.equalize import equalize, find_groups
from export.graph import export_graph
from export.learner import load_original

NARROW, WIDE = 0.01, 10.0


def conv(name: str, source: str, target: str, weights: np.ndarray) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    """A convolution of one place, with a bias."""
    kept = [
        onnx.numpy_helper.from_array(weights.astype(np.float32)[..., None, None], f"{name}.weight"),
        onnx.numpy_helper.from_array(np.ones(len(weights), np.float32), f"{name}.bias"),
    ]
    return helper.make_node("Conv", [source, f"{name}.weight", f"{name}.bias"], [target], name), kept


@pytest.fixture(scope="module")
def uneven() -> onnx.ModelProto:
    """A block with a residual whose first channel is a thousandth of its second."""
    first, kept = conv("first", "float", "a", np.array([[NARROW, 0, 0], [0, WIDE, 0]]))
    second, more = conv("second", "b", "c", np.array([[NARROW, NARROW], [WIDE, WIDE]]))
    third, most = conv("third", "e", "f", np.array([[1, 2], [3, 4]]))
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["float"], perm=[0, 3, 1, 2]),
        first,
        helper.make_node("Relu", ["a"], ["b"]),
        second,
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("Relu", ["d"], ["e"]),
        third,
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 4, 4, 3])
    end = helper.make_tensor_value_info("f", TensorProto.FLOAT, ["batch", 2, 4, 4])
    graph = helper.make_graph(nodes, "uneven", [image], [end], kept + more + most)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), np.uint8)


def answers(model: onnx.ModelProto, images: np.ndarray, *watched: str) -> list[np.ndarray]:
    """The model's outputs, and the tensors that are watched."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in watched)
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})


def test_the_answers_stay_and_the_ranges_come_nearer(uneven: onnx.ModelProto) -> None:
    before, residual = answers(uneven, IMAGES, "e")
    after, equalized = answers(equalize(uneven, IMAGES), IMAGES, "e")
    assert after == pytest.approx(before, rel=1e-4)
    uneven_by, even_by = (values.max((0, 2, 3))[1] / values.max((0, 2, 3))[0] for values in (residual, equalized))
    assert uneven_by > 100
    assert even_by < uneven_by**0.6


def test_what_is_summed_is_scaled_alike(uneven: onnx.ModelProto) -> None:
    (group,) = find_groups(uneven.graph)
    assert group.tensors == {"a", "b", "c", "d", "e"}
    assert [node.name for node in group.writers] == ["first", "second"]
    assert [node.name for node in group.readers] == ["second", "third"]


def test_what_something_else_reads_is_left_as_it_is(uneven: onnx.ModelProto) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(uneven)
    model.graph.node.append(helper.make_node("Sigmoid", ["d"], ["g"]))
    model.graph.output.extend([helper.make_tensor_value_info("g", TensorProto.FLOAT, None)])
    assert list(find_groups(model.graph)) == []


def test_a_constant_that_is_added_is_not_scaled_and_so_nothing_is(uneven: onnx.ModelProto) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(uneven)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1, 2, 1, 1), np.float32), "c"))
    del model.graph.node[4]
    assert [sorted(group.tensors) for group in find_groups(model.graph)] == []


def test_a_resnet_answers_the_same(tiny_learner: Path) -> None:
    """The head alone reads the last stage, which stays as it is; three stages and sixteen blocks do not."""
    model = export_graph(load_original(tiny_learner, tiny_learner))
    images = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), np.uint8)
    assert len(list(find_groups(model.graph))) == 19
    before, after = (answers(each, images)[0] for each in (model, equalize(model, images)))
    assert after == pytest.approx(before, abs=1e-5)
