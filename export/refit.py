"""``python -m export.refit MODEL``: familiarity of a finished model file anew, from its own features. It needs no Learner.

For other training photos than the export took, for photos like a device's own, or to add photos of other things.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import onnx

from petinfer import Classifier
from petinfer.session.model_file import read_spec
from petinfer.spec import Familiarity
from petinfer.verify import GOLDEN_PHOTOS, verify

from .atomic import write_atomically
from .errors import ExportError
from .exits import in_one_line
from .onnx_file.familiarity import FEWEST, add_familiarity, fit, set_scale, without_familiarity
from .onnx_file.sbom import sbom, sbom_path
from .onnx_file.seal import seal
from .parity.answered import Measured, describe, wrong_decisions
from .parity.card import card
from .parity.compare import Array, file_outputs
from .photos import evenly_spaced, photos_below, require_disjoint, unfamiliar_photos
from .progress import progress_bar
from .source.labels import true_classes

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclass(frozen=True)
class Refit:
    """The photos of a refit."""

    training: Sequence[Path]
    held_back: Sequence[Path]
    """Photos of the classes, none of them in ``training``: they set the scale."""
    unfamiliar: Sequence[Path] = ()
    """Photos of none of the classes, to fit on."""
    others: Sequence[Path] = ()
    """Photos of none of the classes, none of them in ``unfamiliar``: how many of them are familiar is measured."""
    truth: str = "species"
    """How the names of ``held_back`` give their labels."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The new model file.")
@click.option("--calibrate", type=_FOLDER, required=True, help="Training photos, to fit on.")
@click.option("--calibration-photos", type=click.IntRange(FEWEST), help="How many of them.  [default: all]")
@click.option("--photos", type=_FOLDER, required=True, help="Other photos of the classes, to set the scale.")
@click.option("--unfamiliar", type=_FOLDER, help="Photos of none of the classes, to fit on.")
@click.option("--others", type=_FOLDER, help="Other photos of none of the classes: measure how many are familiar.")
@click.option("--truth", type=click.Choice(["breed", "folder", "species"]), default="species", show_default=True,
              help="How the names of --photos give their labels.")  # fmt: skip
@click.pass_context
def main(context: click.Context, /, model: Path, out: Path, calibration_photos: int | None, truth: str, calibrate: Path,
         photos: Path, unfamiliar: Path | None, others: Path | None) -> None:  # fmt: skip
    """Fit the familiarity of MODEL again, from the features that it computes itself."""
    with in_one_line(context):
        found = Refit(
            evenly_spaced(photos_below(calibrate, {}), calibration_photos),
            photos_below(photos, {}),
            unfamiliar_photos(unfamiliar, {}),
            photos_below(others, {}) if others else (),
            truth,
        )
        click.echo(refit(model, out, found))


def refit(path: Path, out: Path, photos: Refit) -> str:
    """Write a model file with another familiarity, its card and its bill of materials; returns the row of its card.

    Probabilities, logits, features and heat maps stay as they are, to the bit.

    Raises:
        ExportError: the file has no features, there are too few photos, the new file does not pass `verify`, or it
            cannot be written.
    """
    _check(path, photos)
    try:
        return _refit(path, out, photos)
    except OSError as error:
        raise ExportError(f"{error.filename or out}: {error.strerror or error} (give another --out)") from error


def _refit(path: Path, out: Path, photos: Refit) -> str:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="petinfer-refit-") as folder:
        made = Path(folder) / out.name
        _write(path, made, photos)
        if failures := verify(Classifier(made, device="cpu")).failures:
            raise ExportError(f"{path}: its new file fails verify: {failures[0]} (export it again)")
        spec = read_spec(made)
        text = card(spec, made)
        for name, content in ((out, made.read_bytes()), (out.with_suffix(".md"), text.encode()),
                              (sbom_path(out), sbom(spec, made).encode())):  # fmt: skip
            write_atomically(name, content)
    return next(line for line in text.splitlines() if line.startswith("| familiarity |"))


def _check(path: Path, photos: Refit) -> None:
    if read_spec(path).features is None:
        raise ExportError(f"{path}: has no features to fit familiarity on (export it again, with petinfer of today)")
    for name, found in (("--calibrate", photos.training), ("--photos", photos.held_back)):
        if len(found) < FEWEST:
            raise ExportError(f"{name}: {len(found)} photos, familiarity needs {FEWEST} (give another folder)")
    require_disjoint(photos.training, photos.held_back, "--calibrate and --photos")
    require_disjoint(photos.unfamiliar, photos.others, "--unfamiliar and --others")


def _write(path: Path, made: Path, photos: Refit) -> None:
    before, spec = Classifier(path, device="cpu", orientation="stored"), read_spec(path)
    training = _features(before, photos.training, "training photos")
    unfamiliar = _features(before, photos.unfamiliar, "photos of other things") if photos.unfamiliar else None
    measure = fit(training, unfamiliar)
    model = add_familiarity(without_familiarity(onnx.load(path)), measure)
    unscaled = replace(spec, familiarity=Familiarity(measure.photos, 1, (), others=measure.others))
    seal(model, unscaled, made)
    classifier = Classifier(made, device="cpu", orientation="stored")
    outputs = file_outputs(
        classifier, progress_bar(photos.held_back, "held-back photos"), "probabilities", "familiarity"
    )
    scale = set_scale(model, outputs[1])
    others = None
    if photos.others:
        (closeness,) = file_outputs(classifier, progress_bar(photos.others, "photos of other kinds"), "familiarity")
        others = scale(closeness)
    truth = None if spec.threshold is not None else true_classes(list(photos.held_back), photos.truth, spec.labels)
    measured = Measured(scale(outputs[1]), wrong_decisions(outputs[0], truth), others)
    (golden,) = file_outputs(classifier, [GOLDEN_PHOTOS / name for name in spec.golden], "familiarity")
    answers = zip(spec.golden.items(), scale(golden).tolist(), strict=True)
    renewed = {name: replace(each, familiarity=familiar) for (name, each), familiar in answers}
    del classifier  # Windows cannot replace a file that a session has mapped
    seal(model, replace(spec, familiarity=describe(measured, measure), golden=renewed), made)


def _features(classifier: Classifier, photos: Sequence[Path], title: str) -> Array:
    return file_outputs(classifier, progress_bar(photos, title), "features")[0]


if __name__ == "__main__":
    main()
