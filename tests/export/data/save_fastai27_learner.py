"""Saves ``fastai27.pkl``: a small Learner as fastai 2.7 exports it.

Run in an environment of its own, since fastai 2.8 saves other module names:

    python -m venv old && old/bin/pip install torch torchvision
    old/bin/pip install --no-deps 'fastai<2.8' 'fastcore<1.8' 'fastprogress<1.1'
    old/bin/pip install matplotlib pandas pyyaml scipy scikit-learn pillow packaging requests
    old/bin/python save_fastai27_learner.py

``fastai27.json`` beside it holds what its ``learn.predict`` answers for ``docs/chelsea.jpg``.
"""

import json
import sys
import tempfile
import types
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from fastai.layers import AdaptiveConcatPool2d, ConvLayer, Flatten, LinBnDrop, ResBlock
from fastai.vision.all import (
    ImageDataLoaders,
    Learner,
    Normalize,
    Resize,
    SaveModelCallback,
    accuracy,
    aug_transforms,
    error_rate,
    imagenet_stats,
)
from PIL import Image
from torch import nn

HERE = Path(__file__).parent
CAT = HERE.parents[2] / "docs" / "chelsea.jpg"

# The labelling function of a notebook: importable while the Learner is trained, and gone afterwards.
notebook = sys.modules["lesson_notebook"] = types.ModuleType("lesson_notebook")
exec("def is_cat(name): return name[0].isupper()", notebook.__dict__)


def draw(folder: Path) -> list[Path]:
    """24 pictures: "cats" are bright, "dogs" dark."""
    random = np.random.default_rng(0)
    for i in range(24):
        name = f"{'Cat' if i % 2 else 'dog'}_{i}.png"
        low = 120 if i % 2 else 0
        Image.fromarray(random.integers(low, low + 130, (80, 96, 3), np.uint8)).save(folder / name)
    return sorted(folder.iterdir())


torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    dls = ImageDataLoaders.from_name_func(
        HERE,
        draw(Path(folder)),
        valid_pct=0.25,
        seed=42,
        label_func=notebook.is_cat,
        item_tfms=Resize(64),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)],
        bs=6,
        num_workers=0,
    )
    network = nn.Sequential(
        ConvLayer(3, 8, stride=2),
        ResBlock(1, 8, 16, stride=2),
        AdaptiveConcatPool2d(),
        Flatten(),
        *LinBnDrop(32, 2, p=0.25),
    )
    learn = Learner(dls, network, metrics=[error_rate, accuracy], cbs=SaveModelCallback())
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(3, 1e-2)
    with learn.no_bar():
        label, _, probabilities = learn.predict(CAT)
learn.export(HERE / "fastai27.pkl")
(HERE / "models" / "model.pth").unlink(missing_ok=True)
answer = {
    "label": str(label),
    "probabilities": [float(p) for p in probabilities],
    "versions": {name: version(name) for name in ("fastai", "fastcore", "torch")},
}
(HERE / "fastai27.json").write_text(json.dumps(answer, indent=1) + "\n")
