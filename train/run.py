"""A training run: the lesson's five steps, in order."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch
from fastai.vision.all import Learner, PILImage, slide, valley
from PIL import UnidentifiedImageError

from .artifacts import load, require_run, save, versions, write_json
from .calibration import calibrate
from .checkpoint import Checkpoint
from .data import (
    Split,
    common_folder,
    dataloaders,
    evenly_spaced,
    fetch_pets,
    find_broken,
    find_photos,
    labels_without_training,
    labels_without_validation,
    leave_out,
    near_duplicates,
    random_split,
    read_names,
    read_sources,
    require_photos,
    require_two_labels,
    source_of,
    split_by_source,
    with_every_label,
)
from .distillation import Distillation, DoubtfulLabel, Weights, doubtful_labels, make_teacher
from .errors import TrainingError
from .evaluation import Evaluation, evaluate
from .fine_tuning import fine_tune, seed_everything
from .labels import LABELLINGS
from .learner import make_learner
from .processes import is_first, is_one_of_several, leave_other_processes
from .recipe import Recipe, as_settings, load_content, load_settings
from .report import RunDetails, write_report


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
    without: Path | None = None
    limit: int | None = None
    find_lr: bool = False
    resume: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    """The fields of the recipe that the command line sets."""


@dataclass(frozen=True)
class Photos:
    """The photos of a run."""

    folder: Path
    split: Split
    tests: list[Path]
    facts: dict[str, Any]
    """What ``recipe.json`` says of them."""


@dataclass(frozen=True)
class Training:
    """How training went."""

    completed: bool
    log: list[list[float | None]]
    teaching: list[Distillation]


def train(options: Options) -> bool:
    """Carry out a run and write its files into ``options.out``.

    Returns:
        Whether training was completed. After Ctrl-C it was not; from the first epoch on, the weights so far are saved.
    """
    recipe = _settings(options)
    if options.resume:
        options = with_previous_inputs(options, load_content(options.out / "recipe.json"))
    photos = _find_data(options, recipe)  # 1. data
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
    _evaluate(learn, recipe, options.out, evaluated, RunDetails(training.log, doubtful))  # 4. evaluation
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
    recipe = Recipe(**(load_settings(options.recipe_file) if options.recipe_file else {}) | options.settings)
    if recipe.teacher and is_one_of_several():
        raise TrainingError(
            f"teacher {recipe.teacher}: needs a single process, its projections are not synchronised (leave out torchrun)"
        )
    return recipe


def _refuse_beside_resume(options: Options) -> None:
    chosen = (options.recipe_file, options.split_file, options.limit, options.hold_out, options.without)
    if options.settings or any(chosen):
        raise TrainingError("--resume: continues with the settings of the run (omit the others, or start another run)")


def with_previous_inputs(options: Options, content: dict[str, Any]) -> Options:
    """The options, with the folders and weights of the run to resume where none are given; see `input_paths`."""
    before = content.get("sources", {})
    data = before.get("data") or []
    data = tuple(Path(folder) for folder in ([data] if isinstance(data, str) else data))
    weights, test = (Path(before[name]) if before.get(name) else None for name in ("weights", "test"))
    return replace(options, data=options.data or data, weights=options.weights or weights, test=options.test or test)


def input_paths(options: Options) -> dict[str, Any]:
    """The inputs of a run, as saved in ``recipe.json`` for ``--resume``."""
    one = {name: path and str(path) for name, path in (("weights", options.weights), ("test", options.test))}
    return {"data": [str(folder) for folder in options.data], **one}


# 1. data


def _find_data(options: Options, recipe: Recipe) -> Photos:
    tests = _decodable(find_photos(options.test, recipe.labels)) if options.test else []
    folders = options.data or (fetch_pets(),)
    folder = common_folder(folders)
    if options.resume:
        return Photos(folder, _previous_split(folder, options.out), tests, _previous_facts(options.out))
    found = _listed_photos(options, recipe, folders, folder)
    photos = _decodable(found)
    broken = [photo.relative_to(folder).as_posix() for photo in sorted(set(found) - set(photos))]
    require_two_labels(photos, recipe.labels, folder)
    split = _split(photos, folder, options, recipe)
    return Photos(folder, split, tests, _facts(folder, split, broken))


def _listed_photos(options: Options, recipe: Recipe, folders: Sequence[Path], folder: Path) -> list[Path]:
    """The photos that a given split names, or that the folders hold, less those to leave out."""
    if options.split_file:
        split = Split.load(options.split_file)
        require_photos(folder, split)
        found = [folder / name for name in (*split.train, *split.valid)]
    else:
        parents = folders if len(folders) == 1 else [one.resolve() for one in folders]
        found = sorted({photo for parent in parents for photo in find_photos(parent, recipe.labels)})
    if options.without:
        found = leave_out(found, folder, read_names(options.without))
    return evenly_spaced(found, None if options.split_file else options.limit)


def _decodable(photos: list[Path]) -> list[Path]:
    """The photos that can be decoded; the others are listed on standard error."""
    broken = set(find_broken(photos))
    for photo in sorted(broken):
        _say(f"left out, cannot be decoded: {photo}")
    return [photo for photo in photos if photo not in broken]


def _split(photos: list[Path], folder: Path, options: Options, recipe: Recipe) -> Split:
    """The split to use: given, by source, or random."""
    if options.split_file:
        given = Split.load(options.split_file)
        kept = {photo.relative_to(folder).as_posix() for photo in photos}
        split = given.without({*given.train, *given.valid} - kept)
    elif options.hold_out:
        sources = source_of(read_sources(options.sources) if options.sources else {})
        split = split_by_source(photos, folder, sources, options.hold_out)
    else:
        split = _random_split(photos, folder, recipe)
    if not split.train or not split.valid:
        raise TrainingError(f"{folder}: one side of the split has no photo that can be decoded (give another --split)")
    _check_labels(split, recipe.labels)
    return split


def _random_split(photos: list[Path], folder: Path, recipe: Recipe) -> Split:
    """The lesson's split; a label that would occur only in validation keeps one photo in training."""
    split = random_split(photos, folder, recipe)
    rare = labels_without_training(split, recipe.labels)
    if rare:
        _say(f"moved one photo to training of each label with too few photos: {_words(rare, recipe.labels)}")
    return with_every_label(split, recipe.labels)


def _check_labels(split: Split, labels: str) -> None:
    """Refuse a split with labels that no training photo has; mention those that no validation photo has."""
    if unknown := labels_without_training(split, labels):
        words = _words(unknown, labels)
        raise TrainingError(
            f"labels: no training photo of {words} (add photos of them, or leave theirs out by --without)"
        )
    if unmeasured := labels_without_validation(split, labels):
        _say(f"no validation photo, so no error rate, of: {_words(unmeasured, labels)}")


def _words(found: Sequence[Any] | dict[Any, Any], labels: str) -> str:
    words = sorted(LABELLINGS[labels].word(label) for label in found)
    more = f" and {len(words) - 10} more" * (len(words) > 10)
    return ", ".join(words[:10]) + more


def _facts(folder: Path, split: Split, broken: list[str]) -> dict[str, Any]:
    twins = len({valid for _, valid in near_duplicates(folder, split)})
    _say(f"{len(split.train)} photos to train on, {len(split.valid)} to validate")
    if twins:
        _say(f"{twins} validation photos are near-duplicates of training photos; the validation error is optimistic")
    return {
        "train": len(split.train),
        "valid": len(split.valid),
        "broken": broken,
        "near_duplicates": twins,
        "split_sha256": split.sha256,
        "folder": str(folder),
    }


def _previous_split(folder: Path, out: Path) -> Split:
    """The split of the run to resume; its photos must not have changed."""
    split = Split.load(out / "split.json")
    require_photos(folder, split)
    if broken := find_broken([folder / name for name in (*split.train, *split.valid)]):
        raise TrainingError(f"{broken[0]}: can no longer be decoded (restore the file, or start another run)")
    return split


def _previous_facts(out: Path) -> dict[str, Any]:
    facts: dict[str, Any] = load_content(out / "recipe.json")["photos"]
    return facts


# 3. training


def _fit(learn: Learner, recipe: Recipe, options: Options, photos: Photos) -> Training:
    if is_first() and not options.resume:
        photos.split.save(options.out / "split.json")
        kept = {"settings": as_settings(recipe), "sources": input_paths(options), "photos": photos.facts}
        write_json(options.out / "recipe.json", kept)
    checkpoint = Checkpoint(options.out / "checkpoint.pth", options.resume)
    teaching = _teaching(recipe, options.weights, options.out)
    completed = fine_tune(learn, recipe, checkpoint, teaching)
    leave_other_processes()
    if not completed and checkpoint.log and is_first():
        _say(f"\ninterrupted: the weights after {checkpoint.epochs} epochs are saved; --resume continues")
    return Training(completed, checkpoint.log, teaching)


def _teaching(recipe: Recipe, weights: Path | None, out: Path) -> list[Distillation]:
    if not recipe.teacher:
        return []
    start = weights.with_name("projections.safetensors") if weights else None
    start = start if start and start.exists() else None
    weights_of_loss = Weights(labels=recipe.teacher_labels, own_labels=recipe.label_weight)
    return [Distillation(make_teacher(recipe.teacher, out), start, weights_of_loss)]


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
    if recipe.calibrate:
        outcome["temperature"] = calibrate(learn)
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
    learn: Learner, recipe: Recipe, out: Path, photos: dict[str, list[Path] | None], details: RunDetails
) -> None:
    """Evaluate on each list of photos (None: the validation photos), print the results, write metrics and report."""
    evaluations: dict[str, Evaluation] = {}
    for name, files in photos.items():
        found = evaluations[name] = evaluate(learn, recipe.labels, files)
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


def evaluate_again(run: Path, data: tuple[Path, ...], test: Path | None) -> None:
    """Evaluate the saved Learner of a run on its validation photos, and on those of ``test``."""
    learn, recipe = load(run)
    kept = load_content(run / "recipe.json")
    folder = common_folder(data) if data else Path(kept["photos"].get("folder", ""))
    split = Split.load(run / "split.json")
    require_photos(folder, split)
    photos: dict[str, list[Path] | None] = {"validation": [folder / name for name in split.valid]}
    if test:
        photos["test"] = _decodable(find_photos(test, recipe.labels))
    _evaluate(learn, recipe, run, photos, RunDetails(kept["outcome"]["log"]))


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
