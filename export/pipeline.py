"""The export: load the Learner, build the model files, compare them with it, and write those that pass."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from numpy.typing import NDArray

from petinfer import Classifier
from petinfer.session.model_file import read_spec
from petinfer.spec import PRECISIONS, Familiarity, Golden, Spec

from .atomic import write_atomically
from .errors import ExportError, ParityError
from .onnx_file.familiarity import FEWEST, Measure, Scale, add_familiarity, features_of, fit, set_scale
from .onnx_file.fp16 import to_fp16
from .onnx_file.graph import export_graph, macs
from .onnx_file.int8 import has_int8_sums, int8_share, prepare, quantize_prepared
from .onnx_file.portable import make_portable
from .onnx_file.sbom import sbom, sbom_path
from .onnx_file.seal import seal
from .options import Options
from .parity.answered import Measured, describe, wrong_decisions
from .parity.card import card
from .parity.compare import Array, Parity, Reference, compare, file_outputs
from .parity.double import float64_errors
from .parity.gates import GATES
from .parity.golden import learner_golden, with_file_answers
from .parity.report import page, table
from .parity.turned import compare_turned
from .photos import Photos, choose_photos, require_readable
from .progress import progress_bar
from .source.labels import true_classes
from .source.pickled import load_pickled
from .source.run import load_run
from .source.source_model import SourceModel, learner_logits

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class _Export:
    """What every precision of an export shares."""

    options: Options
    photos: Photos
    source: SourceModel
    reference: Reference
    golden: dict[str, Golden]
    folder: Path
    """Where the files are made, before those that pass are copied to ``options.out``."""
    measure: Measure | None = None
    """The files' familiarity; None if they have none."""


def export(options: Options) -> None:
    """Export, compare, and write the files that pass.

    Raises:
        ExportError: the source cannot be exported, or nothing can be written.
        ParityError: a file does not answer as the Learner does; it was not written.
    """
    photos = choose_photos(options)
    _require_writable(options.out)
    require_readable(photos)
    for reason, count in photos.skipped.items():
        _say(f"skipped {count} image files: {reason}")
    source = load_source(options, photos)
    reference = _answer(source, photos)
    try:
        with tempfile.TemporaryDirectory(prefix="petinfer-export-") as folder:
            _compare_and_write(_Export(options, photos, source, reference, learner_golden(source), Path(folder)))
    except OSError as error:
        place = error.filename or options.out
        raise ExportError(f"{place}: {error.strerror or error} (free some space, or give another --out)") from error


def load_source(options: Options, photos: Photos) -> SourceModel:
    """The run or the pickled Learner, with the labels that the options give."""
    if options.source.is_dir():
        source = load_run(options.source, photos.comparison[0])
    else:
        _say(f"loading {options.source}: a pickle runs the code that it contains")
        source = load_pickled(options.source)
    source = source.with_labels(options.labels)
    if mapping := source.mapping():
        _say(mapping)
    return source


def _answer(source: SourceModel, photos: Photos) -> Reference:
    """The Learner's answers, and the photos' labels where they are known."""
    truth = _truth(source, photos)
    _say(f"the Learner classifies {len(photos.comparison)} photos")
    logits = learner_logits(source.learn, photos.comparison)
    if logits.shape[1:] != (len(source.labels),):
        shape, labels = list(logits.shape[1:]), ", ".join(source.labels)
        problem = f"its network's output for a photo has the shape {shape}, not [{len(source.labels)}]: {labels}"
        raise ExportError(f"learner: {problem[:300]} (train with as many outputs as the vocab has labels)")
    return Reference(photos.comparison, source.labels, logits, truth, source.threshold)


def _truth(source: SourceModel, photos: Photos) -> list[int | None] | None:
    """The photos' labels, where their names or folders tell them."""
    if photos.truth is None:
        return None
    if source.threshold is not None:
        raise ExportError(
            f"--truth: a photo's {photos.truth} is one label, and this Learner gives several (leave it out)"
        )
    truth = true_classes(photos.comparison, photos.truth, source.labels)
    if all(index is None for index in truth):
        _say(f"no photo's {photos.truth} is a label: errors are not counted (--truth gives another way)")
    return truth


def _compare_and_write(run: _Export) -> None:
    fp32 = export_graph(run.source)
    source = replace(run.source, origin=run.source.origin | {"macs": macs(fp32)})
    images = np.array([source.pixels(each) for each in progress_bar(run.photos.calibration, "reading training photos")])
    run = replace(run, source=source, measure=_fit_familiarity(run, fp32, images))
    parities: dict[str, Parity] = {}
    for precision, model in _build(run, fp32, images, parities):
        parities[precision] = _finish(run, precision, model)
        if precision == "fp32" and not run.options.allow_worse:
            take_out_failures(parities, run.folder)  # at once: the other precisions take minutes
    for line in table(parities):
        click.echo(line)
    refused = {} if run.options.allow_worse else take_out_failures(parities, run.folder)
    _write_reports(run, parities)
    _put_in_place(run, refused)
    if refused:
        raise ParityError(f"{'; '.join(refused.values())}: not written (--allow-worse keeps it; the file records it)")


def _build(
    run: _Export, fp32: onnx.ModelProto, images: Pixels, parities: dict[str, Parity]
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The model in each precision; int8 a second time if by its parity the first one is too far from the Learner.

    fp32 is always compared: the others are made from it.
    """
    yield "fp32", fp32
    if "fp16" in run.options.precisions:
        yield "fp16", to_fp16(fp32)
    if "int8" in run.options.precisions:
        _say(f"int8 is calibrated on {len(images)} photos")
        prepared = prepare(fp32, images, progress=progress_bar)
        model = quantize_prepared(prepared, images, progress_bar)
        yield "int8", model
        if has_int8_sums(model) and replace(GATES["int8"], int8_share=0).failures(parities["int8"]):
            _say("int8 is too far from the Learner: again, with the sums of residual blocks in float, which is slower")
            prepared = replace(prepared, scheme=replace(prepared.scheme, float_sums=True))
            yield "int8", quantize_prepared(prepared, images, progress_bar)


def _fit_familiarity(run: _Export, fp32: onnx.ModelProto, images: Pixels) -> Measure | None:
    """The measure of familiarity to the training photos, or None if it cannot be fitted and scaled."""
    held_back = len(run.photos.comparison)
    if all(output.name != "features" for output in fp32.graph.output):
        _say("no familiarity: the network does not end in a linear layer")
    elif min(len(images), held_back) < FEWEST:
        found = f"{len(images)} training photos (--calibrate) and {held_back} others (--photos)"
        _say(f"no familiarity: {found}; it needs {FEWEST} of each")
    else:
        starts = progress_bar(range(0, len(images), 16), "fitting familiarity")
        features = features_of(fp32, (images[i : i + 16] for i in starts))
        return fit(features, _unfamiliar_features(run, fp32))
    return None


def _unfamiliar_features(run: _Export, fp32: onnx.ModelProto) -> Array | None:
    """Of the photos of other things that familiarity is fitted on, if there are any."""
    photos = run.photos.unfamiliar
    batches = (run.source.pixels(each)[np.newaxis] for each in progress_bar(photos, "photos of other things"))
    return features_of(fp32, batches) if photos else None


def _finish(run: _Export, precision: str, model: onnx.ModelProto) -> Parity:
    """Write one model file, compare it through petinfer, and record the result in it."""
    path = run.folder / f"model-{precision}.onnx"
    source = run.source
    spec = Spec(source.labels, source.resize, run.options.orientation, precision, source.origin)
    spec = replace(spec, mode=source.mode, threshold=source.threshold)
    make_portable(model)
    if run.measure:
        model = add_familiarity(model, run.measure)
        spec = replace(spec, familiarity=Familiarity(run.measure.photos, 1, (), others=run.measure.others))
    seal(model, spec, path)
    classifier = Classifier(path, device="cpu", orientation="stored")
    names = ["probabilities", "logits", *(["familiarity"] if run.measure else [])]
    photos = progress_bar(run.reference.photos, f"comparing {precision}")
    probabilities, logits, *closeness = file_outputs(classifier, photos, *names)
    details = _details(run, precision, model, classifier, probabilities)
    parity = replace(compare(run.reference, probabilities, logits), **details)
    failures = GATES[precision].failures(parity)
    scale = set_scale(model, closeness[0]) if closeness else None
    if scale and run.measure:
        measured = _measured(run, classifier, scale, probabilities, closeness[0])
        spec = replace(spec, familiarity=describe(measured, run.measure))
    spec = replace(
        spec,
        score=parity.score(run.photos.compared_on),
        parity=parity.summary() | ({"allowed_worse": failures} if failures else {}),
        golden=with_file_answers(run.golden, classifier, scale),
    )
    del classifier  # Windows cannot replace a file that a session has mapped
    seal(model, spec, path)
    sealed = read_spec(path)  # with the digest
    (run.folder / f"card-{precision}.md").write_text(card(sealed, path), encoding="utf-8")
    sbom_path(path).write_text(sbom(sealed, path), encoding="utf-8")
    return parity


def _measured(run: _Export, classifier: Classifier, scale: Scale, probabilities: Array, closeness: Array) -> Measured:
    """Familiarity of photos that nothing was fitted on; ``classifier`` still gives closeness."""
    others = None
    if run.photos.others:
        (found,) = file_outputs(classifier, progress_bar(run.photos.others, "photos of other things"), "familiarity")
        others = scale(found)
    return Measured(scale(closeness), wrong_decisions(probabilities, run.reference.truth), others)


def _details(
    run: _Export, precision: str, model: onnx.ModelProto, classifier: Classifier, probabilities: Array
) -> dict[str, Any]:
    """What only one precision's comparison has: float64 and EXIF turns for fp32, the share and calibration of int8."""
    if precision == "fp32":
        errors = float64_errors(run.source, run.reference, probabilities) or (None, None)
        turned = compare_turned(classifier, run.reference.photos, probabilities)
        return {"file_error": errors[0], "torch_error": errors[1], "turned": turned}
    if precision == "int8":
        return {"int8_share": int8_share(model), "calibrated_on": len(run.photos.calibration)}
    return {}


def take_out_failures(parities: dict[str, Parity], folder: Path) -> dict[str, str]:
    """Delete the files that exceed their tolerance; by precision, the goals that were missed.

    Raises:
        ParityError: fp32 is one of them, so that the network itself was exported wrongly: nothing is written.
    """
    refused = {}
    for precision, parity in parities.items():
        if failures := GATES[precision].failures(parity):
            refused[precision] = f"{precision}: {'; '.join(failures)}"
            for path in _files(folder, precision):
                path.unlink(missing_ok=True)
    if "fp32" in refused:
        reasons = "; ".join(refused.values())
        raise ParityError(f"{reasons}: no file is written (--allow-worse keeps them; the files record it)")
    return refused


def _write_reports(run: _Export, parities: dict[str, Parity]) -> None:
    compared_on = f"{len(run.reference.photos)} photos, {run.photos.compared_on}"
    (run.folder / "parity.html").write_text(page(parities, run.reference, compared_on), encoding="utf-8")
    content = {precision: parity.as_json() for precision, parity in parities.items()}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (run.folder / "parity.json").write_text(text, encoding="utf-8")


def _require_writable(out: Path) -> None:
    """Raise now, rather than after all the work, if nothing can be written there."""
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ExportError(f"{out}: cannot be written to (give another --out)")


def _put_in_place(run: _Export, refused: Iterable[str]) -> None:
    """Copy the chosen files to ``out``, and delete an older file of a precision that was refused."""
    out = run.options.out
    out.mkdir(parents=True, exist_ok=True)
    left_out = {path for name in PRECISIONS if name not in run.options.precisions for path in _files(run.folder, name)}
    for path in sorted(set(run.folder.iterdir()) - left_out):
        write_atomically(out / path.name, path.read_bytes())
    for precision in refused:
        for path in _files(out, precision):
            path.unlink(missing_ok=True)
    kept = [name for name in run.options.precisions if name not in refused]
    _say(f"written to {out}: {', '.join([*(f'model-{name}.onnx' for name in kept), 'parity.html'])}")


def _files(folder: Path, precision: str) -> tuple[Path, ...]:
    model = folder / f"model-{precision}.onnx"
    return model, folder / f"card-{precision}.md", sbom_path(model)


def _say(message: str) -> None:
    click.echo(message, err=True)
