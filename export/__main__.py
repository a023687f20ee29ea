"""``python -m export RUN_OR_PKL --out FOLDER``: one model file a precision, proven against the Learner or refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import onnx  # noqa: E402

from petinfer import Classifier, PetinferError  # noqa: E402
from petinfer.image import SUFFIXES, pixels, read  # noqa: E402
from petinfer.spec import ORIENTATIONS, Spec  # noqa: E402

from .card import card  # noqa: E402
from .errors import ExportError, ParityError  # noqa: E402
from .golden import golden_answers  # noqa: E402
from .graph import export_graph, macs, seal  # noqa: E402
from .half import to_half  # noqa: E402
from .learner import Original, load_original  # noqa: E402
from .parity import GATES, Parity, compare, file_answers, learner_logits, table  # noqa: E402
from .quantize import quantize  # noqa: E402
from .report import page  # noqa: E402
from .truth import TRUTHS, true_classes  # noqa: E402


@dataclass(frozen=True)
class Photos:
    """The photos of an export: those that int8 is calibrated on, those that are compared, and how their labels are known."""

    calibration: list[Path]
    comparison: list[Path]
    compared_on: str
    truth: str | None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the model files, their card and parity.json.",
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Where a run's photos lie.  [default: where it found them]"
)
@click.option(
    "--photos", type=click.Path(path_type=Path), help="Photos to compare on.  [default: the run's validation photos]"
)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    help="Photos to calibrate int8 on.  [default: the run's training photos]",
)
@click.option("--calibration-photos", type=click.IntRange(1), default=512, show_default=True, help="How many of them.")
@click.option("--limit", type=click.IntRange(1), help="Compare on this many photos.  [default: all]")
@click.option(
    "--truth",
    type=click.Choice(sorted(TRUTHS)),
    help="How the photos' names tell their labels.  [default: as the run did]",
)
@click.option("--labels", help="The labels' words, separated by commas, in the order of the Learner's vocab.")
@click.option(
    "--orientation",
    type=click.Choice(ORIENTATIONS),
    default="upright",
    show_default=True,
    help="What the file does by default.",
)
@click.option(
    "--allow-worse",
    is_flag=True,
    help="Keep a file that is further from the Learner than is allowed; it says so itself.",
)
@click.pass_context
def main(context: click.Context, /, source: Path, out: Path, **options: Any) -> None:
    """Export SOURCE, the folder of a `python -m train` run or a file that learn.export() wrote.

    A pickled Learner can run any code when it is loaded: export only those that you trust.
    """
    try:
        export(source, out, **options)
    except (ExportError, PetinferError) as error:
        click.echo(f"Error: {error}", err=True)
        context.exit(2)
    except ParityError as error:
        click.echo(f"Error: {error}", err=True)
        context.exit(1)


def export(
    source: Path,
    out: Path,
    data: Path | None,
    photos: Path | None,
    calibrate: Path | None,
    calibration_photos: int,
    limit: int | None,
    truth: str | None,
    labels: str | None,
    orientation: str,
    allow_worse: bool,
) -> None:
    """Export, compare, and put the files in place when they pass."""
    chosen = choose_photos(source, data, photos, calibrate, truth, calibration_photos, limit)
    _require_writable(out)
    if not source.is_dir():
        click.echo(f"loading {source}: a pickle runs the code that it holds", err=True)
    for photo in (*chosen.comparison, *chosen.calibration):
        read(photo, "stored")  # a PhotoError now, rather than fastai's after all the work
    original = load_original(source, chosen.comparison[0], labels.split(",") if labels else None)
    click.echo(f"the Learner answers {len(chosen.comparison)} photos", err=True)
    reference = learner_logits(original, chosen.comparison)
    true = _truth(chosen, original.labels)
    models = {"fp32": export_graph(original)}
    original = replace(original, origin=original.origin | {"macs": macs(models["fp32"])})
    images = np.stack([pixels(photo, original.resize, "stored") for photo in chosen.calibration])
    click.echo(f"int8 is calibrated on {len(images)} photos", err=True)
    models |= {"fp16": to_half(models["fp32"]), "int8": quantize(models["fp32"], images, progress=_progress)}
    with tempfile.TemporaryDirectory(prefix="petinfer-export-") as folder:
        parities = {
            name: _finish(Path(folder), name, model, original, reference, true, chosen, orientation)
            for name, model in models.items()
        }
        for line in table(parities):
            click.echo(line)
        refused = {} if allow_worse else _take_out_worse(parities, Path(folder))
        told = f"{len(chosen.comparison)} photos, {chosen.compared_on}"
        (Path(folder) / "parity.html").write_text(
            page(parities, chosen.comparison, original.labels, told), encoding="utf-8"
        )
        _write_parity(Path(folder) / "parity.json", parities)
        _put_in_place(Path(folder), out, refused)
    click.echo(
        f"written to {out}: {', '.join(f'model-{name}.onnx' for name in parities if name not in refused)}, parity.html"
    )
    if refused:
        raise ParityError(f"{'; '.join(refused.values())}: not kept (--allow-worse keeps it, and says so in it)")


def _progress(items: Iterable[Any], title: str) -> Iterator[Any]:
    """A bar on a terminal, elsewhere the title alone."""
    with click.progressbar(items, label=title, file=sys.stderr) as bar:
        yield from bar


def _truth(photos: Photos, labels: tuple[str, ...]) -> list[int | None] | None:
    """What the photos that are compared show, where that is known."""
    if not photos.truth:
        return None
    truth = true_classes(photos.comparison, photos.truth, labels)
    if not any(index is not None for index in truth):
        click.echo(
            f"no photo's {photos.truth} is a label: errors are not counted (--truth tells another way)", err=True
        )
    return truth


def _finish(
    folder: Path,
    precision: str,
    model: onnx.ModelProto,
    original: Original,
    reference: np.ndarray,
    truth: list[int | None] | None,
    photos: Photos,
    orientation: str,
) -> Parity:
    """Write one model file, compare it through petinfer, and let it say how it did."""
    path = folder / f"model-{precision}.onnx"
    spec = Spec(original.labels, original.resize, orientation, precision, original.origin)
    seal(model, spec, path)
    click.echo(f"{precision} answers them", err=True)
    classifier = Classifier(path, device="cpu", orientation="stored")
    probabilities, logits = file_answers(classifier, photos.comparison)
    parity = compare(reference, probabilities, logits, photos.comparison, original.labels, truth)
    worse = parity.failures(GATES[precision])
    spec = replace(
        spec,
        score=parity.score(photos.compared_on),
        parity=parity.summary() | ({"allowed_worse": worse} if worse else {}),
        golden=golden_answers(original, classifier),
    )
    del classifier  # Windows replaces no file that a session has mapped
    seal(model, spec, path)
    (folder / f"card-{precision}.md").write_text(card(spec, path), encoding="utf-8")
    return parity


def _write_parity(path: Path, parities: dict[str, Parity]) -> None:
    content = {precision: parity.as_json() for precision, parity in parities.items()}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _take_out_worse(parities: dict[str, Parity], folder: Path) -> dict[str, str]:
    """Take out the files that are further from the Learner than allowed, and say why.

    Raises:
        ParityError: fp32 is one of them; then the network itself was exported wrongly, and nothing is kept.
    """
    refused = {}
    for precision, parity in parities.items():
        if failures := parity.failures(GATES[precision]):
            refused[precision] = f"{precision}: {'; '.join(failures)}"
            for path in (folder / f"model-{precision}.onnx", folder / f"card-{precision}.md"):
                path.unlink()
    if "fp32" in refused:
        raise ParityError(
            f"{'; '.join(refused.values())}: no file is kept (--allow-worse keeps them, and says so in them)"
        )
    return refused


def _require_writable(out: Path) -> None:
    """Say now, rather than after all the work, that nothing can be put there."""
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ExportError(f"{out}: cannot be written to (give another --out)")


def _put_in_place(folder: Path, out: Path, refused: Iterable[str]) -> None:
    """Copy beside, then rename: a name in ``out`` never holds half a file, nor an older file of a precision refused now."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        beside = out / f"{path.name}.part"
        shutil.copyfile(path, beside)
        os.replace(beside, out / path.name)
    for precision in refused:
        for name in (f"model-{precision}.onnx", f"card-{precision}.md"):
            (out / name).unlink(missing_ok=True)


def choose_photos(
    source: Path,
    data: Path | None,
    photos: Path | None,
    calibrate: Path | None,
    truth: str | None,
    calibration_photos: int,
    limit: int | None,
) -> Photos:
    """The photos of an export, as its options name them: a run brings its split, a pickled Learner needs ``photos``."""
    split: dict[str, list[str]] = {}
    if source.is_dir():
        split, folder, labelling = _split_of(source)
        data, truth = data or folder, truth or labelling
    elif not source.is_file():
        raise ExportError(f"{source}: no such run or Learner (python -m train makes a run)")
    comparison = _photos_below(photos) if photos else _photos_of(data, split.get("valid"))
    calibration = _photos_below(calibrate) if calibrate else _photos_of(data, split.get("train"), comparison)
    return Photos(
        _spread(calibration, calibration_photos),
        _spread(comparison, limit),
        str(photos.name if photos else "validation photos"),
        truth,
    )


def _split_of(run: Path) -> tuple[dict[str, list[str]], Path, str]:
    try:
        recipe = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
        split = json.loads((run / "split.json").read_text(encoding="utf-8"))
        return split, Path(recipe["photos"].get("folder", "")), recipe["settings"]["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(
            f"{run}: not a finished run: {type(error).__name__} {error} (python -m train --out {run} --resume)"
        ) from error


def _photos_below(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ExportError(f"{folder}: no photos (give another folder)")
    return found


def _photos_of(folder: Path | None, names: list[str] | None, otherwise: list[Path] | None = None) -> list[Path]:
    """The photos of a split, or every second of ``otherwise`` where there is none."""
    if names is None and otherwise is not None:
        return otherwise[::2]
    if names is None or folder is None:
        raise ExportError("photos: a pickled Learner does not bring its own (give a folder with --photos)")
    found = [folder / name for name in names]
    missing = [path for path in found if not path.is_file()]
    if missing:
        raise ExportError(f"{missing[0]}: in the run's split but not there (say where its photos lie with --data)")
    return found


def _spread(photos: Sequence[Path], number: int | None) -> list[Path]:
    """At most this many of the photos, evenly over the list."""
    number = min(number or len(photos), len(photos))
    return [photos[i * len(photos) // number] for i in range(number)]


if __name__ == "__main__":
    main()
