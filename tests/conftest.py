"""Photos and models that several tests use; all are made here or lie in the repository."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

REPOSITORY = Path(__file__).parent.parent
SHARED = Path(os.environ.get("PETINFER_SHARED", REPOSITORY.parent / "shared"))


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
    """A pickled Learner of the lesson's architecture, trained for a moment on the drawn photos, in a process of its own.

    Its labelling function is pickled by reference to a notebook that is not there any more.
    """
    pytest.importorskip("fastai", reason="a Learner is made here")
    folder = tmp_path_factory.mktemp("learner")
    code = """
import sys
from fastai.vision.all import *
import types
notebook = sys.modules["lesson_notebook"] = types.ModuleType("lesson_notebook")  # here while it trains, and gone afterwards
exec("def is_cat(name): return name[0].isupper()", notebook.__dict__)
photos = sorted(get_image_files(sys.argv[1]))
dls = ImageDataLoaders.from_name_func(
    Path(sys.argv[2]), photos, valid_pct=0.2, seed=42, label_func=notebook.is_cat, item_tfms=Resize(224), bs=8, num_workers=0)
learn = vision_learner(dls, resnet34, metrics=error_rate, pretrained=False)
dls.add_tfms([Normalize.from_stats(*imagenet_stats)], "after_batch")
with learn.no_bar(): learn.fit(2, 1e-3)
norms = [m for m in learn.model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
for norm in norms:  # take the statistics anew: after six steps they are those of the beginning, and logits are hundreds
    norm.momentum = None
    norm.reset_running_stats()
learn.model.train()
with torch.no_grad():
    for _ in range(3):
        for photos, _ in dls.train: learn.model(photos)
learn.export("export.pkl")
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, drawn_photos, folder], check=True, capture_output=True)
    return folder / "export.pkl"


@pytest.fixture(scope="session")
def exported(tiny_learner: Path, drawn_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model files that ``python -m export`` makes of a pickled Learner."""
    out = tmp_path_factory.mktemp("exported")
    command = [sys.executable, "-m", "export", tiny_learner, "--out", out, "--photos", drawn_photos]
    done = subprocess.run([*command, "--allow-worse"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out
