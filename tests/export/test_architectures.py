"""Any network that ``vision_learner`` takes, with any labels: the file answers what the Learner answers."""

from __future__ import annotations

from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Normalize,
    Resize,
    aug_transforms,
    imagenet_stats,
    resnet18,
    resnet50,
    set_seed,
    vision_learner,
)

from export.onnx_file.graph import export_graph
from export.onnx_file.seal import seal
from export.parity.compare import Reference, compare, file_answers
from export.source.pickled import load_pickled
from export.source.source_model import SourceModel, learner_logits
from petinfer import Classifier
from petinfer.spec import Spec

WORDS = ["dog", "Ünïcödé 猫", "comma, quote ' and \"", "-1"]


def learner(folder: Path, photos: Path, arch: object, **how: object) -> SourceModel:
    """A Learner with random weights, of an odd number of odd labels, saved and loaded as anybody's."""
    set_seed(0)
    files = sorted(photos.glob("*.png"))
    options = {"item_tfms": Resize(224), "batch_tfms": Normalize.from_stats(*imagenet_stats, cuda=False)} | how
    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_y=lambda p: WORDS[files.index(p) % 4],
        splitter=IndexSplitter([0, 1, 2, 3]),
        **options,
    )
    learn = vision_learner(block.dataloaders(files, bs=8, num_workers=0), arch, pretrained=False, normalize=False)
    learn.model.train()
    with torch.no_grad():  # batch norms learn what they see; as they are made, some networks answer 1e20
        for _ in range(3):
            learn.model(learn.dls.one_batch()[0])
    learn.path = folder
    learn.export("export.pkl", pickle_module=cloudpickle)
    return load_pickled(folder / "export.pkl")


def assert_alike(source: SourceModel, photos: Path, folder: Path) -> None:
    """The file that is exported answers within 1e-5 of the Learner, on the drawn photos."""
    files = sorted(photos.glob("*.png"))[::4]
    seal(export_graph(source), Spec(source.labels, source.resize), folder / "model.onnx")
    reference = learner_logits(source.learn, files)
    answers = file_answers(Classifier(folder / "model.onnx"), files)
    parity = compare(Reference(files, source.labels, reference), *answers)
    assert parity.probability_max <= 1e-5 and parity.flips == []
    assert np.ptp(reference, axis=0).max() > 1e-4  # the photos make a difference


# timm's small members of each family, whose layers are those of the larger ones
SMALL = ["test_resnet", "test_convnext", "test_efficientnet", "test_vit"]
LARGE = [resnet18, resnet50, "convnext_tiny", "efficientnet_b0", "vit_tiny_patch16_224"]


@pytest.mark.parametrize("arch", SMALL)
def test_an_architecture_is_exported(arch: str, drawn_photos: Path, tmp_path: Path) -> None:
    source = learner(tmp_path, drawn_photos, arch, item_tfms=Resize(160))
    assert source.labels == tuple(sorted(WORDS))
    assert_alike(source, drawn_photos, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("arch", LARGE, ids=lambda arch: getattr(arch, "__name__", arch))
def test_an_architecture_that_people_use_is_exported(arch: object, drawn_photos: Path, tmp_path: Path) -> None:
    source = learner(tmp_path, drawn_photos, arch)
    assert source.labels == tuple(sorted(WORDS))
    assert_alike(source, drawn_photos, tmp_path)


def test_presizing_goes_into_the_graph(drawn_photos: Path, tmp_path: Path) -> None:
    """The fastai book's ``Resize(460)``, then ``aug_transforms(size=224, min_scale=0.75)``."""
    tfms = [*aug_transforms(size=224, min_scale=0.75), Normalize.from_stats(*imagenet_stats, cuda=False)]
    source = learner(tmp_path, drawn_photos, "test_resnet", item_tfms=Resize(460), batch_tfms=tfms)
    assert (source.resize.height, source.resize.width) == (460, 460)
    assert source.resampling is not None and source.resampling[0].shape == (224, 460)
    assert_alike(source, drawn_photos, tmp_path)


def test_another_shape_and_no_statistics_are_exported(drawn_photos: Path, tmp_path: Path) -> None:
    resize = Resize((96, 160), "pad", "border")
    source = learner(tmp_path, drawn_photos, "test_resnet", item_tfms=resize, batch_tfms=None)
    assert source.statistics is None
    assert_alike(source, drawn_photos, tmp_path)
