"""Files that the package onnx writes and petinfer refuses, before onnxruntime parses them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import defs, helper

from petinfer import Classifier, ModelError
from petinfer.classifier import BUNDLED_MODEL
from petinfer.session.operators import OPERATORS


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    model = onnx.load(BUNDLED_MODEL)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin")
    with pytest.raises(ModelError, match=r"model\.onnx: its tensor '[\w.]+' is stored in another file"):
        Classifier(tmp_path / "model.onnx")


def test_an_operator_inside_an_if_is_checked(tmp_path: Path) -> None:
    model = onnx.load(BUNDLED_MODEL)
    branch = helper.make_graph([helper.make_node("Decrypt", [], ["y"], domain="com.example")], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"its operator 'Decrypt' of the domain 'com\.example' is unknown"):
        Classifier(tmp_path / "model.onnx")


def test_a_function_in_a_file_is_refused(tmp_path: Path) -> None:
    model = onnx.load(BUNDLED_MODEL)
    relu = helper.make_node("Relu", ["x"], ["y"])
    model.functions.append(helper.make_function("com.example", "F", ["x"], ["y"], [relu], model.opset_import[:1]))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="defines functions of its own"):
        Classifier(tmp_path / "model.onnx")


def test_the_permitted_operators_are_spelt_as_onnx_spells_them() -> None:
    standard = {schema.name.encode() for schema in defs.get_all_schemas_with_history() if not schema.domain}
    known = standard | {b"Attention", b"BitCast", b"CumProd", b"LinearAttention", b"SwiGLU", b"Swish", b"TensorScatter"}
    assert OPERATORS[b""] - known == set()  # the last ones are missing in an older onnx
