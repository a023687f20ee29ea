"""Photos of none of the classes in training: what the network and the teacher see, and what is learned of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from fastai.vision.all import Callback, Learner
from PIL import Image

from train.__main__ import main
from train.checkpoint import Checkpoint
from train.data import dataloaders, find_photos
from train.distillation import Distillation, Weights
from train.evaluation import predict_logits
from train.fine_tuning import fine_tune, seed_everything
from train.learner import make_learner
from train.split import content_sha256, random_split
from train.unfamiliar import EvenOdds, UnfamiliarPhotos

from ..conftest import cli_runner
from .conftest import SMALL
from .test_distillation import Stripes

EXPOSED = replace(SMALL, epochs=2, mixup=0.2, teacher_labels=1.0, augment=True, min_scale=0.5, train_size=48)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve pictures of noise, under names that say cat."""
    folder = tmp_path_factory.mktemp("noise")
    random = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(random.integers(0, 256, (70, 80, 3), np.uint8)).save(folder / f"Abyssinian_{i}.png")
    return sorted(folder.iterdir())


Train = Callable[..., Learner]


@pytest.fixture
def train(drawn_photos: Path, weights: Path, tmp_path: Path) -> Train:
    """Trains on the drawn photos with these callbacks, and returns the Learner."""

    def run(callbacks: list[Callback], resume: bool = False, seed: int = 1) -> Learner:
        seed_everything(seed)
        split = random_split(find_photos(drawn_photos, "species"), drawn_photos, EXPOSED)
        learn = make_learner(dataloaders(drawn_photos, split, EXPOSED), EXPOSED, weights)
        with learn.no_bar(), learn.no_logging():
            fine_tune(learn, EXPOSED, Checkpoint(tmp_path / "checkpoint.pth", resume), callbacks)
        return learn

    return run


def exposure(photos: list[Path], weight: float) -> list[Callback]:
    appended = UnfamiliarPhotos(photos, EXPOSED.seed)
    return [appended, EvenOdds(appended, weight)]


def surest(learn: Learner, photos: list[Path]) -> float:
    """The mean probability of the answers on photos."""
    logits, _ = predict_logits(learn, photos)
    return float(torch.tensor(logits).softmax(1).max(1).values.mean())


def test_the_answers_on_such_photos_move_towards_even_odds(train: Train, noise: list[Path]) -> None:
    assert surest(train(exposure(noise, 5.0)), noise) < surest(train(exposure(noise, 0.0)), noise) - 0.02


class Sizes(Callback):
    """Notes the batch of the network, of the loss, and of validation."""

    order = 100

    def __init__(self) -> None:
        self.seen: set[tuple[bool, int, int]] = set()

    def after_loss(self) -> None:
        """Note them."""
        self.seen.add((bool(self.training), len(self.xb[0]), len(self.pred)))


def test_network_and_teacher_see_them_but_the_labels_loss_and_validation_do_not(
    train: Train, noise: list[Path]
) -> None:
    sizes, teacher = Sizes(), Stripes()
    learn = train([Distillation(teacher, weights=Weights(labels=1.0)), *exposure(noise, 0.5), sizes])
    photos = len(learn.dls.valid_ds)
    assert sizes.seen == {(True, 10, 8), (False, photos, photos)}
    assert len(teacher.seen) == 3 * len(learn.dls.train)


class Kill(Callback):
    """Stops training in its second epoch with the whole network."""

    def before_train(self) -> None:
        """Stop there."""
        if self.epoch == 1:
            raise InterruptedError("killed")


def test_a_killed_run_sees_the_same_photos_when_it_is_resumed(train: Train, noise: list[Path]) -> None:
    expected = train(exposure(noise, 0.5)).model.state_dict()
    with pytest.raises(InterruptedError):
        train([*exposure(noise, 0.5), Kill()])
    resumed = train(exposure(noise, 0.5), resume=True, seed=2).model.state_dict()
    for name, value in expected.items():
        assert torch.equal(value, resumed[name]), name


@pytest.fixture
def command(drawn_photos: Path, weights: Path, noise: list[Path], tmp_path: Path) -> Callable[..., Result]:
    """``python -m train`` with the noise as photos of none of the classes; further options replace these."""

    def run(**changed: object) -> Result:
        recipe = {"arch": "resnet18", "size": 64, "batch_size": 8} | changed.pop("recipe", {})  # type: ignore[operator]
        (tmp_path / "recipe.json").write_text(json.dumps(recipe))
        options = {"data": drawn_photos, "weights": weights, "unfamiliar": noise[0].parent, "out": tmp_path / "run"}
        named = {"recipe": tmp_path / "recipe.json"} | options | changed
        return cli_runner().invoke(main, [str(word) for name, value in named.items() for word in (f"--{name}", value)])

    return run


def test_the_command_trains_on_them_and_names_their_content(
    command: Callable[..., Result], noise: list[Path], tmp_path: Path
) -> None:
    done = command()
    assert done.exit_code == 0, done.stderr
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["photos"]["unfamiliar"] == {"photos": 12, "content_sha256": content_sha256(Path(), map(str, noise))}
    (tmp_path / "others").mkdir()
    for photo in noise[1:]:
        shutil.copy(photo, tmp_path / "others")
    resume = ["--out", str(tmp_path / "run"), "--resume", "--unfamiliar", str(tmp_path / "others")]
    again = cli_runner().invoke(main, resume)
    assert again.exit_code == 2 and "--unfamiliar: not the photos that the run began with" in again.stderr


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recipe": {"batch_size": 64}}, "noise0 has 12 photos, each batch takes 16"),
        ({"recipe": {"linear": True}}, "a linear layer is fitted on photos of the classes alone"),
        ({"recipe": {"teacher": "efficientnet-lite2", "label_weight": 0.0, "keep_best": True}}, "keep_best compares"),
    ],
    ids=["too few", "a linear layer", "no labels"],
)
def test_what_cannot_be_trained_is_refused_before_the_run(
    changed: dict[str, object], message: str, command: Callable[..., Result], tmp_path: Path
) -> None:
    done = command(**changed)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("Error") == 1
    assert not (tmp_path / "run").exists()


def test_photos_of_the_classes_are_refused(command: Callable[..., Result], drawn_photos: Path) -> None:
    done = command(unfamiliar=drawn_photos)
    assert done.exit_code == 2 and "--unfamiliar: 32 of its photos are photos of the classes too" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_during_training_is_one_line(command: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pth.part").symlink_to("/dev/full")
    done = command()
    assert done.exit_code == 2
    assert f"\nError: {tmp_path / 'run' / 'checkpoint.pth'}: cannot be written: " in done.stderr
