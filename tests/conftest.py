"""Photos and models that several tests use; all are made here or lie in the repository."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

if TYPE_CHECKING:
    from fastai.vision.all import Learner

REPOSITORY = Path(__file__).parent.parent
SHARED = Path(os.environ.get("PETINFER_SHARED", REPOSITORY.parent / "shared"))


def obeys_ctrl_c() -> None:
    """Undo, in a child, what a shell's background job inherits: the signal of Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def cli_runner() -> CliRunner:
    """click's runner, with standard error apart from standard output, which click 8.1 mixes by default."""
    options = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    return CliRunner(**options)


@pytest.fixture(scope="session")
def cat_photo() -> Path:
    """A free photo of a cat: scikit-image's Chelsea, CC0."""
    return REPOSITORY / "docs" / "chelsea.jpg"


@pytest.fixture(scope="session")
def pets() -> Path:
    """The photos beside the checkout; tests on them are skipped where they are not there."""
    if not (SHARED / "pets" / "test").is_dir():
        pytest.skip(f"needs the photos of {SHARED}/pets, which are not here (PETINFER_SHARED names another place)")
    return SHARED / "pets"


@pytest.fixture
def lying_photo(tmp_path: Path, cat_photo: Path) -> Path:
    """The cat's photo, stored lying on its side, with the EXIF entry that asks to turn it upright."""
    path = tmp_path / "lying.jpg"
    image = Image.open(cat_photo)
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    return path


def draw(kind: str, seed: int) -> Image.Image:
    """A picture of one of two kinds that a network tells apart at once: stripes that stand, or lie."""
    random = np.random.default_rng(seed)
    width, height = random.integers(90, 200, 2)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    wave = 127 + 90 * np.sin((x if kind == "standing" else y) / random.uniform(2, 5))
    colour = random.uniform(0.4, 1, 3)
    return Image.fromarray(
        (wave[..., None] * colour + random.normal(0, 8, (height, width, 3))).clip(0, 255).astype(np.uint8)
    )


@pytest.fixture(scope="session")
def drawn_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 32 pictures drawn by code, in the layout of Oxford-IIIT Pets: "cats" stand, "dogs" lie."""
    folder = tmp_path_factory.mktemp("drawn")
    for i in range(16):
        draw("standing", i).save(folder / f"Abyssinian_{i}.png")
        draw("lying", 100 + i).save(folder / f"beagle_{i}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_learner(tmp_path_factory: pytest.TempPathFactory, drawn_photos: Path) -> Path:
    """A pickled Learner as the lesson's, of the smaller resnet18 with random weights: its last layer knows the drawn photos.

    Its labelling function is pickled by reference to a notebook that is not there any more.
    """
    pytest.importorskip("fastai", reason="a Learner is made here")
    from fastai.vision.all import no_random

    path = tmp_path_factory.mktemp("learner") / "export.pkl"
    notebook = types.ModuleType("lesson_notebook")  # here while it trains, and gone afterwards
    exec("def is_cat(name): return name[0].isupper()", notebook.__dict__)
    with pytest.MonkeyPatch.context() as patch, no_random():
        patch.setitem(sys.modules, notebook.__name__, notebook)
        learn = _lesson(sorted(drawn_photos.iterdir()), notebook.is_cat)
        _take_statistics(learn)
        _fit_last_layer(learn)
        learn.path = path.parent
        learn.export(path.name)
    return path


def _lesson(photos: list[Path], is_cat: Callable[[str], bool]) -> Learner:
    from fastai.vision.all import ImageDataLoaders, Normalize, Resize, imagenet_stats, resnet18, vision_learner

    options = {"valid_pct": 0.2, "seed": 42, "item_tfms": Resize(224), "bs": 8, "num_workers": 0}
    dls = ImageDataLoaders.from_name_func(photos[0].parent, photos, is_cat, **options)
    dls.add_tfms([Normalize.from_stats(*imagenet_stats)], "after_batch")
    return vision_learner(dls, resnet18, pretrained=False, normalize=False)


def _take_statistics(learn: Learner) -> None:
    """Batch norms' statistics of the photos, for weights that were drawn at random."""
    from torch import nn, no_grad

    for norm in learn.model.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            norm.momentum = None
    learn.model.train()
    with no_grad():
        for photos, _ in learn.dls.train:
            learn.model(photos)


def _fit_last_layer(learn: Learner) -> None:
    """A ridge regression, the same on every processor; a few steps of training end in other weights on each."""
    from torch import Tensor, cat, eye, linalg, no_grad, stack

    batches = learn.dls.train.new(shuffle=False, drop_last=False)
    last = learn.model.eval()[1][-1]
    with no_grad():
        features, labels = zip(*((learn.model[1][:-1](learn.model[0](x)), y) for x, y in batches), strict=True)
        inputs = cat(features).as_subclass(Tensor)
        signs = cat(labels).as_subclass(Tensor) * 2.0 - 1
        weight = inputs.T @ linalg.solve(inputs @ inputs.T + 2000 * eye(len(inputs)), signs)
        last.weight.copy_(stack([-weight, weight]) / 2)


@pytest.fixture(scope="session")
def exported(tiny_learner: Path, drawn_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of model files that ``python -m export`` makes of a pickled Learner; all passed their gates."""
    from export.options import Options
    from export.pipeline import export

    out = tmp_path_factory.mktemp("exported")
    export(Options(tiny_learner, out, photos=drawn_photos))
    return out
