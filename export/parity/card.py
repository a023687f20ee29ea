"""A model's card: its description, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from petinfer.provenance import file_sha256
from petinfer.spec import Familiarity, Spec

_MODES = {"RGB": "RGB", "L": "grey"}


def card(spec: Spec, path: Path) -> str:
    """The card of a model file, Markdown."""
    return "\n".join([f"# {path.name}", "", *_facts(spec, path), ""])


def _facts(spec: Spec, path: Path) -> list[str]:
    origin, resize = spec.origin, spec.resize
    rows = {
        "labels": ", ".join(spec.labels) if len(spec.labels) <= 40 else f"{len(spec.labels)} classes",
        "a photo has": "" if spec.threshold is None else f"every label with a probability over {spec.threshold:g}",
        "network": f"{origin.get('architecture', 'unknown')}, {spec.precision}",
        "input": f"{resize.height} x {resize.width} px, {resize.method}, {resize.resample}, {_MODES[spec.mode]}",
        "orientation": spec.orientation,
        "trained on": _photos(origin.get("photos", {})),
        "content of the photos": _content(origin.get("photos", {})),
        "photos of other things": _unfamiliar(origin.get("photos", {}).get("unfamiliar", {})),
        "starting weights": _weights(origin.get("weights", {})),
        "teacher": _weights(origin.get("teacher", {})),
        "settings": ", ".join(
            f"{name} {value}" for name, value in origin.get("recipe", {}).items() if value not in ("", False, 0)
        ),
        "made with": ", ".join(f"{name} {value}" for name, value in origin.get("versions", {}).items()),
        "made on": str(origin.get("date", "")),
        "errors": _score(spec.score),
        "difference from the Learner": _parity(spec.parity),
        "familiarity": _familiarity(spec.familiarity),
        "digest (sha256 without the digest itself)": spec.sha256,
        "sha256": file_sha256(path),
    }
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items() if value)]


def _photos(photos: dict[str, Any]) -> str:
    return (
        f"{photos['train']} photos, validated on {photos['valid']}; sha256 of the split {photos['split_sha256']}"
        if photos
        else ""
    )


def _content(photos: dict[str, Any]) -> str:
    return f"sha256 of their sums {photos['content_sha256']}" if "content_sha256" in photos else ""


def _unfamiliar(photos: dict[str, Any]) -> str:
    return (
        f"{photos['photos']} photos, trained towards even odds; sha256 of their sums {photos['content_sha256']}"
        if photos
        else ""
    )


def _weights(weights: dict[str, Any]) -> str:
    return f"{weights['file']}" + (f", sha256 {weights['sha256']}" if "sha256" in weights else "") if weights else ""


def _score(score: dict[str, Any]) -> str:
    if not score:
        return ""
    low, high = score["interval"]
    errors, photos = score["errors"], score["photos"]
    return f"{errors} of {photos} photos of {score['on']}: {errors / photos:.2%}, 95 % interval {low:.2%} to {high:.2%}"


def _parity(parity: dict[str, Any]) -> str:
    if not parity:
        return ""
    moved, flips = parity["max_probability_difference"], parity["flips"]
    share = f"; {parity['int8_share']:.1%} of the multiplications in int8" if "int8_share" in parity else ""
    decisions = f"{flips} decision{'s' * (flips != 1)} flipped"
    return f"at most {moved:.1e} in a probability, {decisions}, on {parity['photos']} photos{share}"


def _familiarity(familiarity: Familiarity | None) -> str:
    if familiarity is None:
        return ""
    rows = [_limit(row) for row in familiarity.table]
    against = f" and {familiarity.others} of other things" if familiarity.others else ""
    fitted = (
        f"fitted on {familiarity.photos} training photos{against}, scaled on {familiarity.held_back} held-back photos"
    )
    return "; ".join([fitted, *rows])


def _limit(row: dict[str, Any]) -> str:
    names = {"answered": "answers", "errors_among_answered": "errs on", "others_answered": "answers of other things"}
    parts = []
    for entry, verb in names.items():
        if entry in row:
            low, high = row[entry]["interval"]
            parts.append(f"{verb} {row[entry]['share']:.2%} ({low:.2%} to {high:.2%})")
    return f"from {row['min_familiarity']:.2f} on, it " + ", ".join(parts)
