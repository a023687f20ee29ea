"""Fine-tuning, as fastai does it: the Learner, what it learns with, and a checkpoint an epoch."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from fastai.callback.channelslast import ChannelsLast
from fastai.distributed import DistributedDL, teardown_distrib  # which gives Learner its distrib_ctx
from fastai.vision.all import (
    Callback,
    CancelEpochException,
    CancelFitException,
    CastToTensor,
    CrossEntropyLossFlat,
    ImageDataLoaders,
    L,
    Learner,
    MixedPrecision,
    MixUp,
    error_rate,
    get_model,
    model_meta,
    num_distrib,
    rank_distrib,
    vision_learner,
)
from fastai.vision.learner import _default_meta
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .errors import TrainingError
from .recipe import Recipe


def make_learner(dls: ImageDataLoaders, recipe: Recipe, weights: Path | None = None) -> Learner:
    """The lesson's ``vision_learner(dls, resnet34, metrics=error_rate)``.

    Args:
        dls: the photos.
        recipe: names the architecture; label smoothing goes into the loss.
        weights: starting weights, a ``.safetensors`` file in the names of the architecture's own ``state_dict()``
            (its last layer may be missing), or a run's ``model.safetensors`` (of which the body is taken, and the head
            begins anew); None takes the ImageNet weights that fastai fetches.

    Raises:
        TrainingError: no such architecture, weights that do not fit it or cannot be fetched.
    """
    torchvision_arch = getattr(torchvision.models, recipe.arch, None)
    arch: Any = torchvision_arch or recipe.arch
    if weights is not None:
        arch = _pretrained_from_file(torchvision_arch, recipe.arch, weights)
    loss = CrossEntropyLossFlat(label_smoothing=recipe.label_smoothing) if recipe.label_smoothing else None
    try:
        learn = vision_learner(dls, arch, metrics=error_rate, loss_func=loss)
    except TrainingError:
        raise
    except Exception as error:  # timm's unknown name, torch.hub's and huggingface's network errors
        problem = f"cannot be made with ImageNet weights: {_one_line(error)}"
        raise TrainingError(f"{recipe.arch}: {problem} (another --arch, or --weights FILE)") from error
    learn.arch = torchvision_arch or recipe.arch  # what vision_learner was given may not outlive this process
    return learn


def _pretrained_from_file(arch: Callable[..., nn.Module] | None, name: str, weights: Path) -> Callable[..., nn.Module]:
    """An architecture whose "pretrained" weights are a file's, known to fastai as the architecture itself is."""
    if arch is None:
        raise TrainingError(
            f"--weights: works for torchvision's architectures, {name} is none (leave one of the two out)"
        )
    build = partial(_build_from_file, arch, weights)
    model_meta[build] = {**model_meta.get(arch, _default_meta), "weights": None}
    return build


def _build_from_file(arch: Callable[..., nn.Module], path: Path, **ignored: Any) -> nn.Module:
    model = arch(weights=None)
    try:
        state = _in_own_names(model, {name: tensor.float() for name, tensor in load_file(path).items()})
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (OSError, SafetensorError, RuntimeError, ValueError, IndexError) as error:
        raise TrainingError(
            f"{path}: no weights for {arch.__name__}: {_one_line(error)} (another --weights file)"
        ) from error
    last = list(dict(model.named_modules()))[-1]
    lacking = [name for name in missing if not name.startswith(last) and not name.endswith("num_batches_tracked")]
    if lacking or unexpected:
        wrong = f"lacks {lacking[0]}" if lacking else f"holds an unknown {unexpected[0]}"
        raise TrainingError(f"{path}: no weights for {arch.__name__}: {wrong} (another --weights file)")
    return model


def _in_own_names(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A run's ``model.safetensors`` names fastai's body by position (``0.4.…``) and the head after it (``1.…``)."""
    if not all(name.startswith(("0.", "1.")) for name in state):
        return state
    children = [name for name, _ in model.named_children()]
    body = (name.split(".", 2) for name in state if name.startswith("0."))
    return {f"{children[int(place)]}.{rest}": state[f"0.{place}.{rest}"] for _, place, rest in body}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def seed_everything(seed: int) -> None:
    """Seed what fastai, torch and numpy draw from. fastai's ``set_seed`` does the same, and cuDNN's flags besides."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class CpuAutocast(Callback):
    """bfloat16 on processors that compute in it: fastai's ``MixedPrecision`` (whose order this keeps), for the CPU."""

    order = MixedPrecision.order
    autocast: torch.autocast | None = None

    def before_batch(self) -> None:
        """Enter autocast; every way out of a batch leaves it."""
        self.autocast = torch.autocast("cpu", torch.bfloat16)
        self.autocast.__enter__()

    def after_pred(self) -> None:
        """The loss is taken in single precision."""
        self.learn.pred = self.pred.float()
        self._leave()

    def after_cancel_batch(self) -> None:
        """A batch given up before its prediction."""
        self._leave()

    def _leave(self) -> None:
        if self.autocast is not None:
            self.autocast.__exit__(None, None, None)
            self.autocast = None


def precision_callbacks() -> list[Callback]:
    """Mixed precision where the GPU or the processor has bfloat16, else none. For one ``fit``, not for the Learner."""
    if torch.cuda.is_available():
        return [ChannelsLast(), MixedPrecision("bf16" if torch.cuda.is_bf16_supported() else "fp16")]
    if torch.cpu._is_avx512_bf16_supported():
        return [ChannelsLast(), CpuAutocast()]
    return []


class GrowingPhotos(Callback):
    """Progressive resizing: the network starts on small photos, in steps of 32 px, and ends on the full size."""

    order = CastToTensor.order + 0.2  # before autocast

    def __init__(self, small: int, size: int) -> None:
        self.sizes = [*range(small, size, 32), size]

    def before_batch(self) -> None:
        """Shrink the batch while training is young; validation sees the full size."""
        if not self.training:
            return
        step = min(int(self.pct_train * len(self.sizes)), len(self.sizes) - 1)
        if self.sizes[step] < self.sizes[-1]:
            side = self.sizes[step]
            self.learn.xb = tuple(
                nn.functional.interpolate(x, size=(side, side), mode="bilinear", antialias=True) for x in self.xb
            )


class KeepEarly(Callback):
    """A ResNet's stem and ``layer1`` take no gradient: theirs cost a quarter of a step, and what they see is general.

    Their batch norms still follow the photos' statistics, as fastai lets a frozen body's do.
    """

    def before_fit(self) -> None:
        """After ``unfreeze``, which gives every layer its gradient back."""
        self.learn.model[0][:5].requires_grad_(False)


class AverageWeights(Callback):
    """Validate and keep an exponential average of the weights, by torch's ``AveragedModel``; the last step trains on."""

    order = 60

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: AveragedModel | None = None

    def before_fit(self) -> None:
        """Begin from the weights as they are."""
        if self.average is None:
            self.average = AveragedModel(
                get_model(self.learn.model), multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True
            )

    def after_step(self) -> None:
        """Take the step into the average."""
        assert self.average is not None
        self.average.update_parameters(get_model(self.learn.model))

    def before_validate(self) -> None:
        """Validate the average; a checkpoint still takes the trained weights."""
        assert self.average is not None
        self.trained, self.learn.model = self.learn.model, self.average.module

    def after_validate(self) -> None:
        """Go on with the trained weights."""
        self.learn.model = self.trained

    def keep(self) -> None:
        """Make the average the Learner's weights, for good."""
        if self.average is not None:
            self.learn.model.load_state_dict(self.average.module.state_dict())


class StopOnInterrupt(Callback):
    """Ctrl-C ends training before the next batch, by fastai's own way out; a second Ctrl-C ends the program."""

    order = -10

    def __init__(self) -> None:
        self.asked = False

    def before_fit(self) -> None:
        """Listen for Ctrl-C."""
        self.usual = signal.signal(signal.SIGINT, signal.default_int_handler if self.asked else self._ask)

    def _ask(self, signal_number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def before_batch(self) -> None:
        """Go no further; a validation that is under way ends first."""
        if self.asked and self.training:
            raise CancelFitException

    def after_fit(self) -> None:
        """Listen no more."""
        signal.signal(signal.SIGINT, self.usual)


class Checkpoint(Callback):
    """Write all that training needs to go on after each epoch, and skip the epochs that an earlier process did.

    fastai's ``SkipToEpoch`` skips within one ``fit``; ``fine_tune`` is two, and this counts over both.
    """

    order = 70

    def __init__(self, path: Path, resume: bool) -> None:
        self.path, self.epochs = path, 0
        self.log: list[list[float | None]] = []
        self.saved = torch.load(path, weights_only=True) if resume and path.exists() else None
        self.done = self.saved["epochs"] if self.saved else 0

    def before_epoch(self) -> None:
        """Skip what is done; on reaching the first epoch that is not, take up the state of the last that is."""
        if self.epochs < self.done:
            self.epochs += 1
            raise CancelEpochException
        if self.saved is not None:
            self._restore(self.saved)
            self.saved = None

    def after_epoch(self) -> None:
        """Write beside, then rename: a kill at any moment leaves the checkpoint before or the one after."""
        if self.saved is not None:
            return
        self.epochs += 1
        if rank_distrib():  # of several processes, the first writes
            return
        self.log.append([None if value is None else float(value) for value in self.recorder.log[1:-1]])
        beside = self.path.with_suffix(".part")
        torch.save(self._state(), beside)
        os.replace(beside, self.path)

    def finish(self) -> None:
        """After the last epoch: a run that was killed after it still takes up its weights."""
        if self.saved is not None:
            self._restore(self.saved)

    def _parts(self) -> dict[str, Any]:
        parts = {"model": get_model(self.learn.model)}
        if hasattr(self.learn, "average_weights") and self.learn.average_weights.average is not None:
            parts["average"] = self.learn.average_weights.average
        if hasattr(self.learn, "distillation"):
            parts |= self.learn.distillation.parts()
        return parts

    def _shuffling(self) -> random.Random:
        """What the photos' order is drawn from; among several processes, fastai wraps the DataLoader that has it."""
        loader = self.dls.train
        rng: random.Random = loader.rng if hasattr(loader, "rng") else loader.dl.rng
        return rng

    def _state(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "log": self.log,
            "state": list(self.learn.opt.state_dict()["state"]),  # plain lists, so that loading unpickles only tensors
            "hypers": [
                {name: value.item() if isinstance(value, np.generic) else value for name, value in group.items()}
                for group in self.learn.opt.hypers
            ],
            "torch_rng": torch.get_rng_state(),
            "python_rng": random.getstate(),
            "shuffle_rng": self._shuffling().getstate(),
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        if self.epoch:  # before the first of a `fit`, fastai has cleared the optimizer's state
            self.learn.opt.load_state_dict({"state": saved["state"], "hypers": L(saved["hypers"])})
        torch.set_rng_state(saved["torch_rng"])
        random.setstate(saved["python_rng"])
        self._shuffling().setstate(saved["shuffle_rng"])
        self.log = saved["log"]


def fine_tune(learn: Learner, recipe: Recipe, checkpoint: Checkpoint, teaching: list[Callback] | None = None) -> bool:
    """fastai's ``fine_tune``: ``freeze_epochs`` with the body frozen, then ``epochs`` with all of it.

    Returns:
        Whether it came to its end; False after Ctrl-C, with what was learnt until then in ``learn``.
    """
    stop = StopOnInterrupt()
    cbs = [*precision_callbacks(), *(teaching or []), checkpoint, stop]
    if recipe.mixup:
        cbs.append(MixUp(recipe.mixup))
    if recipe.keep_early:
        cbs.append(KeepEarly())
    if recipe.small_size:
        cbs.append(GrowingPhotos(recipe.small_size, recipe.train_size or recipe.size))
    if recipe.average:
        cbs.append(AverageWeights(recipe.average))
    with learn.added_cbs(cbs), _across_processes(learn):
        learn.fine_tune(recipe.epochs, recipe.lr, freeze_epochs=recipe.freeze_epochs, lr_mult=recipe.lr_mult)
        checkpoint.finish()
        if recipe.average:
            learn.average_weights.keep()
    learn.model.to(memory_format=torch.contiguous_format)
    return not stop.asked


def _across_processes(learn: Learner) -> AbstractContextManager[Any]:
    """fastai's ``distrib_ctx``; batch norms can be synchronised on GPUs alone."""
    if not num_distrib():
        return nullcontext()
    if torch.cuda.is_available():
        return learn.distrib_ctx()  # type: ignore[no-any-return]
    DistributedDL._broadcast = _broadcast
    return learn.distrib_ctx(sync_bn=False, cpu=True)  # type: ignore[no-any-return]


def _broadcast(loader: Any, numbers: list[int], rank: int) -> list[int]:
    """fastai's ``DistributedDL._broadcast``, which sends them by way of a GPU, even where there is none."""
    sent = torch.tensor(numbers)
    torch.distributed.broadcast(sent, rank)
    told: list[int] = sent.tolist()
    return told


def part_from_other_processes() -> None:
    """What comes after training is the first process's alone; fastai would wait for the others' share of each answer."""
    if num_distrib():
        teardown_distrib()
        del os.environ["WORLD_SIZE"]
