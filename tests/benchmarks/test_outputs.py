"""Copies of a model file with fewer outputs: they answer as before, and have less to compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnxruntime import InferenceSession

from benchmarks.outputs import ALWAYS, write_variants
from petinfer.session.model_file import read_spec
from petinfer.session.opening import model_path

FURTHER = ["features", "heat", "familiarity"]
OUTPUTS = {"without": [], "again": [], **{name: [name] for name in FURTHER}, "all": FURTHER}


def test_each_variant_has_its_outputs_and_the_same_answers(tmp_path: Path) -> None:
    path = model_path("lite")
    variants = write_variants(path, tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (1, *read_spec(path).pixels_shape), np.uint8)
    nodes, answers = {}, {}
    for name, file in variants.items():
        nodes[name] = len(onnx.load(file).graph.node)
        session = InferenceSession(file, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_outputs()]
        answers[name] = dict(zip(names, session.run(None, {"image": image}), strict=True))
    assert {name: list(found) for name, found in answers.items()} == {
        name: [*ALWAYS, *further] for name, further in OUTPUTS.items()
    }
    for name, found in answers.items():
        for output, value in found.items():
            np.testing.assert_array_equal(value, answers["all"][output], f"{output} of {name}")
    assert nodes["without"] == nodes["again"] < nodes["familiarity"] < nodes["all"] == len(onnx.load(path).graph.node)
