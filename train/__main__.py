"""``python -m train --data PHOTOS --out RUN`` is the lesson; ``python -m train predict RUN PHOTO`` its last step."""

from __future__ import annotations

import json
import os
import sys
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

warnings.filterwarnings("ignore", category=UserWarning)
warnings.filterwarnings("ignore", category=FutureWarning)


from fastai.vision.all import Learner, Normalize, PILImage, Resize, load_learner, rank_distrib  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from .data import LABELLINGS, Split, dataloaders, fetch_pets, find_broken, find_photos, near_duplicates, random_split  # noqa: E402
from .errors import TrainingError  # noqa: E402
from .learning import Checkpoint, file_sha256, fine_tune, make_learner, seed_everything  # noqa: E402
from .recipe import Recipe, as_settings, load_settings  # noqa: E402

_PACKAGES = ("fastai", "torch", "torchvision", "numpy", "pillow", "safetensors")


def _say(text: str) -> None:
    click.echo(text, err=True)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder of photos; without it, Oxford-IIIT Pets are fetched."
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Starting weights (.safetensors); without it, ImageNet's are fetched.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of this run.", show_default=True, default=Path("runs/pets")
)
@click.option(
    "--recipe",
    "recipe_file",
    type=click.Path(path_type=Path),
    help="Take the settings from a recipe.json; options given here prevail.",
)
@click.option(
    "--labels",
    type=click.Choice(sorted(LABELLINGS)),
    help="Where labels come from: file names (species, breed) or folders.",
)
@click.option("--arch", help="Architecture, any that vision_learner takes.  [default: resnet34]")
@click.option("--epochs", type=click.IntRange(0), help="Epochs with the whole network.  [default: 1]")
@click.option("--freeze-epochs", type=click.IntRange(0), help="Epochs with the body frozen, before.  [default: 1]")
@click.option("--lr", type=float, help="fine_tune's base learning rate.  [default: 0.002]")
@click.option("--batch-size", type=click.IntRange(1), help="[default: 64]")
@click.option("--seed", type=int, help="Of the split and of training.  [default: 42]")
@click.option("--augment", is_flag=True, default=None, help="fastai's aug_transforms().")
@click.option("--split", "split_file", type=click.Path(path_type=Path), help="Use the split.json of another run.")
@click.option("--limit", type=click.IntRange(2), help="Take only this many photos, for a smoke run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out after its last checkpoint.")
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Train an image classifier as fastai's lesson does."""
    if context.invoked_subcommand is None:
        try:
            train(**options)
        except TrainingError as error:
            _say(f"Error: {error}")
            context.exit(2)


def train(
    data: Path | None,
    weights: Path | None,
    out: Path,
    recipe_file: Path | None,
    split_file: Path | None,
    limit: int | None,
    resume: bool,
    **settings: Any,
) -> None:
    """Carry out a run: photos, split, learning, evaluation, and what is kept of it in ``out``."""
    recipe, split = _plan(out, recipe_file, split_file, resume, settings)
    folder = data or fetch_pets()
    if split is None:
        photos = find_photos(folder, recipe.labels, limit)
        broken = find_broken(photos)
        for photo in broken:
            _say(f"left out, cannot be decoded: {photo}")
        split = random_split([photo for photo in photos if photo not in set(broken)], folder, recipe)
    twins = near_duplicates(folder, split)
    _say(
        f"{len(split.train)} photos to train on, {len(split.valid)} to validate; {len(twins)} of these look like one of those"
    )
    seed_everything(recipe.seed)
    learn = make_learner(dataloaders(folder, split, recipe), recipe, weights)
    if not rank_distrib():  # of several processes, the first writes
        out.mkdir(parents=True, exist_ok=True)
        split.save(out / "split.json")
        _write_json(out / "recipe.json", {"settings": as_settings(recipe)})
    checkpoint = Checkpoint(out / "checkpoint.pth", resume)
    completed = fine_tune(learn, recipe, checkpoint, _teaching(recipe, weights, out))
    _say("" if completed else f"interrupted: what was learnt in {checkpoint.epochs} epochs is kept")
    if rank_distrib():
        return
    loss, error = learn.validate()
    click.echo(f"error rate: {error:.4f}   loss: {loss:.4f}   ({len(split.valid)} validation photos)")
    _save(
        learn,
        recipe,
        folder,
        split,
        weights,
        out,
        {"error_rate": error, "loss": loss, "completed": completed, "log": checkpoint.log},
    )
    _print_prediction(learn, folder / split.valid[0], recipe.labels)
    click.echo(f"saved in {out}: model.safetensors and recipe.json, which `python -m export {out}` takes,")
    click.echo("and learner.pkl for fastai's load_learner: loading a pickle runs code, load only those that you trust")


def _plan(
    out: Path, recipe_file: Path | None, split_file: Path | None, resume: bool, settings: dict[str, Any]
) -> tuple[Recipe, Split | None]:
    """The settings and the split: of the run to go on with, or new ones."""
    if resume:
        return Recipe.load(out / "recipe.json"), Split.load(out / "split.json")
    if (out / "recipe.json").exists():
        raise TrainingError(f"{out}: holds a run already (another --out, or --resume to go on with it)")
    given = {name: value for name, value in settings.items() if value is not None}
    recipe = Recipe(**(load_settings(recipe_file) if recipe_file else {}) | given)
    return recipe, Split.load(split_file) if split_file else None


def _teaching(recipe: Recipe, weights: Path | None, out: Path) -> list[Any]:
    if not recipe.teacher:
        return []
    from .distillation import Distillation, Teacher

    start = weights.with_name("projections.safetensors") if weights else None
    return [Distillation(Teacher(recipe.teacher, out), start if start and start.exists() else None)]


def _save(
    learn: Learner, recipe: Recipe, folder: Path, split: Split, weights: Path | None, out: Path, outcome: dict[str, Any]
) -> None:
    """The Learner fastai's way; and its weights and settings, from which it is rebuilt without unpickling anything."""
    learn.path = out
    learn.export("learner.part")
    os.replace(out / "learner.part", out / "learner.pkl")
    state = {name: tensor.contiguous() for name, tensor in learn.model.state_dict().items()}
    save_file(state, out / "model.part", {"format": "pt"})
    os.replace(out / "model.part", out / "model.safetensors")
    labelling = LABELLINGS[recipe.labels]
    _write_json(
        out / "recipe.json",
        {
            "settings": as_settings(recipe),
            "labels": [labelling.word(category) for category in learn.dls.vocab],
            "preprocessing": _preprocessing(learn),
            "photos": {
                "train": len(split.train),
                "valid": len(split.valid),
                "split_sha256": split.sha256,
                "folder": str(folder),
            },
            "weights": {"file": weights.name, "sha256": file_sha256(weights)}
            if weights
            else {"file": "ImageNet, fetched by fastai"},
            "outcome": outcome,
            "versions": {package: version(package) for package in _PACKAGES} | {"python": sys.version.split()[0]},
            "date": datetime.now(UTC).date().isoformat(),
        },
    )


def _preprocessing(learn: Learner) -> dict[str, Any]:
    """What validation does to a photo, read off the Learner: its resize and its statistics."""
    resize = next(f for f in learn.dls.valid.after_item.fs if isinstance(f, Resize))
    normalize = next((f for f in learn.dls.valid.after_batch.fs if isinstance(f, Normalize)), None)
    statistics = normalize and {"mean": normalize.mean.flatten().tolist(), "std": normalize.std.flatten().tolist()}
    width, height = resize.size
    return {
        "resize": {
            "method": resize.method,
            "size": [height, width],
            "pad_mode": resize.pad_mode,
            "resample": int(resize.mode),
        },
        "normalize": statistics,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


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


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("photo", type=click.Path(path_type=Path))
@click.pass_context
def predict(context: click.Context, run: Path, photo: Path) -> None:
    """Classify PHOTO with the saved Learner of RUN, and print what the lesson prints."""
    try:
        _predict(run, photo)
    except TrainingError as error:
        _say(f"Error: {error}")
        context.exit(2)


def _predict(run: Path, photo: Path) -> None:
    recipe = Recipe.load(run / "recipe.json")
    try:
        learn = load_learner(run / "learner.pkl")
    except OSError as error:
        raise TrainingError(f"{run}: holds no learner.pkl (train first: python -m train --out {run})") from error
    try:
        _print_prediction(learn, photo, recipe.labels)
    except OSError as error:
        raise TrainingError(f"{photo}: cannot be read: {error} (give a photo)") from error


if __name__ == "__main__":
    main()
