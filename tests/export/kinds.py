"""Saves Learners of many kinds as notebooks do, exports each in fp32, and prints the table of docs/learners.md.

    python -m tests.export.kinds save FOLDER [WORD ...]  # with the fastai that shall have saved them
    python -m tests.export.kinds export FOLDER ...       # with the fastai that export runs with; a column for each folder

WORD selects the kinds whose names contain it. Networks are untrained, or trained for a moment: what counts is the distance.
"""

from __future__ import annotations

import contextlib
import io
import json
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cloudpickle
import fastai.vision.all as fv
import numpy as np
import timm
import torch
from PIL import Image
from torch import nn

from ..conftest import draw

WORDS = ("lying", "red", "standing")
SMALL = {"bs": 4, "num_workers": 0}


# fastai would cast labels to the types that these functions were annotated with
def is_cat(name: str):
    """Whether a photo's name says that it shows a cat."""
    return name[0].isupper()


def breed(photo: Path):
    """The first part of a photo's name."""
    return photo.name.split("_")[0]


def words(photo: Path):
    """Some of the words, by the photo's number."""
    return [word for i, word in enumerate(WORDS) if int(photo.stem.split("_")[1]) >> i & 1]


class Kinds:
    """Makes the Learners, on 16 drawn photos."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for i in range(8):
            for name, kind in (("Abyssinian", "standing"), ("beagle", "lying")):
                for path in (folder / "photos" / f"{name}_{i}.png", folder / "classes" / name / f"{i}.png"):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    draw(kind, i + 100 * (kind == "lying")).save(path)
        self.files = sorted((folder / "photos").glob("*.png"))
        rows = {"name": [each.name for each in self.files], "label": [breed(each) for each in self.files]}
        self.table = fv.pd.DataFrame(rows | {"labels": [" ".join(words(each)) for each in self.files]})
        self.table.to_csv(folder / "labels.csv", index=False)

    def dls(self, **how: Any) -> Any:
        """The lesson's DataLoaders."""
        settings = {"item_tfms": fv.Resize(64)} | how
        return fv.ImageDataLoaders.from_name_func(self.folder, self.files, is_cat, **settings, **SMALL)

    def block(self, *blocks: Any, **how: Any) -> Any:
        """DataLoaders of a DataBlock."""
        settings = {"get_y": breed, "item_tfms": fv.Resize(64)} | how
        return fv.DataBlock(blocks, **settings).dataloaders(self.files, **SMALL)

    def masks(self) -> Any:
        """DataLoaders with a mask a photo."""
        mask = fv.PILMask.create(np.zeros((64, 64), np.uint8))
        blocks = (fv.ImageBlock, fv.MaskBlock(codes=["a", "b"]))
        return self.block(*blocks, get_y=lambda _: mask, item_tfms=fv.Resize(64))


def cnn(outputs: int = 2, channels: int = 3) -> nn.Module:
    """A small network."""
    layers = [fv.ConvLayer(channels, 8, stride=2), fv.ConvLayer(8, 16, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, outputs))


def small(dls: Any, outputs: int = 2, loss: Any = None, **how: Any) -> Any:
    """A Learner with the small network."""
    return fv.Learner(dls, cnn(outputs), loss_func=loss or fv.CrossEntropyLossFlat(), **how)


def transfer(dls: Any, arch: Any, **how: Any) -> Any:
    """A Learner as the lesson makes it, without the pretrained weights."""
    return fv.vision_learner(dls, arch, pretrained=False, **how)


def fitted(learn: Any, method: str = "fit", *arguments: Any) -> Any:
    """A Learner after a moment of training."""
    with learn.no_bar(), learn.no_logging(), contextlib.redirect_stdout(io.StringIO()):
        getattr(learn, method)(*(arguments or (1,)))
    return learn


def with_rates_found(learn: Any) -> Any:
    """A Learner after lr_find and a moment of training."""
    with learn.no_bar():
        learn.lr_find(num_it=4, show_plot=False)
    return fitted(learn)


def normalized_again(learn: Any) -> Any:
    """A Learner whose photos are normalized twice."""
    learn.dls.add_tfms([fv.Normalize.from_stats(*fv.imagenet_stats, cuda=False)], "after_batch")
    return learn


class RGBA(fv.PILImage):
    """Four channels."""

    _open_args = {"mode": "RGBA"}  # noqa: RUF012 as fastai's own


IMAGENET = fv.Normalize.from_stats(*fv.imagenet_stats, cuda=False)
AUGMENTED = [
    fv.Brightness(),
    fv.Contrast(),
    fv.Saturation(),
    fv.Hue(),
    fv.Rotate(),
    fv.Zoom(),
    fv.Warp(),
    fv.Dihedral(),
]
Make = Callable[[Kinds], Any]
KINDS: dict[str, Make] = {
    # the lesson, and networks
    "the lesson: from_name_func, vision_learner(resnet34), fine_tune(1)": lambda k: fitted(
        transfer(k.dls(), fv.resnet34, metrics=fv.error_rate), "fine_tune"
    ),
    "DataBlock, RandomResizedCrop, aug_transforms(), resnet18": lambda k: transfer(
        k.block(
            fv.ImageBlock, fv.CategoryBlock, item_tfms=fv.RandomResizedCrop(64, 0.5), batch_tfms=fv.aug_transforms()
        ),
        fv.resnet18,
    ),
    "resnet50": lambda k: transfer(k.dls(), fv.resnet50),
    "densenet121": lambda k: transfer(k.dls(), fv.densenet121),
    "densenet121, concat_pool=False": lambda k: transfer(k.dls(), fv.densenet121, concat_pool=False),
    "squeezenet1_1": lambda k: transfer(k.dls(), fv.squeezenet1_1),
    "resnet18, custom_head, LabelSmoothingCrossEntropyFlat": lambda k: transfer(
        k.dls(),
        fv.resnet18,
        custom_head=fv.create_head(512, 2, lin_first=True),
        loss_func=fv.LabelSmoothingCrossEntropyFlat(),
    ),
    "timm by name: mobilenetv3_small_050": lambda k: transfer(k.dls(), "mobilenetv3_small_050"),
    "timm.create_model(resnet10t) in a Learner": lambda k: fv.Learner(
        k.dls(), timm.create_model("resnet10t", num_classes=2), loss_func=fv.CrossEntropyLossFlat()
    ),
    "xresnet18, from_csv": lambda k: fv.Learner(
        fv.ImageDataLoaders.from_csv(k.folder, "labels.csv", folder="photos", item_tfms=fv.Resize(64), **SMALL),
        fv.xresnet18(n_out=2),
    ),
    "xse_resnext18 with Mish and attention, from_df": lambda k: fv.Learner(
        fv.ImageDataLoaders.from_df(k.table, k.folder, folder="photos", item_tfms=fv.Resize(64), **SMALL),
        fv.xse_resnext18(n_out=2, act_cls=fv.Mish, sa=True),
    ),
    "nn.DataParallel": lambda k: fv.Learner(k.dls(), nn.DataParallel(cnn()), loss_func=fv.CrossEntropyLossFlat()),
    "torch.compile": lambda k: fv.Learner(k.dls(), torch.compile(cnn()), loss_func=fv.CrossEntropyLossFlat()),
    # photos
    "from_folder, Resize pad with zeros": lambda k: small(
        fv.ImageDataLoaders.from_folder(
            k.folder / "classes", valid_pct=0.3, item_tfms=fv.Resize(64, "pad", pad_mode="zeros"), **SMALL
        )
    ),
    "from_path_re, Resize squish to a rectangle": lambda k: small(
        fv.ImageDataLoaders.from_path_re(
            k.folder, k.files, r"([A-Za-z]+)_\d+.png$", item_tfms=fv.Resize((48, 80), "squish"), **SMALL
        )
    ),
    "from_lists, FlipItem, DihedralItem": lambda k: small(
        fv.ImageDataLoaders.from_lists(
            k.folder,
            k.files,
            list(k.table["label"]),
            item_tfms=[fv.Resize(64), fv.FlipItem(), fv.DihedralItem()],
            **SMALL,
        )
    ),
    "ColReader, RandomSplitter, IntToFloatTensor, Normalize": lambda k: small(
        fv.DataBlock(
            (fv.ImageBlock, fv.CategoryBlock),
            get_x=fv.ColReader("name", pref=f"{k.folder}/photos/"),
            get_y=fv.ColReader("label"),
            splitter=fv.RandomSplitter(seed=1),
            item_tfms=fv.Resize(64),
            batch_tfms=[fv.IntToFloatTensor(), IMAGENET],
        ).dataloaders(k.table, **SMALL)
    ),
    "Resize bicubic (resamples), Brightness to Dihedral": lambda k: small(
        k.dls(item_tfms=fv.Resize(64, resamples=(Image.Resampling.BICUBIC, 0)), batch_tfms=AUGMENTED)
    ),
    "Resize bicubic, aug_transforms(max_lighting=0.8), RandomErasing, Normalize": lambda k: small(
        k.dls(
            item_tfms=fv.Resize(
                64, fv.ResizeMethod.Crop, resamples=(Image.Resampling.BICUBIC, Image.Resampling.NEAREST)
            ),
            batch_tfms=[*fv.aug_transforms(max_lighting=0.8, p_lighting=1.0), fv.RandomErasing(), IMAGENET],
        )
    ),
    "presizing: Resize(96), aug_transforms(size=64), Normalize()": lambda k: small(
        k.dls(item_tfms=fv.Resize(96), batch_tfms=[*fv.aug_transforms(size=64), fv.Normalize()])
    ),
    "presizing to a rectangle, mult=2": lambda k: small(
        k.dls(item_tfms=fv.Resize(96), batch_tfms=fv.aug_transforms(size=(48, 64), mult=2))
    ),
    "Resize(96), RandomResizedCropGPU(64)": lambda k: small(
        k.dls(item_tfms=fv.Resize(96), batch_tfms=fv.RandomResizedCropGPU(64))
    ),
    "Resize(80), RandomCrop(64)": lambda k: small(k.dls(item_tfms=[fv.Resize(80), fv.RandomCrop(64)])),
    "grey: ImageBlock(PILImageBW), vision_learner(resnet18, n_in=1)": lambda k: transfer(
        k.block(fv.ImageBlock(fv.PILImageBW), fv.CategoryBlock), fv.resnet18, n_in=1
    ),
    # training
    "SaveModelCallback, EarlyStoppingCallback": lambda k: fitted(
        small(k.dls(), path=k.folder, cbs=[fv.SaveModelCallback(), fv.EarlyStoppingCallback()])
    ),
    "ShowGraphCallback": lambda k: small(k.dls(), cbs=fv.ShowGraphCallback()),
    "MixUp, GradientClip, ReduceLROnPlateau, ActivationStats": lambda k: fitted(
        small(k.dls(), cbs=[fv.MixUp(), fv.GradientClip(), fv.ReduceLROnPlateau(), fv.ActivationStats(with_hist=True)])
    ),
    "CutMix, GradientAccumulation": lambda k: fitted(small(k.dls(), cbs=[fv.CutMix(), fv.GradientAccumulation(8)])),
    "to_fp16, fit": lambda k: fitted(small(k.dls()).to_fp16()),
    "to_fp16, to_fp32": lambda k: small(k.dls()).to_fp16().to_fp32(),
    "to_channelslast, fit": lambda k: fitted(small(k.dls()).to_channelslast()),
    "lr_find, fit": lambda k: with_rates_found(small(k.dls())),
    # labels and losses
    "CrossEntropyLossFlat(weight=…)": lambda k: small(
        k.dls(), loss=fv.CrossEntropyLossFlat(weight=torch.tensor([1.0, 2.0]))
    ),
    "FocalLossFlat": lambda k: small(k.dls(), loss=fv.FocalLossFlat()),
    "CategoryBlock(add_na=True)": lambda k: small(k.block(fv.ImageBlock, fv.CategoryBlock(add_na=True)), 3),
    "several labels: MultiCategoryBlock, vision_learner(resnet18), accuracy_multi": lambda k: fitted(
        transfer(k.block(fv.ImageBlock, fv.MultiCategoryBlock, get_y=words), fv.resnet18, metrics=fv.accuracy_multi)
    ),
    "several labels: from_df(label_delim=' '), BCEWithLogitsLossFlat(thresh=0.2)": lambda k: small(
        fv.ImageDataLoaders.from_df(
            k.table, k.folder, folder="photos", label_col="labels", label_delim=" ", item_tfms=fv.Resize(64), **SMALL
        ),
        3,
        fv.BCEWithLogitsLossFlat(thresh=0.2),
    ),
    "several labels: nn.BCEWithLogitsLoss": lambda k: small(
        k.block(fv.ImageBlock, fv.MultiCategoryBlock, get_y=words), 3, nn.BCEWithLogitsLoss()
    ),
    # what is refused
    "no Resize": lambda k: small(fv.ImageDataLoaders.from_name_func(k.folder, k.files, is_cat, bs=1, num_workers=0)),
    "CropPad(64)": lambda k: small(k.dls(item_tfms=fv.CropPad(64))),
    "Resize(64), CropPad(48)": lambda k: small(k.dls(item_tfms=[fv.Resize(64), fv.CropPad(48)])),
    "Normalize, and a second one by dls.add_tfms": lambda k: normalized_again(small(k.dls(batch_tfms=IMAGENET))),
    "photos in RGBA": lambda k: fv.Learner(
        k.block(fv.ImageBlock(RGBA), fv.CategoryBlock), cnn(2, 4), loss_func=fv.CrossEntropyLossFlat()
    ),
    "LogSoftmax, NLLLoss": lambda k: fv.Learner(
        k.dls(), nn.Sequential(cnn(), nn.LogSoftmax(1)), loss_func=nn.NLLLoss()
    ),
    "several labels: Sigmoid, BCELossFlat": lambda k: fv.Learner(
        k.block(fv.ImageBlock, fv.MultiCategoryBlock, get_y=words),
        nn.Sequential(cnn(3), nn.Sigmoid()),
        loss_func=fv.BCELossFlat(),
    ),
    "one output for two classes, BCEWithLogitsLossFlat": lambda k: small(k.dls(), 1, fv.BCEWithLogitsLossFlat()),
    "regression: RegressionBlock, MSELossFlat": lambda k: small(
        k.block(fv.ImageBlock, fv.RegressionBlock, get_y=lambda photo: float(photo.stem[-1])), 1, fv.MSELossFlat()
    ),
    "segmentation: MaskBlock, unet_learner(resnet18)": lambda k: fv.unet_learner(
        k.masks(), fv.resnet18, pretrained=False, n_out=2
    ),
}


def save(folder: Path, chosen: list[str]) -> None:
    """Save a Learner of each kind in a folder of its own number, with a note of what saved it."""
    kinds = Kinds(folder)
    for number, name in enumerate(KINDS):
        if name not in chosen:
            continue
        target = folder / f"{number:02}"
        target.mkdir(exist_ok=True)
        about = {"kind": name, "fastai": version("fastai"), "python": platform.python_version()}
        torch.manual_seed(0)
        try:
            learn = KINDS[name](kinds)
            _seen(learn)
            learn.path = target
            learn.export("export.pkl", pickle_module=cloudpickle)
        except Exception as error:
            about["not saved"] = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        (target / "about.json").write_text(json.dumps(about))


def _seen(learn: Any) -> None:
    """Let the batch norms see two batches: without, many answers are the same."""
    learn.model.train()
    with torch.no_grad():
        for _ in range(2):
            learn.model(learn.dls.train.one_batch()[0].as_subclass(torch.Tensor))


def table(folders: list[Path]) -> Iterator[str]:
    """A row for each kind that was saved in one of the folders, and a column for each folder."""
    found = [{about["kind"]: (about, path) for about, path in _saved(folder)} for folder in folders]
    versions = [next(iter(each.values()))[0] for each in found]
    titles = (f"fastai {about['fastai']}, Python {about['python']}" for about in versions)
    yield f"| contents | {' | '.join(titles)} |"
    yield f"|{'---|' * (len(folders) + 1)}"
    for kind in dict.fromkeys(kind for each in found for kind in each):
        results = (_result(*each[kind]) if kind in each else "" for each in found)
        yield f"| {kind} | {' | '.join(results)} |"


def _saved(folder: Path) -> list[tuple[dict[str, str], Path]]:
    return [(json.loads(path.read_text()), path.parent) for path in sorted(folder.glob("*/about.json"))]


def _result(about: dict[str, str], folder: Path) -> str:
    return about.get("not saved") or exported(folder / "export.pkl", folder.parent / "photos")


def exported(learner: Path, photos: Path) -> str:
    """The largest |Δp|, or the line that refuses the Learner."""
    from export.errors import ExportError, ParityError
    from export.options import Options
    from export.pipeline import export

    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stderr(io.StringIO()):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                export(Options(learner, Path(out), photos=photos, precisions=("fp32",)))
        except (ExportError, ParityError) as error:
            return f"`{error}`"
        parity = json.loads((Path(out) / "parity.json").read_text(encoding="utf-8"))["fp32"]
        return f"exported, {parity['probability_max']:.1e}"


def main() -> None:
    """Run one of the two commands."""
    warnings.simplefilter("ignore")
    command, folder, *others = sys.argv[1:]
    if command == "save":
        Path(folder).mkdir(parents=True, exist_ok=True)
        save(Path(folder), [name for name in KINDS if not others or any(word in name for word in others)])
    else:
        for row in table(list(map(Path, (folder, *others)))):
            print(row, flush=True)


if __name__ == "__main__":
    main()
