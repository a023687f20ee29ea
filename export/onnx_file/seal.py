"""A model file: the graph, its description, and the sha256 of both."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

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
    """Set the model's description, in place of an earlier one."""
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend([*kept, onnx.StringStringEntryProto(key=METADATA_KEY, value=spec.to_json())])
