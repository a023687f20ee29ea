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
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
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


def test_a_file_without_its_number_of_operations_has_no_roofline() -> None:
    classifier = Classifier(threads=1)
    classifier.spec = dataclasses.replace(classifier.spec, origin={})
    assert roofline(classifier, Latency(np.zeros((1, 4)), 1.0)) is None
