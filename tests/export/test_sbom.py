"""The bill of materials that export writes next to each model file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from export.onnx_file.sbom import sbom, sbom_path
from petinfer.classifier import BUNDLED_MODEL
from petinfer.session.model_file import read_spec


def test_the_bundled_models_bill_is_current() -> None:
    expected = sbom(read_spec(BUNDLED_MODEL), BUNDLED_MODEL)
    written = sbom_path(BUNDLED_MODEL).read_text(encoding="utf-8")
    assert written == expected  # if not: python -m export.onnx_file.sbom petinfer/models/pets-int8.onnx


def test_it_holds_the_files_hash_and_score() -> None:
    model = json.loads(sbom_path(BUNDLED_MODEL).read_text(encoding="utf-8"))["metadata"]["component"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(BUNDLED_MODEL.read_bytes()).hexdigest()}]
    metric = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]
    errors = read_spec(BUNDLED_MODEL).score["errors"]
    value = f"{errors / 1000:.6f}"
    assert (metric["type"], metric["value"], metric["slice"]) == ("error rate", value, "1000 photos of test")


def test_it_is_valid_cyclonedx_1_6() -> None:
    pytest.importorskip("cyclonedx", reason="needs cyclonedx-python-lib[json-validation]")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    spec = read_spec(BUNDLED_MODEL)
    for origin in (spec.origin, {}, {"learner": {"file": "export.pkl", "sha256": "0" * 64}}, {"learner": "export.pkl"}):
        assert validator.validate_str(sbom(replace(spec, origin=origin), BUNDLED_MODEL)) is None


def test_export_writes_one_for_each_file(exported: Path, tiny_learner: Path) -> None:
    for model in sorted(exported.glob("model-*.onnx")):
        content = json.loads(sbom_path(model).read_text(encoding="utf-8"))
        parts = {part["bom-ref"]: part for part in content["components"]}
        assert (
            content["metadata"]["component"]["hashes"][0]["content"] == hashlib.sha256(model.read_bytes()).hexdigest()
        )
        assert parts["Learner"]["hashes"][0]["content"] == hashlib.sha256(tiny_learner.read_bytes()).hexdigest()
