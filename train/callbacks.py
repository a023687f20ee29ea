"""The callbacks of a training run: precision, progressive resizing, weight averaging, the best epoch, Ctrl-C."""

from __future__ import annotations

import signal
from typing import Any

import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import Callback, CancelFitException, CastToTensor, MixedPrecision, get_model
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class CpuAutocast(Callback):
    """bfloat16 on processors that support it: fastai's ``MixedPrecision``, for the CPU."""

    order = MixedPrecision.order
    autocast: torch.autocast | None = None

    def before_batch(self) -> None:
        """Enter autocast."""
        self.autocast = torch.autocast("cpu", torch.bfloat16)
        self.autocast.__enter__()

    def after_pred(self) -> None:
        """Leave autocast: the loss is computed in single precision."""
        self.learn.pred = self.pred.float()
        self._leave()

    def after_cancel_batch(self) -> None:
        """Leave autocast when a batch is cancelled before its prediction."""
        self._leave()

    def _leave(self) -> None:
        if self.autocast is not None:
            self.autocast.__exit__(None, None, None)
            self.autocast = None


def precision_callbacks() -> list[Callback]:
    """Mixed precision where the GPU or the processor supports it, and maps with their channels last, for one ``fit``.

    In single precision on a CPU, such maps take 0.77 of the time (ResNet-34, forward and backward, two cores of a Xeon).
    """
    if torch.cuda.is_available():
        return [ChannelsLast(), MixedPrecision("bf16" if torch.cuda.is_bf16_supported() else "fp16")]
    if torch.cpu._is_avx512_bf16_supported():
        return [ChannelsLast(), CpuAutocast()]
    return [ChannelsLast()]


class ProgressiveResizing(Callback):
    """Start on small photos and grow in steps of 32 px to the full size."""

    order = CastToTensor.order + 0.2  # before autocast

    def __init__(self, small: int, size: int) -> None:
        self.sizes = [*range(small, size, 32), size]

    def before_batch(self) -> None:
        """Shrink a training batch to the size that is due; validation photos keep the full size."""
        if not self.training:
            return
        step = min(int(self.pct_train * len(self.sizes)), len(self.sizes) - 1)
        if self.sizes[step] < self.sizes[-1]:
            side = self.sizes[step]
            self.learn.xb = tuple(
                nn.functional.interpolate(x, size=(side, side), mode="bilinear", antialias=True) for x in self.xb
            )


class KeepEarly(Callback):
    """Freeze a ResNet's stem and ``layer1``, which saves a quarter of each step.

    Their batch norms still follow the photos' statistics, as in a body that fastai froze.
    """

    def before_fit(self) -> None:
        """Freeze them again after ``unfreeze``."""
        self.learn.model[0][:5].requires_grad_(False)


class AverageWeights(Callback):
    """Validate and keep an exponential moving average of the weights, by torch's ``AveragedModel``."""

    order = 60

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: AveragedModel | None = None

    def before_fit(self) -> None:
        """Start from the current weights."""
        if self.average is None:
            self.average = AveragedModel(
                get_model(self.learn.model), multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True
            )

    def after_step(self) -> None:
        """Add the new weights to the average."""
        assert self.average is not None
        self.average.update_parameters(get_model(self.learn.model))

    def before_validate(self) -> None:
        """Validate the average."""
        assert self.average is not None
        # fastai has put the trained model into eval mode before this. Batch norms of an average in training mode would
        # normalise each batch by itself, and follow the validation photos.
        self.trained, self.learn.model = self.learn.model, self.average.module.eval()

    def after_validate(self) -> None:
        """Return to the trained weights."""
        self.learn.model = self.trained

    def keep(self) -> None:
        """Replace the Learner's weights by the average."""
        if self.average is not None:
            self.learn.model.load_state_dict(self.average.module.state_dict())


class KeepBest(Callback):
    """Keep the weights of the epoch with the lowest validation loss: the averaged ones, where `AverageWeights` validates.

    fastai's ``SaveModelCallback`` would keep those in training, and forgets the best loss when a run is resumed.
    """

    order = AverageWeights.order - 5  # after the recorder has noted the loss, before the trained weights come back

    def __init__(self) -> None:
        self.lowest = float("inf")
        self.weights: dict[str, torch.Tensor] = {}

    def after_validate(self) -> None:
        """Compare the epoch's loss with the lowest so far."""
        valid_loss = float(self.recorder.log[2])
        if valid_loss < self.lowest:
            state = get_model(self.learn.model).state_dict()
            self.weights = {name: value.clone() for name, value in state.items()}
            self.lowest = valid_loss

    def keep(self) -> None:
        """Replace the Learner's weights by the best."""
        if self.weights:
            get_model(self.learn.model).load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"lowest": self.lowest, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.lowest, self.weights = state["lowest"], state["weights"]


class StopOnInterrupt(Callback):
    """End training before the next batch after Ctrl-C; a second Ctrl-C raises KeyboardInterrupt at once."""

    order = -10

    def __init__(self) -> None:
        self.asked = False

    def before_fit(self) -> None:
        """Install the handler."""
        self.previous = signal.signal(signal.SIGINT, signal.default_int_handler if self.asked else self._ask)

    def _ask(self, signal_number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def before_batch(self) -> None:
        """Stop training; a validation in progress is finished first."""
        if self.asked and self.training:
            raise CancelFitException

    def after_fit(self) -> None:
        """Restore the previous handler."""
        signal.signal(signal.SIGINT, self.previous)
