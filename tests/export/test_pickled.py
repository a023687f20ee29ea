"""Anybody's Learner: what notebooks, other systems and older versions saved, and what is refused by name."""

from __future__ import annotations

import pathlib
import pickle
from dataclasses import replace
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from fastai.vision.all import (
    BCELossFlat,
    CropPad,
    CrossEntropyLossFlat,
    DynamicUnet,
    FocalLossFlat,
    L1LossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
    Learner,
    MSELossFlat,
    Normalize,
    RandomErasing,
    RandTransform,
    ResizeMethod,
    TensorImage,
    aug_transforms,
    create_body,
    imagenet_stats,
)
from fastai.vision.all import Resize as FastaiResize
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18

from export.__main__ import main
from export.errors import ExportError
from export.source.pickled import load_learner, load_pickled
from export.source.resampling import measure_resampling
from export.source.source_model import SourceModel
from export.source.unpickling import Unpickler
from petinfer.spec import Resize

from ..conftest import cli_runner


@pytest.fixture
def learn(tiny_learner: Path) -> Learner:
    """The Learner of the drawn photos, to be changed; its labelling function stood in for."""
    return load_learner(tiny_learner)


def saved(learn: Learner, folder: Path) -> Path:
    torch.save(learn, folder / "changed.pkl", pickle_module=cloudpickle)
    return folder / "changed.pkl"


def reload(learn: Learner, folder: Path) -> SourceModel:
    return load_pickled(saved(learn, folder))


def with_item_tfms(learn: Learner, *transforms: object) -> Learner:
    for loader in learn.dls.loaders:
        loader.after_item.fs = type(loader.after_item.fs)([*transforms, loader.after_item.fs[-1]])
    return learn


def with_batch_tfms(learn: Learner, *transforms: object) -> Learner:
    for loader in learn.dls.loaders:
        loader.after_batch.fs = type(loader.after_batch.fs)([loader.after_batch.fs[0], *transforms])
    return learn


def test_a_notebooks_labelling_function_is_stood_in_for_and_told(
    tiny_learner: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = load_pickled(tiny_learner)
    assert source.labels == ("False", "True")
    assert capsys.readouterr().err == "lesson_notebook.is_cat is not importable; replaced by a stub\n"


def test_labels_can_be_renamed_in_the_order_of_the_vocab(tiny_learner: Path) -> None:
    assert load_pickled(tiny_learner).with_labels(["dog", "cat"]).labels == ("dog", "cat")
    with pytest.raises(ExportError, match="1 words for the 2 classes False, True"):
        load_pickled(tiny_learner).with_labels(["dog"])


def test_the_mapping_of_classes_to_words_is_told(tiny_learner: Path) -> None:
    source = load_pickled(tiny_learner)
    assert source.mapping() == "labels: False, True (--labels gives them words, in this order)"
    assert source.with_labels(["dog", "cat"]).mapping() == "False → dog, True → cat"
    words = replace(source, labels=("dog", "cat"), vocab=("dog", "cat"))
    assert words.mapping() is None


def test_resize_and_statistics_are_read_off_the_learner(tiny_learner: Path) -> None:
    source = load_pickled(tiny_learner)
    assert source.resize == Resize(224, 224, "crop", "reflection", "bilinear")
    assert source.statistics is not None
    assert np.allclose(source.statistics, imagenet_stats)


def test_every_resize_of_fastai_is_read(learn: Learner, tmp_path: Path) -> None:
    from PIL.Image import Resampling

    resize = FastaiResize((96, 160), ResizeMethod.Pad, "border", (Resampling.BICUBIC, Resampling.NEAREST))
    assert reload(with_item_tfms(learn, resize), tmp_path).resize == Resize(96, 160, "pad", "border", "bicubic")


def test_no_normalize_means_no_statistics(learn: Learner, tmp_path: Path) -> None:
    assert reload(with_batch_tfms(learn), tmp_path).statistics is None


def test_an_item_transform_that_cannot_be_reproduced_is_refused_by_name(learn: Learner, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="its item transform CropPad cannot be reproduced"):
        reload(with_item_tfms(learn, FastaiResize(224), CropPad(200)), tmp_path)
    with pytest.raises(ExportError, match="0 Resize transforms, one is needed"):
        reload(with_item_tfms(learn), tmp_path)


def test_augmentations_that_do_nothing_at_validation_are_left_out(learn: Learner, tmp_path: Path) -> None:
    normalize = Normalize.from_stats(*imagenet_stats, cuda=False)
    source = reload(with_batch_tfms(learn, *aug_transforms(), RandomErasing(), normalize), tmp_path)
    assert source.resampling is None and source.statistics is not None


@pytest.mark.parametrize(
    "presizing",
    [aug_transforms(size=56)[0], aug_transforms(size=56, min_scale=0.75)[-1]],
    ids=lambda t: type(t).__name__,
)
def test_presizing_becomes_two_matrices_that_do_what_fastai_does(presizing: RandTransform) -> None:
    resampling = measure_resampling(presizing, 3, 115, 131)
    assert resampling is not None
    rows, columns = resampling
    assert (rows.shape, columns.shape) == ((56, 115), (56, 131))
    for matrix in resampling:
        assert np.allclose(matrix.sum(1), 1, atol=1e-5)  # so that pixels may be normalised before
    photo = torch.rand(1, 3, 115, 131)
    expected = presizing(TensorImage(photo.clone()), split_idx=1).numpy()
    assert np.abs(rows @ photo.numpy() @ columns.T - expected).max() < 2e-6


class Shaky(RandTransform):
    """A transform that is random at validation too."""

    split_idx = None

    def encodes(self, x: TensorImage) -> TensorImage:
        """Add something."""
        return x + torch.rand(1)


class Bent(RandTransform):
    """One that no two matrices can reproduce."""

    split_idx = None

    def encodes(self, x: TensorImage) -> TensorImage:
        """Square."""
        return x**2


@pytest.mark.parametrize(("transform", "message"), [(Shaky(), "Shaky is random"), (Bent(), "Bent cannot be put into")])
def test_a_batch_transform_that_no_graph_can_hold_is_refused_by_name(transform: object, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        measure_resampling(transform, 3, 40, 40)


@pytest.mark.parametrize(
    ("loss", "task"),
    [
        (BCELossFlat(), "BCELoss, for a network that ends in a sigmoid"),
        (MSELossFlat(), "MSELoss, for regression"),
        (L1LossFlat(), "L1Loss, for regression"),
    ],
)
def test_a_learner_of_another_task_is_refused_by_its_name(
    learn: Learner, tmp_path: Path, loss: object, task: str
) -> None:
    learn.loss_func = loss
    with pytest.raises(ExportError, match=f"its loss is {task}, which is not exported"):
        reload(learn, tmp_path)


@pytest.mark.parametrize(
    "loss",
    [
        LabelSmoothingCrossEntropy(),
        LabelSmoothingCrossEntropyFlat(),
        FocalLossFlat(),
        CrossEntropyLossFlat(axis=1),
        cross_entropy,
    ],
)
def test_a_learner_of_another_loss_for_one_label_is_exported(learn: Learner, tmp_path: Path, loss: object) -> None:
    learn.loss_func = loss
    assert reload(learn, tmp_path).labels == ("False", "True")


def test_a_learner_that_segments_is_refused_by_its_name(learn: Learner, tmp_path: Path) -> None:
    learn.model = DynamicUnet(create_body(resnet18(), pretrained=False), 2, (64, 64))
    with pytest.raises(ExportError, match="its loss is CrossEntropyLossFlat, for segmentation"):
        reload(learn, tmp_path)


def test_a_learner_in_half_precision_is_exported_in_single(learn: Learner, tmp_path: Path) -> None:
    learn.model.half()
    assert {p.dtype for p in reload(learn, tmp_path).learn.model.parameters()} == {torch.float32}


def unpickled(content: bytes) -> object:
    import io

    return Unpickler(io.BytesIO(content)).load()


def test_paths_of_windows_and_of_newer_pythons_load() -> None:
    windows = b"cpathlib\nWindowsPath\n(VC:\\\\\nVphotos\ntR."
    assert unpickled(windows) == pathlib.PureWindowsPath("C:\\", "photos")
    newer = b"cpathlib._local\nPosixPath\n(V/photos\ntR."
    assert unpickled(newer) == pathlib.PosixPath("/photos")


@pytest.mark.parametrize("module", ["__main__", "my_notebook"])
def test_what_stands_in_says_so_when_prediction_calls_it(module: str) -> None:
    is_cat = unpickled(b"c" + module.encode() + b"\nis_cat\n.")
    with pytest.raises(ExportError, match=rf"prediction calls {module}\.is_cat, which is not importable"):
        is_cat("Abyssinian_1.jpg")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            "fastai.vision.augment",
            r"fastai\.vision\.augment\.Gone is not in fastai \d.* \(install the fastai that saved",
        ),
        ("PIL.Image", r"PIL\.Image\.Gone is not in [Pp]illow \d.* \(install the [Pp]illow that saved"),
        (
            "fastcore.dispatch",
            r"fastcore\.dispatch\.Gone is not in fastcore \d.* \(pip install --no-deps 'fastai<2.8' ",
        ),
    ],
)
def test_a_name_that_is_gone_is_told_with_the_version_that_has_it(module: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        unpickled(b"c" + module.encode() + b"\nGone\n.")


def test_something_else_in_a_pickle_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(ExportError, match=r"list\.pkl: "):
        load_pickled(tmp_path / "list.pkl")


def test_a_pickle_is_announced_before_it_is_loaded(tmp_path: Path, drawn_photos: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(b"nothing")
    options = ["--out", str(tmp_path / "out"), "--photos", str(drawn_photos)]
    done = cli_runner().invoke(main, [str(tmp_path / "bad.pkl"), *options])
    assert done.stderr.splitlines()[0] == f"loading {tmp_path}/bad.pkl: a pickle runs the code that it contains"
