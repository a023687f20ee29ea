"""What is exported: a run of ``python -m train``, or a Learner that somebody's notebook saved with ``learn.export()``.

Everything the runtime must reproduce is read off here: labels, resize, statistics. What it could not is refused by name.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import pickle
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torchvision
from fastai.losses import (
    BaseLoss,
    CrossEntropyLossFlat,
    FocalLossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
)
from fastai.vision.all import (
    AffineCoordTfm,
    CategoryBlock,
    DataBlock,
    DynamicUnet,
    ImageBlock,
    IntToFloatTensor,
    Learner,
    Normalize,
    ToTensor,
    load_learner,
    vision_learner,
)
from fastai.vision.all import Resize as FastaiResize
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from petinfer.spec import Resize

from .errors import ExportError
from .resampling import Matrix, measure_resampling

# Those whose decision is the largest logit, and whose probability is the softmax.
_SOFTMAX_LOSSES = (
    CrossEntropyLossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
    FocalLossFlat,
    nn.CrossEntropyLoss,
)
_TASKS = {
    "BCEWithLogitsLossFlat": "several labels a photo",
    "BCELossFlat": "several labels a photo",
    "BCEWithLogitsLoss": "several labels a photo",
    "MSELoss": "regression",
    "L1Loss": "regression",
    "DiceLoss": "segmentation",
}

Resampling = tuple[Matrix, Matrix]
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Original:
    """A trained network with all that happens to a photo before it."""

    learn: Learner
    labels: tuple[str, ...]
    resize: Resize
    statistics: Statistics | None  # mean and standard deviation by channel, of pixels in 0 to 1
    origin: dict[str, Any] = field(default_factory=dict)
    resampling: Resampling | None = None  # of the batch, by rows and by columns, before the statistics

    @property
    def model(self) -> nn.Module:
        """The network, in evaluation mode, on the CPU, in single precision."""
        return self.learn.model.eval().cpu().float()  # type: ignore[no-any-return]


def load_original(source: Path, photo: Path, labels: Sequence[str] | None = None) -> Original:
    """Load a run's folder or a pickled Learner.

    Args:
        source: the folder that ``python -m train`` wrote, or the file that ``learn.export()`` wrote.
        photo: any photo; fastai wants one to build a Learner around.
        labels: words in place of the Learner's own, in the order of its vocab.

    Raises:
        ExportError: it is neither, is damaged, or does what the runtime cannot.
    """
    original = _load_run(source, photo) if source.is_dir() else _load_pickle(source)
    if labels is None:
        return original
    if len(labels) != len(original.labels):
        raise ExportError(
            f"--labels: {len(labels)} words for the {len(original.labels)} classes {', '.join(original.labels)} (name each)"
        )
    return replace(original, labels=tuple(labels))


def _load_run(folder: Path, photo: Path) -> Original:
    """Rebuild the Learner from ``model.safetensors`` and ``recipe.json``: nothing is unpickled."""
    try:
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        state = load_file(folder / "model.safetensors")
        arch, labels, preprocessing = recipe["settings"]["arch"], tuple(recipe["labels"]), recipe["preprocessing"]
        resize = _resize_of(SimpleNamespace(**preprocessing["resize"]))
        statistics = preprocessing["normalize"] and (
            tuple(preprocessing["normalize"]["mean"]),
            tuple(preprocessing["normalize"]["std"]),
        )
        learn = _rebuild(arch, labels, resize, statistics, photo)
        learn.model.load_state_dict(state)
    except (OSError, KeyError, ValueError, TypeError, SafetensorError, RuntimeError) as error:
        problem = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise ExportError(
            f"{folder}: not a finished run: {problem} (python -m train --out {folder} --resume)"
        ) from error
    origin = {
        "architecture": arch,
        "recipe": recipe["settings"],
        "photos": {name: value for name, value in recipe["photos"].items() if name != "folder"},
        "weights": recipe["weights"],
        "versions": recipe["versions"],
        "date": recipe["date"],
    }
    return Original(learn, labels, resize, statistics, origin)


def _rebuild(arch: str, labels: tuple[str, ...], resize: Resize, statistics: Statistics | None, photo: Path) -> Learner:
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=list(labels), sort=False)),
        get_y=lambda _: labels[0],
        splitter=lambda items: ([0], [1]),
        item_tfms=fastai_resize(resize),
        batch_tfms=Normalize.from_stats(*statistics, cuda=False) if statistics else None,
    )
    dls = block.dataloaders([photo, photo], bs=1, num_workers=0)
    return vision_learner(
        dls, getattr(torchvision.models, arch, arch), pretrained=False, normalize=False, n_out=len(labels)
    )


def fastai_resize(resize: Resize) -> FastaiResize:
    """The fastai transform that a model file's resize describes."""
    resamples = (Image.Resampling[resize.resample.upper()], Image.Resampling.NEAREST)
    return FastaiResize((resize.height, resize.width), resize.method, resize.padding, resamples)


def _load_pickle(path: Path) -> Original:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            learn = load_learner(path, pickle_module=_Pickle)
    except OSError as error:
        raise ExportError(
            f"{path}: cannot be read: {error.strerror} (give a run's folder or a learn.export() file)"
        ) from error
    except Exception as error:  # anything can come out of a pickle
        problem = " ".join(f"{type(error).__name__} {error}".split())[:300]
        raise ExportError(
            f"{path}: not a Learner that loads here: {problem} (give a file that learn.export() wrote)"
        ) from error
    if not isinstance(learn, Learner):
        raise ExportError(
            f"{path}: holds a {type(learn).__name__}, not a Learner (give a file that learn.export() wrote)"
        )
    labels, (resize, statistics, resampling) = _labels_of(learn), _preprocessing_of(learn)
    versions = {name: importlib.metadata.version(name) for name in ("fastai", "torch")}
    origin = {"architecture": _architecture_of(learn), "learner": path.name, "versions": versions}
    return Original(learn, labels, resize, statistics, origin, resampling)


class _Absent(type):
    """The class of what stands in for what is not here: the function that labelled the photos, in somebody's notebook.

    It can be loaded, and raises when it is called.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        name = f"{cls.__module__}.{cls.__qualname__}"
        raise ExportError(
            f"learner: prediction calls {name}, which is not here (install it, or put it into a module here)"
        )


class _Unpickler(pickle.Unpickler):
    """Load what a notebook, Windows or another Python wrote."""

    def find_class(self, module: str, name: str) -> Any:
        package = module.split(".")[0]
        if package == "pathlib":  # WindowsPath cannot be made here; Python 3.13 wrote pathlib._local
            return getattr(pathlib, "PureWindowsPath" if "Windows" in name else name)
        try:
            return super().find_class(module, name)
        except (AttributeError, ImportError) as error:
            if package in packages_distributions():
                raise ExportError(_gone(module, name)) from error
            told = f"{module}.{name} is not here: left out, as prediction hardly calls it"
            print(told, file=sys.stderr)
            return _Absent(name, (), {"__module__": module})


def _gone(module: str, name: str) -> str:
    """Which version has what this pickle names and the installed one has not."""
    distribution = packages_distributions()[module.split(".")[0]][0]
    before = module in ("fastcore.transform", "fastcore.dispatch")  # gone since fastai 2.8
    remedy = "pip install 'fastai<2.8'" if before else f"install the {distribution} that saved the Learner"
    return f"learner: {module}.{name} is not in {distribution} {importlib.metadata.version(distribution)} ({remedy})"


class _Pickle:
    """What ``torch.load`` takes as its ``pickle_module``."""

    __name__ = "pickle"
    Unpickler = _Unpickler
    load = staticmethod(pickle.load)


def _labels_of(learn: Learner) -> tuple[str, ...]:
    """The words of the vocab, of a Learner that gives a photo one label; what else it may be is refused by name."""
    loss = learn.loss_func
    named = loss.func if type(loss) is BaseLoss else loss  # MSELossFlat() is a BaseLoss of MSELoss
    name = getattr(named, "__name__", type(named).__name__)
    if isinstance(learn.model, DynamicUnet) or not (isinstance(loss, _SOFTMAX_LOSSES) or name == "cross_entropy"):
        task = "segmentation" if isinstance(learn.model, DynamicUnet) else _TASKS.get(name, "a task not known here")
        problem = f"its loss is {name}, for {task}; what gives a photo one label is exported"
        raise ExportError(f"learner: {problem} (train it with CategoryBlock and CrossEntropyLossFlat)")
    return tuple(str(category) for category in learn.dls.vocab)


def _architecture_of(learn: Learner) -> str:
    arch = getattr(learn, "arch", None)
    return arch if isinstance(arch, str) else getattr(arch, "__name__", type(learn.model).__name__)


def _preprocessing_of(learn: Learner) -> tuple[Resize, Statistics | None, Resampling | None]:
    """What validation photos go through: resize, statistics and resampling; anything else is refused by name."""
    resizes = []
    for transform in learn.dls.valid.after_item.fs:
        if isinstance(transform, FastaiResize) and transform.split_idx != 0:
            resizes.append(transform)
        elif not isinstance(transform, ToTensor) and transform.split_idx != 0:
            name = type(transform).__name__
            raise ExportError(f"learner: its item transform {name} cannot be reproduced (train with Resize alone)")
    if len(resizes) != 1:
        raise ExportError(
            f"learner: {len(resizes)} Resize transforms, one is needed (train with item_tfms=Resize(224))"
        )
    resize = _resize_of(resizes[0])
    return resize, *_batch_transforms_of(learn, (resize.height, resize.width))


def _batch_transforms_of(learn: Learner, size: tuple[int, int]) -> tuple[Statistics | None, Resampling | None]:
    statistics: Statistics | None = None
    resampling: Resampling | None = None
    for transform in learn.dls.valid.after_batch.fs:
        if isinstance(transform, Normalize):
            statistics = (tuple(transform.mean.flatten().tolist()), tuple(transform.std.flatten().tolist()))
        elif not _on_training_alone(transform) and (matrices := measure_resampling(transform, *size)) is not None:
            if resampling is not None or statistics is not None:
                name = type(transform).__name__
                raise ExportError(
                    f"learner: its batch transform {name} comes after another resampling (train without it)"
                )
            resampling = matrices
    return statistics, resampling


def _on_training_alone(transform: Any) -> bool:
    """Whether validation passes a transform by. An AffineCoordTfm's ``split_idx`` is that of the last batch it saw."""
    return isinstance(transform, IntToFloatTensor) or (
        transform.split_idx == 0 and not isinstance(transform, AffineCoordTfm)
    )


def _resize_of(transform: Any) -> Resize:
    """fastai's ``Resize`` in the words of a model file. Its ``size`` is (width, height); a recipe's [height, width]."""
    if isinstance(transform, FastaiResize):
        width, height = transform.size
    else:
        height, width = transform.size
    resample = transform.mode if isinstance(transform, FastaiResize) else transform.resample
    return Resize(
        height, width, str(transform.method), str(transform.pad_mode), Image.Resampling(resample).name.lower()
    )
