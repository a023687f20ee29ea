"""``petinfer info``: what a model file says of itself, and the chain of files that it comes from."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..provenance import file_sha256, named_file, recipe_sha256
from .formats import Record, counted

if TYPE_CHECKING:
    from ..spec import Spec

UNKNOWN = "unknown"


@click.command()
@click.argument("model", type=click.Path(), required=False)
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def info(model: str | None, as_json: bool) -> None:
    """Describe a model file, and what it was made from.

    MODEL is a file, or lite for the small bundled one; by default the bundled one. Each step from the photos to the file has
    a sha256 where one is recorded. docs/model-file.md says how to compute each of them again.
    """
    from ..session.graph import check_graph
    from ..session.model_file import read_spec
    from ..session.opening import model_path

    path = model_path(model)
    spec = read_spec(path)
    check_graph(path)
    about = describe(path, spec)
    click.echo(json.dumps(about) if as_json else "\n".join(_lines(about)))


def describe(path: Path, spec: Spec) -> Record:
    """Everything that the command prints. ``chain`` holds the steps from the photos to the file, each with a sha256 or null."""
    from ..session.model_file import digest

    return {
        "model": str(path),
        "digest": spec.sha256,
        "digest_matches": digest(path, spec.sha256) == spec.sha256,
        "labels": list(spec.labels),
        "threshold": spec.threshold,
        "resize": json.loads(spec.to_json())["resize"],
        "input": ["batch", *spec.pixels_shape],
        "orientation": spec.orientation,
        "precision": spec.precision,
        "outputs": {name: ["batch", *shape] for name, shape in spec.outputs.items()},
        "score": spec.score,
        "parity": spec.parity,
        "chain": [*_origin_steps(spec.origin), _step("model file", path.name, file_sha256(path)), _wheel_step(path)],
    }


def _origin_steps(origin: dict[str, Any]) -> Iterator[Record]:
    """What export recorded: any JSON object, of which only what has the expected form is taken."""
    photos, weights, recipe = (_object(origin.get(name)) for name in ("photos", "weights", "recipe"))
    learner = named_file(origin.get("learner"))
    numbers = [photos.get("train"), photos.get("valid")]
    what = f"{numbers[0]} to train on, {numbers[1]} to validate" if None not in numbers else UNKNOWN
    yield _step("photo list", what, photos.get("split_sha256"))
    if "content_sha256" in photos:
        yield _step("photos", what, photos["content_sha256"])
    if unfamiliar := _object(photos.get("unfamiliar")):
        what = f"{unfamiliar.get('photos', UNKNOWN)} trained towards even odds"
        yield _step("photos of other things", what, unfamiliar.get("content_sha256"))
    yield _step("starting weights", weights.get("file", UNKNOWN), weights.get("sha256"))
    if teacher := _object(origin.get("teacher")):
        yield _step("teacher", teacher.get("file", UNKNOWN), teacher.get("sha256"))
    yield _step("recipe", f"{len(recipe)} settings" if recipe else UNKNOWN, recipe and recipe_sha256(recipe))
    yield _step("Learner", learner.get("file", UNKNOWN), learner.get("sha256"))


def _wheel_step(path: Path) -> Record:
    """The wheel that contains the file, if one was installed; pip records its sha256 unless it came from an index."""
    with suppress(PackageNotFoundError, OSError):
        found = distribution("petinfer")
        for file in found.files or ():
            if file.name == path.name and file.hash and path.samefile(str(file.locate())):
                archive = _object(_object(json.loads(found.read_text("direct_url.json") or "{}")).get("archive_info"))
                listed = urlsafe_b64decode(f"{file.hash.value}==").hex()
                wheel = _step("wheel", f"petinfer {__version__}", _object(archive.get("hashes")).get("sha256"))
                return {**wheel, "model_sha256": listed}
    return _step("wheel", UNKNOWN, None)


def _step(step: str, what: object, sha256: object) -> Record:
    known = isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)
    return {"step": step, "what": str(what), "sha256": sha256 if known else None}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _lines(about: Record) -> Iterator[str]:
    """The same as text."""
    from ..image import printable

    resize, shape = about["resize"], _shape(about["input"])
    rows = {
        "model": f"{about['model']}, {about['precision']}",
        "labels": ", ".join(about["labels"]),
        **(
            {}
            if about["threshold"] is None
            else {"a photo": f"has every label with a probability over {about['threshold']:g}"}
        ),
        "input": f"image uint8 {shape}: {resize['method']}, {resize['resample']}, {about['orientation']}",
        "outputs": ", ".join(f"{name} float32 {_shape(sides)}" for name, sides in about["outputs"].items()),
        "score": _score(about["score"]),
        "parity": _parity(about["parity"]),
        "digest": about["digest"]
        + ("" if about["digest_matches"] else ", which the file does not have: it was changed"),
    }
    yield from (f"{name:9}{printable(text)}" for name, text in rows.items())
    yield ""
    for each in about["chain"]:
        yield f"{each['step']:18}{printable(each['what'])[:40]:42}sha256 {each['sha256'] or UNKNOWN}"
        if "model_sha256" in each:
            same = each["model_sha256"] == _file_sha256(about)
            yield f"{'':18}which lists {'this' if same else 'ANOTHER'} model file"


def _file_sha256(about: Record) -> object:
    return next(each["sha256"] for each in about["chain"] if each["step"] == "model file")


def _shape(sides: list[object]) -> str:
    return f"[{', '.join(map(str, sides))}]"


def _score(score: dict[str, Any]) -> str:
    try:
        low, high = score["interval"]
        share = f"{score['errors'] / score['photos']:.2%}, 95 % interval {low:.2%} to {high:.2%}"
        return f"{score['errors']} of {score['photos']} photos of {score['on']} wrong: {share}"
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return json.dumps(score) if score else UNKNOWN


def _parity(parity: dict[str, Any]) -> str:
    try:
        moved, flips = parity["max_probability_difference"], parity["flips"]
        return (
            f"at most {moved:.1e} in a probability, {counted(flips, 'decision')} flipped, on {parity['photos']} photos"
        )
    except (KeyError, TypeError, ValueError):
        return json.dumps(parity) if parity else UNKNOWN
