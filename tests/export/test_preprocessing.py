"""Preprocessing read off a Learner: exported with identical pixels, or refused with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.vision.all import (
    DataBlock,
    ImageBlock,
    Learner,
    Normalize,
    PILImage,
    PILMask,
    RandomCrop,
    RandomResizedCrop,
    aug_transforms,
    imagenet_stats,
)
from fastai.vision.all import Resize as FastaiResize

from export.errors import ExportError
from export.onnx_file.graph import export_graph
from export.onnx_file.seal import seal
from export.parity.compare import Reference, compare, file_answers
from export.parity.golden import learner_golden
from export.source.pickled import load_learner
from export.source.preprocessing import Crop, describe_item_transform, read_mode, read_preprocessing
from export.source.source_model import SourceModel, freeze, learner_logits
from petinfer import Classifier
from petinfer.image import pixels
from petinfer.spec import Resize, Spec
from petinfer.verify import GOLDEN_PHOTOS

OLD_LEARNER = Path(__file__).parent / "data" / "fastai27.pkl"
NORMALIZE = Normalize.from_stats(*imagenet_stats, cuda=False)


@pytest.fixture
def learn() -> Learner:
    return freeze(load_learner(OLD_LEARNER))


def with_batch_tfms(learn: Learner, *transforms: object) -> Learner:
    for loader in learn.dls.loaders:
        loader.after_batch.fs = type(loader.after_batch.fs)([loader.after_batch.fs[0], *transforms])
    return learn


@pytest.mark.parametrize("size", [64, (48, 80)])
def test_random_resized_crop_has_fastais_pixels(size: int | tuple[int, int], cat_photo: Path) -> None:
    transform = RandomResizedCrop(size, min_scale=0.3)
    resize, crop = describe_item_transform(transform)
    assert crop is not None
    photo = PILImage.create(cat_photo)
    for width, height in ((451, 300), (300, 451), (115, 90), (37, 400)):
        narrow = photo.crop((0, 0, width, height)) if width < 451 else photo
        ours = pixels(narrow, resize, "stored")[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        assert np.array_equal(ours, np.asarray(transform(PILImage(narrow), split_idx=1)))


def test_random_resized_crop_is_exported(learn: Learner, tmp_path: Path, drawn_photos: Path) -> None:
    for loader in learn.dls.loaders:
        last = loader.after_item.fs[-1]
        loader.after_item.fs = type(loader.after_item.fs)([RandomResizedCrop(64, min_scale=0.3), last])
    before = read_preprocessing(learn)
    assert (before.resize, before.crop) == (Resize(80, 80, "squish", "zeros"), Crop(8, 8, 64, 64))
    source = SourceModel(learn, ("a", "b"), before.resize, before.statistics, crop=before.crop)
    seal(export_graph(source), Spec(source.labels, source.resize), tmp_path / "model.onnx")
    photos = sorted(drawn_photos.glob("*.png"))[::4]
    reference = Reference(photos, source.labels, learner_logits(learn, photos))
    parity = compare(reference, *file_answers(Classifier(tmp_path / "model.onnx", device="cpu"), photos))
    assert parity.probability_max <= 1e-5 and parity.flips == []


def test_crops_of_training_alone_are_left_out(learn: Learner, drawn_photos: Path) -> None:
    """The item transforms of `train` with ``min_scale``: the first crops in training, the second resizes in validation."""
    crop, resize = RandomResizedCrop(48, min_scale=0.3), FastaiResize(64)
    crop.split_idx, resize.split_idx = 0, 1
    for loader in learn.dls.loaders:
        loader.after_item.fs = type(loader.after_item.fs)([crop, resize, loader.after_item.fs[-1]])
    before = read_preprocessing(learn)
    assert (before.resize, before.crop) == (Resize(64, 64), None)
    photo = next(drawn_photos.glob("*.png"))
    ours = pixels(photo, before.resize, "stored")
    (batch,) = learn.dls.test_dl([photo], num_workers=0, after_batch=[]).one_batch()
    assert np.array_equal(ours, batch[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("crop", [64, (47, 70)])
def test_a_random_crop_after_the_resize_has_fastais_pixels(
    learn: Learner, crop: int | tuple[int, int], drawn_photos: Path
) -> None:
    for loader in learn.dls.loaders:
        after = loader.after_item
        after.fs = type(after.fs)([FastaiResize((81, 96)), RandomCrop(crop), after.fs[-1]])
    before = read_preprocessing(learn)
    source = SourceModel(
        learn, ("a", "b"), before.resize, before.statistics, crop=before.crop, item_transform=before.item_transform
    )
    assert before.resize == Resize(81, 96) and before.crop is not None
    for photo in [*sorted(drawn_photos.glob("*.png"))[:4], *GOLDEN_PHOTOS.iterdir()]:
        resized = FastaiResize((81, 96))(PILImage.create(photo), split_idx=1)
        expected = np.asarray(RandomCrop(crop)(resized, split_idx=1))
        assert np.array_equal(source.cropped(source.pixels(photo)), expected)
    assert len(learner_golden(source)) == 15


def test_a_random_crop_larger_than_the_resize_is_refused(learn: Learner) -> None:
    for loader in learn.dls.loaders:
        after = loader.after_item
        after.fs = type(after.fs)([FastaiResize(64), RandomCrop(80), after.fs[-1]])
    with pytest.raises(ExportError, match="RandomCrop pads or crops a crop"):
        read_preprocessing(learn)


def test_two_normalizes_are_refused_as_such(learn: Learner) -> None:
    with pytest.raises(ExportError, match="it normalizes twice"):
        read_preprocessing(with_batch_tfms(learn, NORMALIZE, NORMALIZE))


def test_resampling_after_normalize_is_refused_as_such(learn: Learner) -> None:
    with pytest.raises(ExportError, match=r"AffineCoordTfm|Flip.* resamples after Normalize|resamples after Normalize"):
        read_preprocessing(with_batch_tfms(learn, NORMALIZE, *aug_transforms(size=32)))


def test_a_second_resampling_is_refused_as_such(learn: Learner) -> None:
    first, second = aug_transforms(size=32)[0], aug_transforms(size=16)[0]
    with pytest.raises(ExportError, match="is a second resampling"):
        read_preprocessing(with_batch_tfms(learn, first, second))


class PILImageRGBA(PILImage):
    """Four channels."""

    _open_args = {"mode": "RGBA"}  # noqa: RUF012


class PILImageHSV(PILImage):
    """Another colour space."""

    _open_args = {"mode": "HSV"}  # noqa: RUF012


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (PILImageRGBA, "opens photos as PILImageRGBA in mode RGBA, not RGB or L"),
        (PILImageHSV, "opens photos as PILImageHSV in mode HSV, not RGB or L"),
        (PILMask, "opens a photo as PILMask, not PILImage"),
    ],
)
def test_images_of_other_modes_are_refused_by_name(cls: type, message: str, drawn_photos: Path) -> None:
    photos = sorted(drawn_photos.glob("*.png"))[:4]
    block = DataBlock(blocks=ImageBlock(cls), splitter=lambda items: ([0, 1], [2, 3]))
    learn = Learner.__new__(Learner)
    learn.dls = block.dataloaders(photos, bs=2, num_workers=0)
    with pytest.raises(ExportError, match=message):
        read_mode(learn)


def test_a_photo_opened_as_rgb_passes(learn: Learner) -> None:
    assert read_mode(learn) == "RGB"


def test_one_mean_normalizes_all_channels(learn: Learner) -> None:
    normalize = Normalize(torch.tensor([[[[0.5]]]]), torch.tensor([[[[0.25]]]]))
    assert read_preprocessing(with_batch_tfms(learn, normalize)).statistics == ((0.5,) * 3, (0.25,) * 3)
