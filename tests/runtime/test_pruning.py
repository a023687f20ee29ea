"""An output less, and what it alone needs: the other answers stay the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petinfer import Classifier, ModelError
from petinfer.classifier import BUNDLED_MODEL
from petinfer.session.pruning import without_output
from petinfer.spec import Spec

onnx = pytest.importorskip("onnx")

GRAPH = """<ir_version: 8, opset_import: ["" : 17]>
    agraph (float[2] given) => (float[2] kept, float[2] dropped) {
        shared = Relu (given)
        first, second = Split <axis=0> (shared)
        only, other = Split <axis=0> (given)
        dropped = Concat <axis=0> (only, first)
        kept = Concat <axis=0> (second, first)
    }"""
BRANCHES = """<ir_version: 8, opset_import: ["" : 17]>
    agraph (bool condition, float[2] given) => (float[2] kept, float[2] dropped) {
        shared = Relu (given)
        dropped = Neg (given)
        kept = If (condition) <
            then_branch = then () => (yes) { yes = Identity (shared) },
            else_branch = else () => (no) { no = Identity (given) }
        >
    }"""


def without(text: str, name: str) -> Any:
    return onnx.load_from_string(without_output(onnx.parser.parse_model(text).SerializeToString(), name))


def test_nodes_that_no_other_output_needs_are_removed() -> None:
    graph = without(GRAPH, "dropped").graph
    assert [each.name for each in graph.output] == ["kept"]
    assert [list(node.output) for node in graph.node] == [["shared"], ["first", "second"], ["kept"]]


def test_without_such_an_output_nothing_is_removed() -> None:
    unused = GRAPH.replace("dropped = Concat", "unused = Concat").replace(", float[2] dropped", "")
    assert without(unused, "dropped") == onnx.parser.parse_model(unused)


def test_a_graph_with_branches_stays_as_it_is() -> None:
    """Branches read tensors of the graph around them."""
    assert without(BRANCHES, "dropped") == onnx.parser.parse_model(BRANCHES)


def test_what_is_no_message_is_an_error() -> None:
    with pytest.raises((ValueError, IndexError)):
        without_output(b"\x3a\x7f", "heat")


def outputs_of(classifier: Classifier) -> set[str]:
    return {output.name for output in classifier.session.get_outputs()}


def test_the_session_computes_heat_maps_once_one_was_asked_for() -> None:
    classifier = Classifier()
    batch = np.random.default_rng(0).integers(0, 256, (2, *classifier.spec.pixels_shape), np.uint8)
    others = sorted({*classifier.spec.outputs} - {"heat"})
    before = classifier.outputs(batch, *others)
    assert outputs_of(classifier) == {*others}
    heat = classifier.outputs(batch, "heat")[0]
    assert outputs_of(classifier) == {*others, "heat"}
    assert heat.shape == (2, *classifier.spec.heat)
    for expected, actual in zip(before, classifier.outputs(batch, *others), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_file_that_was_replaced_gives_no_heat_maps_but_still_predictions(tmp_path: Path, cat_photo: Path) -> None:
    """They would be another network's."""
    path = tmp_path / "model.onnx"
    path.write_bytes(BUNDLED_MODEL.read_bytes())
    classifier = Classifier(path)
    expected = classifier.predict(cat_photo)
    path.unlink()
    path.write_bytes(BUNDLED_MODEL.read_bytes())
    with pytest.raises(ModelError, match="was replaced since it was loaded, so it gives no heat maps"):
        classifier.heat_map(cat_photo)
    assert classifier.predict(cat_photo) == expected


def test_a_relative_path_is_found_from_another_folder(
    tmp_path: Path, cat_photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(BUNDLED_MODEL.read_bytes())
    monkeypatch.chdir(tmp_path)
    classifier = Classifier("model.onnx")
    monkeypatch.chdir("/")
    assert classifier.heat_map(cat_photo).max() == 1


def test_a_file_that_only_describes_heat_maps_is_refused_when_one_is_asked_for(tmp_path: Path, cat_photo: Path) -> None:
    model = onnx.load(BUNDLED_MODEL)
    model.graph.output.remove(next(output for output in model.graph.output if output.name == "heat"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"but its metadata says .*'heat'"):
        Classifier(tmp_path / "model.onnx").heat_map(cat_photo)


def test_a_file_that_does_not_describe_its_heat_maps_is_refused(tmp_path: Path) -> None:
    model = onnx.load(BUNDLED_MODEL)
    entry = next(each for each in model.metadata_props if each.key == "petinfer")
    entry.value = replace(Spec.from_json(entry.value), heat=None).to_json()
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"its outputs are .*'heat'"):
        Classifier(tmp_path / "model.onnx")
