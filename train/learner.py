"""The Learner: fastai's ``vision_learner``, with starting weights from fastai or from a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from fastai.vision.all import CrossEntropyLossFlat, ImageDataLoaders, Learner, error_rate, model_meta, vision_learner
from fastai.vision.learner import _default_meta
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from .efficientnet_lite import NAME, efficientnet_lite2
from .errors import TrainingError, one_line
from .linear import linear_head
from .recipe import Recipe


def make_learner(dls: ImageDataLoaders, recipe: Recipe, weights: Path | None = None) -> Learner:
    """The lesson's ``vision_learner(dls, resnet34, metrics=error_rate)``.

    Args:
        dls: the photos.
        recipe: the architecture (torchvision's, timm's or efficientnet-lite2), and the loss's label smoothing.
        weights: starting weights, a ``.safetensors`` file: either the architecture's own ``state_dict()`` (its last
            layer may be missing) or, for torchvision's, a run's ``model.safetensors`` (its body is used, and with
            ``keep_head`` its head). None uses the ImageNet weights that fastai downloads.

    Raises:
        TrainingError: unknown architecture, or weights that do not fit it or cannot be downloaded.
    """
    torchvision_arch = getattr(torchvision.models, recipe.arch, None)
    arch: Any = efficientnet_lite2 if recipe.arch == NAME else torchvision_arch or recipe.arch
    from_file: dict[str, Any] = {}
    if weights is not None and torchvision_arch:
        arch = _pretrained_from_file(torchvision_arch, weights)
    elif weights is not None:
        from_file = _timms_weights(recipe.arch, weights)
    loss = CrossEntropyLossFlat(label_smoothing=recipe.label_smoothing) if recipe.label_smoothing else None
    try:
        learn = vision_learner(
            dls, arch, metrics=error_rate, loss_func=loss, train_bn=not recipe.freeze_norms, **from_file
        )
    except TrainingError:
        raise
    except Exception as error:  # timm's unknown name, torch.hub's and huggingface's network errors
        problem = f"cannot be made with ImageNet weights: {one_line(error)}"
        raise TrainingError(f"{recipe.arch}: {problem} (another --arch, or --weights FILE)") from error
    if recipe.linear:
        learn.model[1] = linear_head(learn.model[1], dls.c).to(dls.device)
        learn.opt = None  # vision_learner made one for the head that is gone
    if recipe.keep_head and weights is not None:
        _load_head(learn, weights)
    learn.arch = (
        torchvision_arch or recipe.arch
    )  # in place of the partial function, which cannot be unpickled elsewhere
    return learn


def _load_head(learn: Learner, weights: Path) -> None:
    """Load the head of a run's ``model.safetensors`` into the Learner's."""
    head = {name.removeprefix("1."): tensor for name, tensor in load_file(weights).items() if name.startswith("1.")}
    try:
        learn.model[1].load_state_dict(head)
    except RuntimeError as error:
        problem = one_line(error)
        raise TrainingError(f"{weights}: its head does not fit: {problem} (set keep_head to false)") from error


def _timms_weights(name: str, weights: Path) -> dict[str, Any]:
    """The argument with which timm reads the weights of a network from a file instead of downloading them."""
    try:
        import timm
    except ImportError as error:
        raise TrainingError(f"--arch {name}: {error} (pip install timm)") from error
    if not timm.is_model(name):
        raise TrainingError(
            f"--weights: {name} is neither torchvision's nor timm's (omit --weights, or use another --arch)"
        )
    _load(timm.create_model(name), name, weights)  # timm would leave out, without a word, what the file does not have
    return {"pretrained_cfg_overlay": {"file": str(weights)}}


def _pretrained_from_file(arch: Callable[..., nn.Module], weights: Path) -> Callable[..., nn.Module]:
    """A function that builds the architecture with a file's weights, registered with fastai like the architecture."""
    build = partial(_build_from_file, arch, weights)
    model_meta[build] = {**model_meta.get(arch, _default_meta), "weights": None}
    return build


def _build_from_file(arch: Callable[..., nn.Module], path: Path, **ignored: Any) -> nn.Module:
    model = arch(weights=None)
    _load(model, arch.__name__, path)
    return model


def _load(model: nn.Module, name: str, path: Path) -> None:
    """Load a file's weights into a network of this name; they may lack its last layer alone."""
    try:
        state = _renamed(model, {key: tensor.float() for key, tensor in load_file(path).items()})
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (OSError, SafetensorError, RuntimeError, ValueError, IndexError) as error:
        raise TrainingError(f"{path}: not weights for {name}: {one_line(error)} (another --weights file)") from error
    last = list(dict(model.named_modules()))[-1]
    lacking = [key for key in missing if not key.startswith(last) and not key.endswith("num_batches_tracked")]
    if lacking or unexpected:
        wrong = f"lacks {lacking[0]}" if lacking else f"has an unknown {unexpected[0]}"
        raise TrainingError(f"{path}: not weights for {name}: {wrong} (another --weights file)")


def _renamed(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state with the architecture's names: a run's ``model.safetensors`` has fastai's (``0.4.…`` body, ``1.…`` head)."""
    if not all(name.startswith(("0.", "1.")) for name in state):
        return state
    children = [name for name, _ in model.named_children()]
    body = (name.split(".", 2) for name in state if name.startswith("0."))
    return {f"{children[int(place)]}.{rest}": state[f"0.{place}.{rest}"] for _, place, rest in body}
