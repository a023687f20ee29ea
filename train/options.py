"""What the command line asks for, and which of it a run saves so that it can be resumed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

_SINGLE = ("weights", "test", "sources", "unfamiliar")  # inputs that a run saves, each one path


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    out: Path
    data: tuple[Path, ...] = ()
    test: Path | None = None
    weights: Path | None = None
    recipe_file: Path | None = None
    split_file: Path | None = None
    hold_out: tuple[str, ...] = ()
    sources: Path | None = None
    unfamiliar: Path | None = None
    without: Path | None = None
    limit: int | None = None
    per_source: int | None = None
    find_lr: bool = False
    resume: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    """The fields of the recipe that the command line sets."""


def with_previous_inputs(options: Options, content: dict[str, Any]) -> Options:
    """The options, with the folders and weights of the run to resume where none are given; see `input_paths`."""
    before = content.get("sources", {})
    data = before.get("data") or []
    data = tuple(Path(folder) for folder in ([data] if isinstance(data, str) else data))
    kept: dict[str, Any] = {
        name: getattr(options, name) or (Path(before[name]) if before.get(name) else None) for name in _SINGLE
    }
    return replace(options, data=options.data or data, **kept)


def input_paths(options: Options) -> dict[str, Any]:
    """The inputs of a run, as saved in ``recipe.json`` for ``--resume``."""
    paths = {name: getattr(options, name) for name in _SINGLE}
    return {
        "data": [str(folder) for folder in options.data],
        **{name: path and str(path) for name, path in paths.items()},
    }
