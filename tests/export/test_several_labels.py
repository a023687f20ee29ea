"""Learners of several labels, as the fastai book makes them: sigmoid, the loss's threshold, and ``learn.predict``'s labels."""

from __future__ import annotations

import json
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from fastai.vision.all import (
    BCELossFlat,
    BCEWithLogitsLossFlat,
    CategoryBlock,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Learner,
    MultiCategoryBlock,
    Normalize,
    RegressionBlock,
    Resize,
    accuracy_multi,
    imagenet_stats,
    resnet18,
    set_seed,
    vision_learner,
)
from PIL import Image
from torch import nn

from export.errors import ExportError
from export.options import Options
from export.pipeline import export
from export.source.pickled import load_learner, load_pickled
from export.source.task import read_task
from petinfer import Classifier
from petinfer.verify import GOLDEN_PHOTOS, verify

WORDS = ("lying", "red", "standing")


def draw(words: tuple[str, ...], seed: int) -> Image.Image:
    """Stripes that stand, lie, or both, on grey or red; noise where there are none."""
    random = np.random.default_rng(seed)
    width, height = random.integers(70, 120, 2)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    period, values = random.uniform(2, 4), random.normal(110, 12, (height, width))
    for word, place in (("standing", x), ("lying", y)):
        values = values + (word in words) * 55 * np.sin(place / period)
    colour = (1.0, 0.25, 0.25) if "red" in words else (1.0, 1.0, 1.0)
    return Image.fromarray((values[..., None] * colour).clip(0, 255).astype(np.uint8))


def words_of(number: int) -> tuple[str, ...]:
    """One of the eight sets of words."""
    return tuple(word for i, word in enumerate(WORDS) if number >> i & 1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 drawn photos: six of each set of words, one of which is empty. Their names list the words."""
    folder = tmp_path_factory.mktemp("several")
    for i in range(48):
        draw(words_of(i % 8), i).save(folder / f"{'+'.join(words_of(i % 8)) or 'nothing'}_{i}.png")
    return folder


def words_in(photo: Path) -> list[str]:
    """The words in a photo's name."""
    return [word for word in photo.name.split("_")[0].split("+") if word in WORDS]


def block(target: object, **how: object) -> DataBlock:
    settings = {
        "get_y": lambda photo: words_in(photo),  # fastai would take the annotation for a type to cast to
        "splitter": IndexSplitter(range(8)),
        "item_tfms": Resize(64),
        "batch_tfms": Normalize.from_stats(*imagenet_stats, cuda=False),
    }
    return DataBlock((ImageBlock, target), **(settings | how))


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A resnet18 without pretrained weights, trained for a moment; its threshold is not the default."""
    set_seed(0)
    folder = tmp_path_factory.mktemp("learner")
    dls = block(MultiCategoryBlock).dataloaders(sorted(photos.glob("*.png")), bs=8, num_workers=0)
    loss = BCEWithLogitsLossFlat(thresh=0.4)
    learn = vision_learner(dls, resnet18, pretrained=False, metrics=accuracy_multi, loss_func=loss)
    with learn.no_bar(), learn.no_logging():
        learn.fit(3, 2e-3)
    norms = [each for each in learn.model.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:  # take the statistics anew: after so few batches they are those of the beginning
        norm.momentum = None
        norm.reset_running_stats()
    learn.model.train()
    with torch.no_grad():
        for images, _ in dls.train:
            learn.model(images)
    learn.path = folder
    learn.export("export.pkl", pickle_module=cloudpickle)
    return folder / "export.pkl"


@pytest.fixture(scope="module")
def exported(learner: Path, photos: Path) -> Path:
    """The folder of its fp32 and fp16 files, which passed their gates."""
    export(Options(learner, learner.parent / "onnx", photos=photos, precisions=("fp32", "fp16")))
    return learner.parent / "onnx"


def test_the_file_has_learn_predicts_labels_and_probabilities(exported: Path, learner: Path, photos: Path) -> None:
    """On drawn photos with three labels, two, one and none, and on the golden photos."""
    learn, classifier = load_learner(learner), Classifier(exported / "model-fp32.onnx", orientation="stored")
    numbers = set()
    with learn.no_bar():
        for photo in [*sorted(photos.glob("*.png")), *sorted(GOLDEN_PHOTOS.iterdir())]:
            labels, chosen, probabilities = learn.predict(photo)
            found = classifier.predict(photo)
            assert set(found.labels) == set(labels) and len(found.labels) == int(chosen.sum())
            assert found.label == (found.labels[0] if found.labels else None)
            by_label = [found.probabilities[str(label)] for label in learn.dls.vocab]
            assert by_label == pytest.approx(probabilities.tolist(), abs=1e-5)
            numbers.add(len(found.labels))
    assert {0, 1, 2} <= numbers


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_file_is_verified_and_has_the_losss_threshold(exported: Path, precision: str) -> None:
    check_file(exported, precision)


def check_file(folder: Path, precision: str) -> None:
    classifier = Classifier(folder / f"model-{precision}.onnx")
    assert (classifier.spec.threshold, classifier.labels) == (0.4, WORDS)
    assert json.loads(classifier.spec.to_json())["schema"] == 2
    assert verify(classifier).failures == ()
    card = (folder / f"card-{precision}.md").read_text(encoding="utf-8")
    assert "| a photo has | every label with a probability over 0.4 |" in card


def test_int8_of_a_small_network_passes_its_gate_and_is_verified(photos: Path, tmp_path: Path) -> None:
    learn = small(MultiCategoryBlock, 3, BCEWithLogitsLossFlat(thresh=0.4), photos)
    export(
        Options(saved(learn, tmp_path), tmp_path / "onnx", photos=photos, calibration_photos=8, precisions=("int8",))
    )
    check_file(tmp_path / "onnx", "int8")
    assert Classifier(tmp_path / "onnx" / "model-int8.onnx").spec.parity["int8_share"] > 0.5


def test_the_reports_name_sets_of_labels(exported: Path, photos: Path) -> None:
    parity = json.loads((exported / "parity.json").read_text(encoding="utf-8"))["fp32"]
    assert (parity["threshold"], parity["flips"], parity["errors"]) == (0.4, [], None)
    assert parity["probability_max"] <= 1e-5
    assert {row["learner"] for row in parity["furthest"]} <= {
        ", ".join(words_of(i)) or "none" for i in range(2 ** len(WORDS))
    }
    assert "with a margin over 0.02 flipped" in (exported / "parity.html").read_text(encoding="utf-8")


def small(target: object, outputs: int, loss: object, photos: Path, **how: object) -> Learner:
    """A Learner with a tiny untrained network."""
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, outputs)]
    dls = block(target, **how).dataloaders(sorted(photos.glob("*.png")), bs=8, num_workers=0)
    return Learner(dls, nn.Sequential(*layers), loss_func=loss)


def saved(learn: Learner, folder: Path) -> Path:
    learn.path = folder
    learn.export("export.pkl", pickle_module=cloudpickle)
    return folder / "export.pkl"


@pytest.mark.parametrize(
    ("loss", "threshold"),
    [
        (BCEWithLogitsLossFlat(), 0.5),
        (BCEWithLogitsLossFlat(thresh=0.2, pos_weight=torch.ones(3)), 0.2),
        (BCEWithLogitsLossFlat(thresh=torch.tensor(0.25)), 0.25),
        (nn.BCEWithLogitsLoss(), 0.5),
        (nn.functional.binary_cross_entropy_with_logits, 0.5),
    ],
)
def test_the_threshold_is_the_losss(photos: Path, loss: object, threshold: float) -> None:
    assert read_task(small(MultiCategoryBlock, 3, loss, photos)) == (WORDS, threshold)


def test_one_hot_labels_with_a_vocab_and_a_single_label_are_several_labels(photos: Path) -> None:
    encoded = MultiCategoryBlock(encoded=True, vocab=list(WORDS))
    learn = small(
        encoded, 3, BCEWithLogitsLossFlat(), photos, get_y=lambda photo: [word in photo.name for word in WORDS]
    )
    assert read_task(learn) == (WORDS, 0.5)
    learn = small(MultiCategoryBlock(vocab=["red"]), 1, BCEWithLogitsLossFlat(), photos, get_y=lambda _: ["red"])
    assert read_task(learn) == (("red",), 0.5)


@pytest.mark.parametrize(
    ("loss", "problem"),
    [
        (BCELossFlat(), "its loss is BCELoss, for a network that ends in a sigmoid, which is not exported"),
        (BCEWithLogitsLossFlat(thresh=1.5), "its loss has the threshold 1.5, not one number from 0 to 1"),
        (BCEWithLogitsLossFlat(thresh=torch.tensor([0.2, 0.4, 0.5])), "its loss has the threshold tensor"),
    ],
    ids=["sigmoid", "range", "one each"],
)
def test_a_loss_that_no_file_can_decide_like_is_refused(photos: Path, loss: object, problem: str) -> None:
    with pytest.raises(ExportError, match=problem):
        read_task(small(MultiCategoryBlock, 3, loss, photos))


def test_a_learner_without_names_for_its_classes_is_refused(photos: Path) -> None:
    target = RegressionBlock(n_out=3)
    learn = small(
        target, 3, BCEWithLogitsLossFlat(), photos, get_y=lambda photo: [word in photo.name for word in WORDS]
    )
    with pytest.raises(ExportError, match="its classes have no names"):
        read_task(learn)


def test_one_output_for_two_classes_is_refused(photos: Path, tmp_path: Path) -> None:
    """A CategoryBlock of two with BCE: one sigmoid decides between them."""
    learn = small(CategoryBlock, 1, BCEWithLogitsLossFlat(), photos, get_y=lambda photo: "red" in photo.name)
    with pytest.raises(ExportError, match=r"output for a photo has the shape \[1\], not \[2\]: False, True"):
        export(Options(saved(learn, tmp_path), tmp_path / "out", photos=photos, limit=4))


def test_the_truth_of_one_label_is_refused(learner: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--truth: a photo's folder is one label, and this Learner gives several"):
        export(Options(learner, tmp_path / "out", photos=photos, truth="folder"))


def test_other_words_for_the_labels_keep_the_threshold(learner: Path) -> None:
    source = load_pickled(learner).with_labels(("liegend", "rot", "stehend"))
    assert (source.threshold, source.mapping()) == (0.4, "lying → liegend, red → rot, standing → stehend")
