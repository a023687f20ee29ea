"""The hashes of what a model file was made from: export records them, `petinfer info` computes and prints them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """The sha256 of a file, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recipe_sha256(recipe: dict[str, Any]) -> str:
    """The sha256 of a training's settings: of their JSON with sorted keys, as ``json.dumps`` writes it."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def named_file(entry: object) -> dict[str, Any]:
    """An entry of ``origin`` for a file; files of an older export name the Learner by a text alone."""
    if isinstance(entry, str):
        return {"file": entry}
    return entry if isinstance(entry, dict) else {}
