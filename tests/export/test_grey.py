"""A Learner of grey photos, one channel: identical pixels, and the Learner's answers in every precision."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from fastai.vision.all import (
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Learner,
    Normalize,
    PILImageBW,
    Resize,
    aug_transforms,
    imagenet_stats,
    resnet18,
    vision_learner,
)
from torch import nn

from export.onnx_file.graph import export_graph
from export.onnx_file.seal import seal
from export.options import Options
from export.parity.compare import Reference, compare, file_answers
from export.pipeline import export
from export.source.pickled import load_learner, load_pickled
from export.source.source_model import SourceModel, learner_logits
from petinfer import Classifier
from petinfer.image import pixels
from petinfer.spec import Resize as ResizeSpec
from petinfer.spec import Spec
from petinfer.verify import GOLDEN_PHOTOS, verify

GREY = Normalize.from_stats([0.44], [0.23], cuda=False)
GOLDEN = sorted(GOLDEN_PHOTOS.iterdir())


def small_network(channels: int = 1) -> nn.Module:
    layers: list[nn.Module] = []
    for given, made in ((channels, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(given, made, 3, 2, 1), nn.BatchNorm2d(made), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))


def save(folder: Path, photos: Path, network: Callable[[Any], Learner] | None = None, **how: object) -> Path:
    """A Learner with random weights whose batch norms have seen the photos, saved by ``learn.export()``."""
    torch.manual_seed(0)
    files = sorted(photos.glob("*.png"))
    block = DataBlock(
        (ImageBlock(PILImageBW), CategoryBlock),
        get_y=lambda photo: photo.name[0].isupper(),
        splitter=IndexSplitter(range(8)),
        **({"item_tfms": Resize(64), "batch_tfms": GREY} | how),
    )
    dls = block.dataloaders(files, bs=8, num_workers=0)
    learn = network(dls) if network else Learner(dls, small_network(), loss_func=CrossEntropyLossFlat())
    learn.model.train()
    with torch.no_grad():
        for _ in range(3):
            learn.model(dls.one_batch()[0])
    learn.path = folder
    learn.export("export.pkl", pickle_module=cloudpickle)
    return folder / "export.pkl"


def distance(source: SourceModel, photos: list[Path], folder: Path) -> float:
    """The largest |Δ probability| of an fp32 file from its Learner."""
    spec = Spec(source.labels, source.resize, mode=source.mode)
    seal(export_graph(source), spec, folder / "model.onnx")
    reference = Reference(photos, source.labels, learner_logits(source.learn, photos))
    return compare(reference, *file_answers(Classifier(folder / "model.onnx"), photos)).probability_max


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory, drawn_photos: Path) -> Path:
    return save(tmp_path_factory.mktemp("grey"), drawn_photos)


@pytest.fixture(scope="module")
def grey(learner: Path, drawn_photos: Path) -> Path:
    """The folder of its model files, all of which passed their gates."""
    export(Options(learner, learner.parent / "onnx", photos=drawn_photos))
    return learner.parent / "onnx"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_precision_of_a_grey_model_is_verified(grey: Path, precision: str) -> None:
    classifier = Classifier(grey / f"model-{precision}.onnx")
    assert classifier.spec.mode == "L"
    assert verify(classifier).failures == ()


def test_the_file_answers_what_learn_predict_answers(grey: Path, learner: Path, drawn_photos: Path) -> None:
    learn = load_learner(learner)
    classifier = Classifier(grey / "model-fp32.onnx", orientation="stored")
    photos = [*sorted(drawn_photos.glob("*.png"))[::4], *GOLDEN]
    with learn.no_bar():
        for photo in photos:
            category, _, probabilities = learn.predict(photo)
            found = classifier.predict(photo)
            assert found.label == str(category)
            assert list(map(found.probabilities.get, ("False", "True"))) == pytest.approx(
                probabilities.tolist(), abs=1e-5
            )


def test_a_stream_and_a_batch_answer_as_single_photos(grey: Path, drawn_photos: Path) -> None:
    classifier = Classifier(grey / "model-fp32.onnx")
    photos = sorted(drawn_photos.glob("*.png"))[:12]
    alone = [classifier.predict(photo) for photo in photos]
    for found, expected in zip(classifier.predict_batch(photos), alone, strict=True):
        assert found.probability == pytest.approx(expected.probability, abs=1e-6)


SHAPES = [(224, 224, "crop", "zeros"), (97, 160, "squish", "zeros"), (128, 96, "pad", "reflection")]
SHAPES += [(64, 64, "pad", "border"), (64, 64, "pad", "zeros")]


@pytest.mark.parametrize(("height", "width", "method", "padding"), SHAPES)
def test_grey_pixels_are_fastais(height: int, width: int, method: str, padding: str, cat_photo: Path) -> None:
    resize = Resize((height, width), method, padding)
    for photo in (cat_photo, *GOLDEN):
        expected = np.asarray(resize(PILImageBW.create(photo), split_idx=1))
        found = pixels(photo, ResizeSpec(height, width, method, padding), "stored", "L")
        assert found.shape == (height, width, 1)
        assert np.array_equal(found[..., 0], expected), photo


def test_grey_pixels_of_real_photos_are_fastais_also_without_fastai(pets: Path) -> None:
    photos = sorted((pets / "test").glob("*.jpg"))[:100]
    code = """
import sys
import numpy as np
from petinfer.image import pixels
from petinfer.spec import Resize
np.save(sys.stdout.buffer, np.stack([pixels(path, Resize(224, 224), "stored", "L") for path in sys.argv[1:]]))
assert "fastai" not in sys.modules
"""
    found = subprocess.run(
        [sys.executable, "-c", code, *photos], stdout=subprocess.PIPE, timeout=120, check=True
    ).stdout
    expected = [np.asarray(Resize(224)(PILImageBW.create(photo), split_idx=1)) for photo in photos]
    assert np.array_equal(np.load(io.BytesIO(found))[..., 0], np.stack(expected))


def test_the_description_and_the_card_say_that_it_is_grey(grey: Path) -> None:
    content = json.loads(Classifier(grey / "model-int8.onnx").spec.to_json())
    assert (content["schema"], content["mode"]) == (2, "L")
    assert "64 x 64 px, crop, bilinear, grey" in (grey / "card-int8.md").read_text(encoding="utf-8")
    assert (grey / "parity.html").stat().st_size > 1000


def test_a_grey_resnet_of_vision_learner_is_exported(drawn_photos: Path, tmp_path: Path) -> None:
    path = save(tmp_path, drawn_photos, lambda dls: vision_learner(dls, resnet18, n_in=1, pretrained=False))
    source = load_pickled(path)
    assert (source.mode, source.statistics) == ("L", ((pytest.approx(0.44),), (pytest.approx(0.23),)))
    assert distance(source, sorted(drawn_photos.glob("*.png"))[::4], tmp_path) <= 1e-5


def test_presizing_of_grey_photos_goes_into_the_graph(drawn_photos: Path, tmp_path: Path) -> None:
    tfms = [*aug_transforms(size=48, min_scale=0.75), GREY]
    source = load_pickled(save(tmp_path, drawn_photos, item_tfms=Resize(96), batch_tfms=tfms))
    assert source.resampling is not None and source.resampling[0].shape == (48, 96)
    assert distance(source, sorted(drawn_photos.glob("*.png"))[::4], tmp_path) <= 1e-5


def test_grey_photos_for_a_network_of_colours_are_exported(drawn_photos: Path, tmp_path: Path) -> None:
    """A pretrained network has ImageNet's statistics: subtracting three means from one channel makes three."""

    def network(dls: Any) -> Learner:
        return Learner(dls, small_network(3), loss_func=CrossEntropyLossFlat())

    tfms = Normalize.from_stats(*imagenet_stats, cuda=False)
    source = load_pickled(save(tmp_path, drawn_photos, network, batch_tfms=tfms))
    assert source.mode == "L" and len(source.statistics[0]) == 3
    assert distance(source, sorted(drawn_photos.glob("*.png"))[::4], tmp_path) <= 1e-5
