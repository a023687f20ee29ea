"""The peak of this machine, measured: how fast onnxruntime multiplies two large matrices, where nothing else counts.

What a network takes at that speed is the least that it could take here.
"""

from __future__ import annotations

import time

import numpy as np
import onnxruntime

from .device import session_options

SIDE = 1024
_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # ONNX's numbers for element types


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
    """A model of one operator, ``product = a × b``, of these element types: ONNX's protocol buffers, written by hand, as
    petinfer does without the package onnx.
    """
    node = _field(1, b"a") + _field(1, b"b") + _field(2, b"product") + _field(4, operator.encode())
    inputs = _field(11, _value(b"a", a)) + _field(11, _value(b"b", b))
    graph = _field(1, node) + _field(2, b"product") + inputs + _field(12, _value(b"product", product))
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 17))  # IR version 8, opset 17


def _value(name: bytes, element_type: int) -> bytes:
    side = _field(1, _number(1, SIDE % 128 | 128, SIDE // 128))
    return _field(1, name) + _field(2, _field(1, _number(1, element_type) + _field(2, side + side)))


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content  # all are shorter than 128 bytes


def _number(number: int, *digits: int) -> bytes:
    return bytes([number << 3, *digits])
