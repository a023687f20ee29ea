"""A linear layer on a frozen body's features: it is fitted as stated, a stopped run continues, and export rebuilds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fastai.vision.all import Learner
from torch.nn import functional

from export.source.run import load_run
from train.__main__ import main
from train.artifacts import load
from train.data import dataloaders
from train.errors import TrainingError
from train.evaluation import predict_logits
from train.learner import make_learner
from train.linear import WEIGHT_DECAYS, fit, fit_linear, source_weights
from train.recipe import Recipe
from train.split import Split

from .conftest import SMALL


@pytest.fixture
def learn(drawn_photos: Path, weights: Path) -> Learner:
    names = sorted(photo.name for photo in drawn_photos.iterdir())
    split = Split(tuple(names[::2]), tuple(names[1::4]))
    return make_learner(dataloaders(drawn_photos, split, SMALL), replace(SMALL, linear=True), weights)


def test_the_fitted_layer_minimises_the_stated_loss() -> None:
    """At the minimum the gradient is zero; it is taken on the returned layer, which reads plain features."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (60,), generator=random)
    features = torch.randn(60, 5, generator=random) * 3 + functional.one_hot(labels, 5) + 7
    weights = torch.rand(60, generator=random)
    weight, bias = fit(features, labels, weights, 3, 0.01)
    deviation = features.std(0) + 0.01
    standardised = (weight * deviation).requires_grad_()
    logits = (features - features.mean(0)) / deviation @ standardised.T + bias + weight @ features.mean(0)
    losses = functional.cross_entropy(logits, labels, label_smoothing=0.02, reduction="none")
    loss = (losses * weights).mean() + 0.01 * standardised.square().sum() / 2
    loss.backward()
    assert standardised.grad is not None and standardised.grad.abs().max() < 1e-4


def test_the_body_keeps_its_weights_and_the_layer_answers(learn: Learner, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in learn.model[0].state_dict().items()}
    found = fit_linear(learn, tmp_path)

    assert found.decay in WEIGHT_DECAYS
    assert all(torch.equal(tensor, before[name]) for name, tensor in learn.model[0].state_dict().items())
    logits, labels = predict_logits(learn, learn.dls.train_ds.items)
    assert (logits.argmax(1) == labels).mean() > 0.9
    assert list(tmp_path.iterdir()) == []


def test_a_given_weight_decay_is_the_one_that_is_used(learn: Learner, tmp_path: Path) -> None:
    """So large a weight decay leaves no weights, and the answers are close to even."""
    assert fit_linear(learn, tmp_path, decay=1e6).decay == 1e6
    assert np.ptp(predict_logits(learn)[0], axis=0).max() < 1e-3


@pytest.mark.parametrize("settings", [{"weight_decay": 0.3}, {"weight_decay": -1.0, "linear": True}])
def test_a_weight_decay_is_positive_and_of_a_linear_layer(settings: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="weight_decay is above 0 and of a linear layer"):
        Recipe(**settings)


def test_a_large_source_counts_by_the_root_of_its_size() -> None:
    weights = source_weights(["a"] * 4 + ["b"], [0, 0, 0, 0, 0])
    assert weights[:4].sum() / weights[4] == pytest.approx(2) and weights.mean() == pytest.approx(1)


def test_both_labels_of_a_source_count_nearly_the_same() -> None:
    weights = source_weights(["a"] * 5, [0, 0, 0, 0, 1])
    assert weights[:4].sum() / weights[4] == pytest.approx(2)


def test_a_stopped_run_reads_the_features_that_it_has(learn: Learner, tmp_path: Path) -> None:
    """Features of another network, which only a run that reads them can fit."""
    photos = len(learn.dls.train_ds.items)
    kept = {"features": np.zeros((photos, 512), np.float32), "labels": np.zeros(photos, np.int64)}
    np.savez(tmp_path / "features-train-000000.npz", **kept)
    fit_linear(learn, tmp_path)
    assert (predict_logits(learn)[0].argmax(1) == 0).all()


def test_a_linear_recipe_with_a_teacher_is_refused() -> None:
    with pytest.raises(TrainingError, match="linear trains no body"):
        Recipe(linear=True, teacher="efficientnet-lite2")


def test_a_linear_run_is_saved_and_export_rebuilds_it(drawn_photos: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"arch": "resnet18", "size": 64, "batch_size": 8, "linear": true}')
    out = tmp_path / "run"
    options = ["--data", str(drawn_photos), "--weights", str(weights), "--recipe", str(tmp_path / "recipe.json")]
    done = CliRunner().invoke(main, [*options, "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    assert "weight decay of the linear layer: 0." in done.stderr
    photos = sorted(drawn_photos.iterdir())[:6]
    saved, _ = load(out)
    rebuilt = load_run(out, photos[0]).learn
    assert predict_logits(rebuilt, photos)[0] == pytest.approx(predict_logits(saved, photos)[0], abs=1e-5)


def test_so_many_photos_of_each_source_are_used(drawn_photos: Path, weights: Path, tmp_path: Path) -> None:
    names = sorted(photo.name for photo in drawn_photos.iterdir())
    rows = [f"{name}\t{'few' if i % 4 == 0 else 'many'}" for i, name in enumerate(names)]
    (tmp_path / "sources.tsv").write_text("\n".join(["name\trepository", *rows]) + "\n")
    (tmp_path / "recipe.json").write_text('{"arch": "resnet18", "size": 64, "batch_size": 8, "linear": true}')
    options = ["--data", str(drawn_photos), "--weights", str(weights), "--recipe", str(tmp_path / "recipe.json")]
    chosen = ["--sources", str(tmp_path / "sources.tsv"), "--per-source", "6"]
    done = CliRunner().invoke(main, [*options, *chosen, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.stderr
    split = Split.load(tmp_path / "run" / "split.json")
    used = [names.index(Path(name).name) % 4 == 0 for name in (*split.train, *split.valid)]
    assert (used.count(True), used.count(False)) == (min(6, (len(names) + 3) // 4), 6)
