"""The settings of a training run, saved as ``recipe.json`` and read from it again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .errors import TrainingError

LABELS = ("species", "breed", "folder")
STUDENTS = ("resnet18", "resnet34")  # those whose maps a teacher's are compared with


@dataclass(frozen=True)
class Recipe:
    """One training run's settings. The defaults are the lesson's ``fine_tune(1)``."""

    labels: str = "species"  # where a photo's label comes from: species, breed or folder
    arch: str = "resnet34"  # any name that fastai's vision_learner takes
    size: int = 224  # side of the square that the network sees, px
    valid_pct: float = 0.2  # share of the photos held out for validation
    seed: int = 42  # of the split and of training
    epochs: int = 1  # with the whole network
    freeze_epochs: int = 1  # before them, with the body frozen
    lr: float = 2e-3  # fine_tune's base_lr
    lr_mult: float = 100.0  # the body's first layers learn this much slower than the head
    batch_size: int = 64
    augment: bool = False  # fastai's aug_transforms()
    min_scale: float = 1.0  # below 1: training crops show at least this share of a photo's area
    train_size: int = 0  # above 0: size of training crops, best below `size` with random crops (arXiv 1906.06423)
    small_size: int = 0  # above 0: training starts on photos of this size, growing to that of training crops
    mixup: float = 0.0  # alpha of fastai's MixUp; 0 is none
    label_smoothing: float = 0.0
    average: float = 0.0  # above 0: keep the exponential average of the weights, with this decay a step
    keep_best: bool = False  # keep the weights of the epoch with the lowest validation loss, not the last epoch's
    renew_norms: bool = False  # at the end, take the batch norms' statistics of training photos as at validation
    unfamiliar_weight: float = 0.5  # with --unfamiliar: weight of even odds on photos of none of the classes
    teacher: str = ""  # a network to learn from as well as from the labels: efficientnet-lite2
    label_weight: float = 1.0  # with a teacher: weight of the photos' labels; 0 learns from the teacher alone
    teacher_labels: float = 0.0  # weight of the label that a linear layer on the teacher's features gives each crop
    keep_early: bool = False  # freeze a ResNet's stem and layer1, which saves a quarter of each step
    keep_head: bool = False  # with --weights of a run: start from its head as well as its body
    freeze_norms: bool = False  # while the body is frozen, so are its batch norms, which fastai otherwise trains
    linear: bool = False  # train one linear layer on the body's pooled features, and nothing else
    weight_decay: float = 0.0  # of that linear layer; 0 takes the best of several on the validation photos
    calibrate: bool = False  # divide the last layer by a temperature fitted on the validation photos

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if not isinstance(value, (int, float) if kind is float else kind) or (
                kind is not bool and isinstance(value, bool)
            ):
                raise TrainingError(f"recipe: {field.name} is {value!r}, not a {kind.__name__} (see train/recipe.py)")
        if self.teacher and self.arch not in STUDENTS:
            raise TrainingError(
                f"recipe: a teacher needs {' or '.join(STUDENTS)}, not {self.arch} (another arch, or no teacher)"
            )
        if self.train_size and self.min_scale >= 1:
            raise TrainingError("recipe: train_size needs random crops (set min_scale below 1)")
        if self.weight_decay < 0 or (self.weight_decay and not self.linear):
            raise TrainingError("recipe: weight_decay is above 0 and of a linear layer (set linear, or leave it out)")
        if self.linear and self.teacher:
            raise TrainingError("recipe: linear trains no body, so it needs no teacher (leave one of them out)")
        if self.keep_best and not self.learns_labels:
            raise TrainingError("recipe: keep_best compares errors, and nothing here learns the labels (leave it out)")
        if self.linear and self.renew_norms:
            raise TrainingError(
                "recipe: linear leaves the body as it is, renew_norms changes it (leave one of them out)"
            )
        if self.labels not in LABELS:
            raise TrainingError(
                f"recipe: labels is {self.labels!r}, not one of {', '.join(LABELS)} (see train/recipe.py)"
            )

    @property
    def learns_labels(self) -> bool:
        """Whether the network learns labels, and not from a teacher's features alone."""
        return not self.teacher or bool(self.label_weight or self.teacher_labels)

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read the settings from a run's ``recipe.json`` or from a file of settings alone."""
        return cls(**load_settings(path))


def load_content(path: Path) -> dict[str, Any]:
    """The content of a recipe file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: not a recipe: {error} (give the recipe.json of a run)") from error
    if not isinstance(content, dict) or not isinstance(content.get("settings", content), dict):
        raise TrainingError(f"{path}: not a recipe: not a JSON object of settings (give the recipe.json of a run)")
    return content


def load_settings(path: Path) -> dict[str, Any]:
    """The settings in a recipe file; those that it leaves out keep their defaults."""
    content = load_content(path)
    return _known(content.get("settings", content), path)


def load_stages(path: Path) -> list[dict[str, Any]]:
    """The settings of each stage of a recipe file, with those that all share; none without ``stages``."""
    content = load_content(path)
    stages = content.get("stages", [])
    if not isinstance(stages, list) or not all(isinstance(settings, dict) for settings in stages):
        raise TrainingError(f"{path}: not a recipe: stages is not a list of settings (see docs/training.md)")
    return [_known(content.get("settings", {}) | settings, path) for settings in stages]


def _known(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings, if `Recipe` has them all."""
    unknown = sorted(set(settings) - {field.name for field in fields(Recipe)})
    if unknown:
        raise TrainingError(f"{path}: unknown settings: {', '.join(unknown)} (see train/recipe.py)")
    return dict(settings)


def as_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings as plain values, for JSON."""
    return asdict(recipe)
