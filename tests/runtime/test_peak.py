"""The matrix product that this machine's peak is measured with, and what is made of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest

from petinfer import Classifier
from petinfer.bench.latency import Latency
from petinfer.bench.peak import SIDE, matrix_product, peak_macs, roofline


@pytest.mark.parametrize(
    ("operator", "types", "dtypes"),
    [("MatMul", (1, 1, 1), (np.float32, np.float32)), ("MatMulInteger", (2, 3, 6), (np.uint8, np.int8))],
)
def test_the_model_written_by_hand_is_one_and_multiplies(operator: str, types: tuple, dtypes: tuple) -> None:
    onnx = pytest.importorskip("onnx")
    model = matrix_product(operator, *types)
    read = onnx.load_from_string(model)
    onnx.checker.check_model(read, full_check=True)
    assert (read.ir_version, [(each.domain, each.version) for each in read.opset_import]) == (8, [("", 17)])
    values = [*read.graph.input, *read.graph.output]
    assert (read.graph.name, [each.name for each in values]) == ("product", ["a", "b", "product"])
    shapes = [[side.dim_value for side in each.type.tensor_type.shape.dim] for each in values]
    assert shapes == [[SIDE, SIDE]] * 3
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 9, (SIDE, SIDE)).astype(dtype) for dtype in dtypes)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"a": a, "b": b})
    assert np.array_equal(product, a.astype(np.float64) @ b.astype(np.float64))


def test_a_peak_is_measured_in_each_precision() -> None:
    assert all(peak_macs(precision, threads=1, products=1) > 1e8 for precision in ("fp32", "int8"))


def test_the_floor_is_the_networks_work_at_the_peak() -> None:
    classifier = Classifier(threads=1)
    classifier.spec = dataclasses.replace(classifier.spec, origin={"macs": 10**9})
    found = roofline(classifier, Latency(np.array([[0, 0, 0.5, 0.5]]), 1.0))
    assert found is not None
    assert found["floor"] == pytest.approx(1000 / found["peak_gmacs"])
    assert found["share"] == pytest.approx(found["floor"] / 500)


def test_the_peak_is_of_the_models_precision_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[bool, int]] = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, model: bytes, options: onnxruntime.SessionOptions, **more: list[str]) -> None:
            opened.append((b"MatMulInteger" in model, options.intra_op_num_threads))
            super().__init__(model, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert peak_macs("int8", threads=2, products=1) < 1e14  # far more than any processor does
    assert peak_macs("fp16", threads=1, products=1) < 5e12
    assert opened == [(True, 2), (False, 1)]


def test_the_share_is_of_the_median_of_inference_alone() -> None:
    classifier = Classifier(threads=1)
    classifier.spec = dataclasses.replace(classifier.spec, precision="fp32", origin={"macs": 10**9})
    seconds = np.array([[0.1, 0.2, inference, 0.9] for inference in (0.25, 0.75, 0.5)])
    found = roofline(classifier, Latency(seconds, 1.0))
    assert found is not None and set(found) == {"peak_gmacs", "floor", "share"}
    assert found["share"] == pytest.approx(found["floor"] / 500)


class Elsewhere(Classifier):
    """A classifier that says another provider computes."""

    provider = "OtherExecutionProvider"


def test_another_device_has_no_roofline() -> None:
    classifier = Elsewhere(threads=1)
    assert classifier.spec.origin["macs"] > 0
    assert roofline(classifier, Latency(np.ones((1, 4)), 1.0)) is None


def test_a_file_without_its_number_of_operations_has_no_roofline() -> None:
    classifier = Classifier(threads=1)
    classifier.spec = dataclasses.replace(classifier.spec, origin={})
    assert roofline(classifier, Latency(np.zeros((1, 4)), 1.0)) is None
