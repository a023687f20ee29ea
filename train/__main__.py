"""``python -m train --data PHOTOS --out RUN`` is the lesson; ``predict RUN PHOTO`` its last step, ``evaluate RUN`` a report."""

from __future__ import annotations

import json
import platform
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

warnings.filterwarnings("ignore", category=UserWarning)
warnings.filterwarnings("ignore", category=FutureWarning)

import torch  # noqa: E402
from fastai.vision.all import Learner, PILImage, rank_distrib, slide, valley  # noqa: E402
from PIL import UnidentifiedImageError  # noqa: E402

from .data import (  # noqa: E402
    LABELLINGS,
    Split,
    dataloaders,
    fetch_pets,
    find_broken,
    find_photos,
    near_duplicates,
    random_split,
    require_photos,
    require_two_labels,
)
from .errors import TrainingError  # noqa: E402
from .evaluation import Evaluation, evaluate  # noqa: E402
from .learning import Checkpoint, fine_tune, make_learner, part_from_other_processes, seed_everything  # noqa: E402
from .recipe import Recipe, as_settings, load_content, load_settings  # noqa: E402
from .report import write_report  # noqa: E402
from .saving import load, save, versions, write_json  # noqa: E402

_FOLDER = click.Path(path_type=Path)


def _say(text: str) -> None:
    click.echo(text, err=True)


class _Group(click.Group):
    """Turn what stops a run into one line and exit code 2."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except TrainingError as error:
            _say(f"Error: {error}")
            context.exit(2)


@click.group(
    cls=_Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--data", type=_FOLDER, help="Folder of photos; without it, Oxford-IIIT Pets are fetched.")
@click.option("--test", type=_FOLDER, help="Folder of photos that training never sees, to evaluate on as well.")
@click.option("--weights", type=_FOLDER, help="Starting weights (.safetensors); without it, ImageNet's are fetched.")
@click.option("--out", type=_FOLDER, help="Folder of this run.", show_default=True, default=Path("runs/pets"))
@click.option("--recipe", "recipe_file", type=_FOLDER, help="Take the settings from a recipe.json; options prevail.")
@click.option("--labels", type=click.Choice(sorted(LABELLINGS)), help="Where labels come from: the file's name (species,"
              " breed) or its folder.  [default: species]")  # fmt: skip
@click.option("--arch", help="Architecture, any that vision_learner takes.  [default: resnet34]")
@click.option("--epochs", type=click.IntRange(0), help="Epochs with the whole network.  [default: 1]")
@click.option("--freeze-epochs", type=click.IntRange(0), help="Epochs with the body frozen, before.  [default: 1]")
@click.option("--lr", type=float, help="fine_tune's base learning rate.  [default: 0.002]")
@click.option("--find-lr", is_flag=True, help="Show fastai's lr_find and its plot, and do not train.")
@click.option("--batch-size", type=click.IntRange(1), help="[default: 64]")
@click.option("--seed", type=int, help="Of the split and of training.  [default: 42]")
@click.option("--augment", is_flag=True, default=None, help="fastai's aug_transforms().")
@click.option("--split", "split_file", type=_FOLDER, help="Use the split.json of another run.")
@click.option("--limit", type=click.IntRange(2), help="Take only this many photos, for a smoke run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out after its last checkpoint.")
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Train an image classifier as fastai's lesson does."""
    if context.invoked_subcommand is None and not train(**options):
        context.exit(130)


def train(
    data: Path | None,
    test: Path | None,
    weights: Path | None,
    out: Path,
    recipe_file: Path | None,
    split_file: Path | None,
    limit: int | None,
    find_lr: bool,
    resume: bool,
    **settings: Any,
) -> bool:
    """Carry out a run: photos, split, learning, evaluation, and what is kept of it in ``out``.

    Returns whether training came to its end; after Ctrl-C it did not, and what was learnt is kept all the same.
    """
    recipe, split = _plan(out, recipe_file, split_file, limit, resume, settings)
    if resume:
        data, weights, test = _sources_of(out, data, weights, test)
    tests = _sound(find_photos(test, recipe.labels)) if test else []
    folder = data or fetch_pets()
    split, photos = _photos_before(folder, out) if resume else _photos(folder, recipe, split, limit)
    seed_everything(recipe.seed)
    learn = make_learner(dataloaders(folder, split, recipe), recipe, weights)
    first = not rank_distrib()  # of several processes, the first writes
    if first:
        out.mkdir(parents=True, exist_ok=True)
    if find_lr:
        _show_learning_rates(learn, out)
        return True
    sources = {name: path and str(path) for name, path in (("data", data), ("weights", weights), ("test", test))}
    if first and not resume:
        split.save(out / "split.json")
        write_json(out / "recipe.json", {"settings": as_settings(recipe), "sources": sources, "photos": photos})
    checkpoint = Checkpoint(out / "checkpoint.pth", resume)
    teaching = _teaching(recipe, weights, out)
    completed = fine_tune(learn, recipe, checkpoint, teaching)
    part_from_other_processes()
    if not first:
        return completed
    for distillation in teaching:
        distillation.save(out / "projections.safetensors")
    if not completed:
        _say(f"\ninterrupted: what was learnt in {checkpoint.epochs} epochs is kept; --resume goes on")
    outcome = {"completed": completed, "log": checkpoint.log}
    save(learn, recipe, weights, {"photos": photos, "sources": sources, "outcome": outcome}, out)
    _evaluate(learn, recipe, out, {"validation": None, **({"test": tests} if tests else {})}, checkpoint.log)
    _print_prediction(learn, folder / split.valid[0], recipe.labels)
    click.echo(f"saved in {out}: model.safetensors and recipe.json, which `python -m export {out}` takes,")
    click.echo("and learner.pkl for fastai's load_learner: loading a pickle runs code, load only those that you trust")
    return completed


def _sources_of(
    out: Path, data: Path | None, weights: Path | None, test: Path | None
) -> tuple[Path | None, Path | None, Path | None]:
    """Where a run that goes on finds its photos and weights: where it found them before, unless it is told."""
    before = load_content(out / "recipe.json").get("sources", {})
    found = {name: Path(path) for name, path in before.items() if path}
    return data or found.get("data"), weights or found.get("weights"), test or found.get("test")


def _sound(photos: list[Path]) -> list[Path]:
    """The photos that can be decoded; the others are told."""
    broken = set(find_broken(photos))
    for photo in sorted(broken):
        _say(f"left out, cannot be decoded: {photo}")
    return [photo for photo in photos if photo not in broken]


def _plan(
    out: Path,
    recipe_file: Path | None,
    split_file: Path | None,
    limit: int | None,
    resume: bool,
    settings: dict[str, Any],
) -> tuple[Recipe, Split | None]:
    """The settings and the split: of the run to go on with, or new ones."""
    given = {name: value for name, value in settings.items() if value is not None}
    if resume:
        if given or recipe_file or split_file or limit:
            raise TrainingError(
                "--resume: goes on with the settings of the run (leave the others out, or begin another run)"
            )
        return Recipe.load(out / "recipe.json"), None
    if not rank_distrib() and (out / "recipe.json").exists():  # of several processes, the first writes it
        raise TrainingError(f"{out}: holds a run already (another --out, or --resume to go on with it)")
    recipe = Recipe(**(load_settings(recipe_file) if recipe_file else {}) | given)
    return recipe, Split.load(split_file) if split_file else None


def _photos(folder: Path, recipe: Recipe, split: Split | None, limit: int | None) -> tuple[Split, dict[str, Any]]:
    """The split, drawn where there is none yet, and what ``recipe.json`` tells of the photos."""
    if split is None:
        found = find_photos(folder, recipe.labels, limit)
    else:
        require_photos(folder, split)
        found = [folder / name for name in (*split.train, *split.valid)]
    sound = _sound(found)
    broken = [photo.relative_to(folder).as_posix() for photo in sorted(set(found) - set(sound))]
    require_two_labels(sound, recipe.labels, folder)
    split = split.without(broken) if split else random_split(sound, folder, recipe)
    if not split.train or not split.valid:
        raise TrainingError(f"{folder}: no photo of one side of the split can be decoded (give another --split)")
    twins = near_duplicates(folder, split)
    _say(f"{len(split.train)} photos to train on, {len(split.valid)} to validate;")
    _say(f"{len({valid for _, valid in twins})} of these look like one of those, and flatter the validation error")
    return split, {
        "train": len(split.train),
        "valid": len(split.valid),
        "broken": broken,
        "near_duplicates": len({valid for _, valid in twins}),
        "split_sha256": split.sha256,
        "folder": str(folder),
    }


def _photos_before(folder: Path, out: Path) -> tuple[Split, dict[str, Any]]:
    """The split of a run that goes on, and what it told of the photos; they must be as they were."""
    split = Split.load(out / "split.json")
    require_photos(folder, split)
    if broken := find_broken([folder / name for name in (*split.train, *split.valid)]):
        raise TrainingError(f"{broken[0]}: can no longer be decoded (put it back as it was, or begin another run)")
    return split, load_content(out / "recipe.json")["photos"]


def _teaching(recipe: Recipe, weights: Path | None, out: Path) -> list[Any]:
    if not recipe.teacher:
        return []
    from .distillation import Distillation, Teacher

    start = weights.with_name("projections.safetensors") if weights else None
    teacher = Teacher(recipe.teacher, out)
    start = start if start and start.exists() else None
    return [Distillation(teacher, start, label_weight=recipe.teacher_labels)]


def _show_learning_rates(learn: Learner, out: Path) -> None:
    """fastai's ``lr_find``: its suggestions, and its plot as a picture."""
    from matplotlib import pyplot

    with learn.no_bar(), TemporaryDirectory() as folder:
        learn.model_dir = folder  # it saves and loads the model, by default among the photos
        suggested = learn.lr_find(suggest_funcs=(valley, slide))
    pyplot.savefig(out / "lr_find.png", dpi=120)
    click.echo(f"valley: {suggested.valley:.2g}   slide: {suggested.slide:.2g}   plot: {out / 'lr_find.png'}")


def _evaluate(
    learn: Learner, recipe: Recipe, out: Path, photos: dict[str, list[Path] | None], log: list[list[float | None]]
) -> None:
    """Evaluate on each list of photos (None: the Learner's validation photos); print, write ``metrics.json`` and a report."""
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
    write_report(out / "report.html", learn, recipe, evaluations, log, facts)


def _print_prediction(learn: Learner, photo: Path, labels: str) -> None:
    """Step 5 of the lesson, in its words."""
    with learn.no_bar():
        category, index, probabilities = learn.predict(PILImage.create(photo))
    if labels == "species":
        click.echo(f"Is this a cat?: {category}")
        click.echo(f"Probability it's a cat: {probabilities[1].item():.6f}")
    else:
        click.echo(f"This is: {category}")
        click.echo(f"Probability: {probabilities[index].item():.6f}")


@main.command("evaluate")
@click.argument("run", type=_FOLDER)
@click.option("--data", type=_FOLDER, help="Where the run's photos lie.  [default: where it found them]")
@click.option("--test", type=_FOLDER, help="Folder of photos that training never saw.")
def evaluate_run(run: Path, data: Path | None, test: Path | None) -> None:
    """Evaluate the saved Learner of RUN: metrics.json and report.html, as at the end of training."""
    learn, recipe = load(run)
    kept = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    folder, split = data or Path(kept["photos"].get("folder", "")), Split.load(run / "split.json")
    require_photos(folder, split)
    photos: dict[str, list[Path] | None] = {"validation": [folder / name for name in split.valid]}
    if test:
        photos["test"] = _sound(find_photos(test, recipe.labels))
    _evaluate(learn, recipe, run, photos, kept["outcome"]["log"])


@main.command()
@click.argument("run", type=_FOLDER)
@click.argument("photo", type=_FOLDER)
def predict(run: Path, photo: Path) -> None:
    """Classify PHOTO with the saved Learner of RUN, and print what the lesson prints."""
    learn, recipe = load(run)
    try:
        _print_prediction(learn, photo, recipe.labels)
    except (OSError, UnidentifiedImageError) as error:
        raise TrainingError(f"{photo}: cannot be read: {error} (give a photo)") from error


if __name__ == "__main__":
    main()
