"""Measures this machine's peak: the speed at which onnxruntime multiplies two large matrices.

A network's multiplications at that speed are a lower bound of its time (roofline model).
"""

from __future__ import annotations

import time

import numpy as np
import onnxruntime

from ..classifier import Classifier
from ..session.opening import session_options
from ..session.protobuf import field, number
from .latency import STEPS, Latency

SIDE = 1024
_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # ONNX's numbers for element types


def roofline(classifier: Classifier, latency: Latency) -> dict[str, float] | None:
    """How close inference comes to this machine's peak.

    Returns:
        ``peak_gmacs``: the peak, 10⁹ multiply-accumulates per second; ``floor``: the network's time at that speed, ms;
        ``share``: floor divided by the median inference time. None on other devices than the CPU, and for a model file
        that does not contain its number of multiply-accumulates.
    """
    macs = classifier.spec.origin.get("macs")
    if not macs or classifier.provider != "CPUExecutionProvider":
        return None
    peak = peak_macs(classifier.spec.precision, classifier.threads)
    floor = macs / peak * 1000
    median = float(np.median(latency.seconds[:, STEPS.index("inference")])) * 1000
    return {"peak_gmacs": peak / 1e9, "floor": floor, "share": floor / median}


def peak_macs(precision: str, threads: int, products: int = 20) -> float:
    """Multiply-accumulates a second, the best of some products of square matrices, in int8 or else in fp32."""
    rng = np.random.default_rng(0)
    if precision == "int8":
        model = matrix_product("MatMulInteger", _UINT8, _INT8, _INT32)
        a, b = rng.integers(0, 128, (2, SIDE, SIDE)).astype(np.uint8)
        operands = {"a": a, "b": b.astype(np.int8)}
    else:
        model = matrix_product("MatMul", _FLOAT, _FLOAT, _FLOAT)
        a, b = rng.random((2, SIDE, SIDE), np.float32)
        operands = {"a": a, "b": b}
    session = onnxruntime.InferenceSession(model, session_options(threads), providers=["CPUExecutionProvider"])
    seconds = []
    for _ in range(products):
        start = time.perf_counter()
        session.run(None, operands)
        seconds.append(time.perf_counter() - start)
    return float(SIDE**3 / min(seconds))


def matrix_product(operator: str, a: int, b: int, product: int) -> bytes:
    """An ONNX model of one operator, ``product = a × b``, of these element types."""
    node = field(1, b"a") + field(1, b"b") + field(2, b"product") + field(4, operator.encode())
    inputs = field(11, _value(b"a", a)) + field(11, _value(b"b", b))
    graph = field(1, node) + field(2, b"product") + inputs + field(12, _value(b"product", product))
    return number(1, 8) + field(7, graph) + field(8, number(2, 17))  # IR version 8, opset 17


def _value(name: bytes, element_type: int) -> bytes:
    side = field(1, number(1, SIDE))
    return field(1, name) + field(2, field(1, number(1, element_type) + field(2, side + side)))
