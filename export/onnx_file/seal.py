"""A model file: the graph, its description, and the sha256 of both."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from petinfer.spec import METADATA_KEY, Spec

from ..atomic import write_atomically


def seal(model: onnx.ModelProto, spec: Spec, path: Path) -> None:
    """Write the model with its description as one file, without external data."""
    describe(model, replace(spec, sha256="0" * 64))
    unsealed = model.SerializeToString()
    describe(model, replace(spec, sha256=hashlib.sha256(unsealed).hexdigest()))
    write_atomically(path, model.SerializeToString())


def describe(model: onnx.ModelProto, spec: Spec) -> None:
    """Set the model's description, in place of an earlier one, with the sizes of the outputs that it has."""
    spec = replace(spec, **_sizes(model))
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend([*kept, onnx.StringStringEntryProto(key=METADATA_KEY, value=spec.to_json())])


def _sizes(model: onnx.ModelProto) -> dict[str, Any]:
    """The entries for ``features`` and ``heat``, None where there is no such output."""
    shapes = {each.name: [dim.dim_value for dim in each.type.tensor_type.shape.dim[1:]] for each in model.graph.output}
    heat = shapes.get("heat")
    return {"features": shapes.get("features", [None])[0], "heat": tuple(heat) if heat else None}
