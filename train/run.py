"""A training run: the lesson's five steps, in order."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch
from fastai.vision.all import Callback, Learner, PILImage, slide, valley
from PIL import UnidentifiedImageError

from .artifacts import file_sha256, load, require_run, save, save_network, versions, write_json
from .batch_norms import renew_batch_norms
from .calibration import calibrate
from .checkpoint import Checkpoint
from .data import common_folder, dataloaders, find_photos
from .distillation import Distillation, DoubtfulLabel, Weights, doubtful_labels, make_teacher
from .errors import TrainingError
from .evaluation import Evaluation, Floats, Ints, Source, evaluate, predict_logits, require_known_labels
from .fine_tuning import fine_tune, seed_everything
from .labels import LABELLINGS
from .learner import make_learner
from .linear import fit_linear
from .options import Options, input_paths, with_previous_inputs
from .photos import Photos, choose_photos, decodable
from .processes import is_first, is_one_of_several, leave_other_processes
from .recipe import Recipe, as_settings, load_content, load_settings
from .report import RunDetails, write_report
from .split import Split, joint_sha256, require_photos, source_in
from .unfamiliar import EvenOdds, UnfamiliarPhotos


@dataclass(frozen=True)
class Training:
    """How training went."""

    completed: bool
    log: list[list[float | None]]
    teaching: list[Distillation]
    answers: tuple[Floats, Ints] | None = None
    """Logits and labels of the validation photos, where they are known already."""


def train(options: Options) -> bool:
    """Carry out a run and write its files into ``options.out``.

    Returns:
        Whether training was completed. After Ctrl-C it was not; from the first epoch on, the weights so far are saved.
    """
    recipe = _settings(options)
    if options.resume:
        options = with_previous_inputs(options, load_content(options.out / "recipe.json"))
    _refuse_several_processes(recipe, options)
    photos = choose_photos(options, recipe)  # 1. data
    seed_everything(recipe.seed)
    learn = make_learner(dataloaders(photos.folder, photos.split, recipe), recipe, options.weights)  # 2. model
    if is_first():
        options.out.mkdir(parents=True, exist_ok=True)
    if options.find_lr:
        _show_learning_rates(learn, options.out)
        return True
    training = _fit(learn, recipe, options, photos)  # 3. training
    if not is_first():
        return training.completed
    if not training.log and not training.completed:
        _say("\nstopped before the end of the first epoch: nothing was saved (--resume starts again)")
        return False
    doubtful = _save(learn, recipe, options, photos, training)
    evaluated = {"validation": None, **({"test": photos.tests} if photos.tests else {})}
    details = RunDetails(training.log, doubtful)
    _evaluate(learn, recipe, options.out, evaluated, details, source_in(options.sources))  # 4. evaluation
    _print_prediction(learn, photos.folder / photos.split.valid[0], recipe.labels)  # 5. prediction
    click.echo(f"saved in {options.out}: model.safetensors and recipe.json, for `python -m export {options.out}`,")
    click.echo("and learner.pkl for fastai's load_learner (loading a pickle runs code: load only those you trust)")
    return training.completed


def _say(text: str) -> None:
    click.echo(text, err=True)


# Settings


def _settings(options: Options) -> Recipe:
    """The recipe: of the run to resume, or of the recipe file and the options."""
    recipe_file = options.out / "recipe.json"
    if options.resume:
        _refuse_beside_resume(options)
        require_run(options.out)
        return Recipe.load(recipe_file)
    if is_first() and recipe_file.exists():  # of several processes, the first writes it
        raise TrainingError(f"{options.out}: already contains a run (use another --out, or --resume to continue it)")
    return Recipe(**(load_settings(options.recipe_file) if options.recipe_file else {}) | options.settings)


def _refuse_several_processes(recipe: Recipe, options: Options) -> None:
    alone = {f"teacher {recipe.teacher}": recipe.teacher, "linear": recipe.linear, "--unfamiliar": options.unfamiliar}
    if is_one_of_several() and any(alone.values()):
        what = next(name for name, chosen in alone.items() if chosen)
        raise TrainingError(f"{what}: needs a single process, several are not synchronised (leave out torchrun)")


def _refuse_beside_resume(options: Options) -> None:
    chosen = (
        options.recipe_file,
        options.split_file,
        options.limit,
        options.per_source,
        options.hold_out,
        options.without,
    )
    if options.settings or any(chosen):
        raise TrainingError("--resume: continues with the settings of the run (omit the others, or start another run)")


# 3. training


def _fit(learn: Learner, recipe: Recipe, options: Options, photos: Photos) -> Training:
    if is_first() and not options.resume:
        photos.split.save(options.out / "split.json")
        kept = {"settings": as_settings(recipe), "sources": input_paths(options), "photos": photos.facts}
        write_json(options.out / "recipe.json", kept)
    if recipe.linear:
        source = source_in(options.sources)
        sources = [source(photo) for photo in learn.dls.train_ds.items] if options.sources else None
        fit = fit_linear(learn, options.out, sources, recipe.weight_decay)
        click.echo(f"weight decay of the linear layer: {fit.decay}", err=True)
        return Training(True, [], [], (fit.logits, fit.labels))
    checkpoint = Checkpoint(options.out / "checkpoint.pth", options.resume)
    teaching = _teaching(recipe, options.weights, options.out)
    completed = fine_tune(learn, recipe, checkpoint, [*teaching, *_unfamiliar(recipe, photos)])
    leave_other_processes()
    if not completed and checkpoint.log and is_first():
        _say(f"\ninterrupted after {checkpoint.epochs} epochs: the weights so far are saved; --resume continues")
    return Training(completed, checkpoint.log, teaching)


def _teaching(recipe: Recipe, weights: Path | None, out: Path) -> list[Distillation]:
    if not recipe.teacher:
        return []
    start = weights.with_name("projections.safetensors") if weights else None
    start = start if start and start.exists() else None
    weights_of_loss = Weights(labels=recipe.teacher_labels, own_labels=recipe.label_weight)
    return [Distillation(make_teacher(recipe.teacher, out), start, weights_of_loss)]


def _unfamiliar(recipe: Recipe, photos: Photos) -> list[Callback]:
    """Photos of none of the classes in each batch; even odds on them, unless the run learns from the teacher alone."""
    if not photos.unfamiliar:
        return []
    appended = UnfamiliarPhotos(photos.unfamiliar, recipe.seed)
    return [appended, *([EvenOdds(appended, recipe.unfamiliar_weight)] if recipe.learns_labels else [])]


def _show_learning_rates(learn: Learner, out: Path) -> None:
    """Print the suggestions of fastai's ``lr_find``, and save its plot."""
    from matplotlib import pyplot

    with learn.no_bar(), TemporaryDirectory() as folder:
        learn.model_dir = folder  # lr_find saves and loads the model, by default in the folder of the photos
        suggested = learn.lr_find(suggest_funcs=(valley, slide))
    pyplot.savefig(out / "lr_find.png", dpi=120)
    click.echo(f"valley: {suggested.valley:.2g}   slide: {suggested.slide:.2g}   plot: {out / 'lr_find.png'}")


def _save(learn: Learner, recipe: Recipe, options: Options, photos: Photos, training: Training) -> list[DoubtfulLabel]:
    """Calibrate if the recipe asks for it, save the run, and return the labels that the teacher doubts."""
    outcome: dict[str, Any] = {"completed": training.completed, "log": training.log}
    if recipe.renew_norms:
        renew_batch_norms(learn)
    if recipe.calibrate:
        outcome["temperature"] = calibrate(learn, training.answers)
    doubtful: list[DoubtfulLabel] = []
    for distillation in training.teaching:
        distillation.save(options.out / "projections.safetensors")
        if recipe.teacher_labels:
            words = [LABELLINGS[recipe.labels].word(category) for category in learn.dls.vocab]
            files = [photos.folder / name for name in (*photos.split.train, *photos.split.valid)]
            doubtful = doubtful_labels(learn, distillation, files, words)
            write_json(options.out / "doubtful.json", {"photos": [asdict(one) for one in doubtful]})
    facts = {"photos": photos.facts, "sources": input_paths(options), "outcome": outcome}
    save(learn, recipe, options.weights, facts, options.out)
    return doubtful


# 4. evaluation


def _evaluate(
    learn: Learner, recipe: Recipe, out: Path, photos: dict[str, list[Path] | None], details: RunDetails, source: Source
) -> None:
    """Evaluate on each list of photos (None: the validation photos), print the results, write metrics and report."""
    evaluations: dict[str, Evaluation] = {}
    for name, files in photos.items():
        found = evaluations[name] = evaluate(learn, recipe.labels, files, source)
        low, high = found.error.interval
        click.echo(f"{name:10} error rate: {found.error.rate:.4f}   loss: {found.loss:.4f}   ({found.error.errors} of"
                   f" {found.error.photos} photos wrong, 95 % interval {low:.2%} to {high:.2%})")  # fmt: skip
    write_json(out / "metrics.json", {name: found.as_json() for name, found in evaluations.items()})
    facts = {
        "processor": platform.processor() or platform.machine(),
        **versions(),
        "threads": str(torch.get_num_threads()),
    }
    write_report(out / "report.html", learn, recipe, evaluations, replace(details, facts=facts))


def evaluate_again(run: Path, data: tuple[Path, ...], test: Path | None, sources: Path | None) -> None:
    """Evaluate the saved Learner of a run on its validation photos, and on those of ``test``.

    ``sources`` is a table of the photos' sources; None takes the run's, if it is still there.
    """
    learn, recipe = load(run)
    kept = load_content(run / "recipe.json")
    folder, split = _photos_of(run, kept, data)
    photos: dict[str, list[Path] | None] = {"validation": [folder / name for name in split.valid]}
    if test:
        photos["test"] = decodable(find_photos(test, recipe.labels))
    _evaluate(learn, recipe, run, photos, RunDetails(kept["outcome"]["log"]), source_in(sources or _table_of(kept)))


def _photos_of(run: Path, kept: dict[str, Any], data: tuple[Path, ...]) -> tuple[Path, Split]:
    """The folder of a run's photos, all of which are there, and their split."""
    folder = common_folder(data) if data else Path(kept["photos"].get("folder", ""))
    split = Split.load(run / "split.json")
    require_photos(folder, split)
    return folder, split


def calibrate_again(run: Path, folders: tuple[Path, ...], data: tuple[Path, ...] = ()) -> None:
    """Fit the temperature of the saved Learner of a run on other photos than its validation photos, and save it.

    Raises:
        TrainingError: there is no such run, no photo, one that the run was trained on, or the run's photos are not there
            to compare them (``data`` is their folder where it is not the one of the training).
    """
    learn, recipe = load(run)
    kept = load_content(run / "recipe.json")
    folder, split = _photos_of(run, kept, data)
    photos = decodable(sorted({photo for each in folders for photo in find_photos(each, recipe.labels)}))
    trained_on = {file_sha256(folder / name) for name in split.train}
    sums = [file_sha256(photo) for photo in photos]
    if shared := sum(each in trained_on for each in sums):
        raise TrainingError(f"--photos: {shared} photos are of the run's training (give photos that are not)")
    require_known_labels(learn, recipe.labels, photos)
    temperature = calibrate(learn, predict_logits(learn, photos))
    outcome = kept["outcome"]
    outcome["temperature"] = outcome.get("temperature", 1.0) * temperature
    outcome["calibrated_on"] = {"photos": len(photos), "content_sha256": joint_sha256(sums)}
    save_network(learn, run)
    write_json(run / "recipe.json", kept)
    click.echo(f"temperature {outcome['temperature']:.3f}, fitted on {len(photos)} photos: saved in {run}")
    click.echo(
        "metrics.json, report.html and exported files still have the old one (python -m train evaluate, export)",
        err=True,
    )


def _table_of(kept: dict[str, Any]) -> Path | None:
    """The table of sources that a run used, if it is still there."""
    named = kept.get("sources", {}).get("sources")
    return Path(named) if named and Path(named).is_file() else None


# 5. prediction


def predict_photo(run: Path, photo: Path) -> None:
    """Classify a photo with the saved Learner of a run."""
    learn, recipe = load(run)
    try:
        _print_prediction(learn, photo, recipe.labels)
    except (OSError, UnidentifiedImageError) as error:
        raise TrainingError(f"{photo}: cannot be read: {error} (give a photo)") from error


def _print_prediction(learn: Learner, photo: Path, labels: str) -> None:
    with learn.no_bar():
        category, index, probabilities = learn.predict(PILImage.create(photo))
    if labels == "species":
        click.echo(f"Is this a cat?: {category}")
        click.echo(f"Probability it's a cat: {probabilities[1].item():.6f}")
    else:
        click.echo(f"This is: {category}")
        click.echo(f"Probability: {probabilities[index].item():.6f}")
