"""A model file's bill of materials: CycloneDX 1.6, JSON, with a model card (an ML-BOM).

    python -m export.onnx_file.sbom MODEL.onnx

writes it next to the file. `export` does so for each file that it makes. https://cyclonedx.org/docs/1.6/json
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from petinfer.provenance import file_sha256, named_file, recipe_sha256
from petinfer.session.graph import check_graph
from petinfer.session.model_file import read_spec
from petinfer.spec import Spec

from ..atomic import write_atomically

_OUTPUTS = ("probabilities", "logits")
_Json = dict[str, Any]


def sbom_path(model: Path) -> Path:
    """Where a model file's bill of materials is written: ``model-int8.cdx.json``."""
    return model.with_suffix(".cdx.json")


def sbom(spec: Spec, path: Path) -> str:
    """The bill of materials of a model file. The same file gives the same text."""
    sha256 = file_sha256(path)
    parts = list(_parts(spec.origin))
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'sha256:{sha256}')}",
        "version": 1,
        "metadata": {"component": _model(spec, path, sha256)},
        "components": parts,
        "dependencies": [{"ref": "model", "dependsOn": [part["bom-ref"] for part in parts]}],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _model(spec: Spec, path: Path, sha256: str) -> _Json:
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": path.name,
        "version": str(spec.origin.get("date", "unknown")),
        "description": f"Image classifier of {len(spec.labels)} classes, {spec.precision}, made by python -m export",
        "hashes": _hashes(sha256),
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "image classification" if spec.threshold is None else "image classification, several labels",
                "modelArchitecture": str(spec.origin.get("architecture", "unknown")),
                "datasets": [{"ref": "photo list"}] if "photos" in spec.origin else [],
                "inputs": [{"format": f"image, uint8 {_shape(spec.pixels_shape)}"}],
                "outputs": [{"format": f"{name}, float32 [batch, {len(spec.labels)}]"} for name in _OUTPUTS],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(spec))},
        },
        "properties": _properties({"digest": spec.sha256, "labels": list(spec.labels)}),
    }


def _metrics(spec: Spec) -> Iterator[_Json]:
    score, parity = spec.score, spec.parity
    if {"errors", "photos", "interval"} <= set(score):
        low, high = score["interval"]
        yield {
            "type": "error rate",
            "value": f"{score['errors'] / score['photos']:.6f}",
            "slice": f"{score['photos']} photos of {score.get('on', 'unknown')}",
            "confidenceInterval": {"lowerBound": str(low), "upperBound": str(high)},
        }
    for name in ("max_probability_difference", "flips"):
        if name in parity:
            value = str(parity[name])
            yield {"type": f"{name}, to the Learner", "value": value, "slice": f"{parity.get('photos')} photos"}


def _parts(origin: _Json) -> Iterator[_Json]:
    """What the file was made from: photos, starting weights, the Learner, and the packages that trained it."""
    photos, weights, learner, teacher = (
        named_file(origin.get(name)) for name in ("photos", "weights", "learner", "teacher")
    )
    if photos:
        counts: _Json = {name: photos[name] for name in ("train", "valid", "content_sha256") if name in photos}
        data = {"type": "dataset", "name": "photo list", "contents": {"properties": _properties(counts)}}
        yield _part("data", "photo list", "photos of the training", photos.get("split_sha256"), data=[data])
    if photos and (unfamiliar := photos.get("unfamiliar")):
        data = {
            "type": "dataset",
            "name": "photos of other things",
            "contents": {"properties": _properties(unfamiliar)},
        }
        yield _part("data", "photos of other things", "photos of none of the classes", None, data=[data])
    if weights:
        yield _part("file", "starting weights", weights["file"], weights.get("sha256"))
    if teacher:
        yield _part("file", "teacher", teacher["file"], teacher.get("sha256"))
    if learner:
        yield _part("file", "Learner", learner["file"], learner.get("sha256"))
    if origin.get("recipe"):
        recipe = {"type": "configuration", "name": "recipe", "contents": {"properties": _properties(origin["recipe"])}}
        yield _part("data", "recipe", "settings of the training", recipe_sha256(origin["recipe"]), data=[recipe])
    for name, version in origin.get("versions", {}).items():
        purl = f"pkg:{'generic' if name == 'python' else 'pypi'}/{name}@{version}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _part(kind: str, ref: str, name: str, sha256: str | None, **more: Any) -> _Json:
    return {"type": kind, "bom-ref": ref, "name": name, **({"hashes": _hashes(sha256)} if sha256 else {}), **more}


def _hashes(sha256: str) -> list[_Json]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(values: _Json) -> list[_Json]:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return [{"name": f"petinfer:{name}", "value": text} for name, text in texts.items()]


def _shape(sides: tuple[int, ...]) -> str:
    return f"[{', '.join(['batch', *map(str, sides)])}]"


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
def main(model: Path) -> None:
    """Write the bill of materials of MODEL next to it."""
    spec = read_spec(model)
    check_graph(model)
    write_atomically(sbom_path(model), sbom(spec, model).encode())


if __name__ == "__main__":
    main()
