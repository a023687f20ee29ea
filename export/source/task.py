"""What a Learner decides for a photo, read off its loss: one label, or each label by itself. Other tasks are refused."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastai.losses import (
    BaseLoss,
    BCEWithLogitsLossFlat,
    CrossEntropyLossFlat,
    FocalLossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
)
from fastai.vision.all import DynamicUnet, Learner
from torch import nn

from ..errors import ExportError

# Those whose decision is the largest logit, and whose probability is the softmax.
_ONE_LABEL = (
    CrossEntropyLossFlat,
    LabelSmoothingCrossEntropy,
    LabelSmoothingCrossEntropyFlat,
    FocalLossFlat,
    nn.CrossEntropyLoss,
)
# fastai decodes neither of torch's own; 0.5 is the default of its BCEWithLogitsLossFlat
_TORCHS_BCE = ("BCEWithLogitsLoss", "binary_cross_entropy_with_logits")
_CLASSIFIERS = "only Learners that give photos labels are"
_TASKS = {  # with remedies
    "BCELoss": ("a network that ends in a sigmoid", "train without it, with BCEWithLogitsLossFlat"),
    "MSELoss": ("regression", _CLASSIFIERS),
    "L1Loss": ("regression", _CLASSIFIERS),
    "DiceLoss": ("segmentation", _CLASSIFIERS),
}
_UNKNOWN = (
    "an unknown task",
    "train with CrossEntropyLossFlat, or for several labels with MultiCategoryBlock and BCEWithLogitsLossFlat",
)


class Task(NamedTuple):
    """The classes, and how a photo gets them."""

    labels: tuple[str, ...]
    threshold: float | None
    """A photo has every label whose sigmoid is over it; None where it has one label, the largest of the softmax."""


def read_task(learn: Learner) -> Task:
    """The vocab of a Learner that gives photos labels, and its loss's threshold.

    Raises:
        ExportError: it does something else.
    """
    threshold = _threshold_of(learn)
    labels = tuple(str(category) for category in getattr(learn.dls, "vocab", None) or ())
    if not labels:
        raise ExportError("learner: its classes have no names (train with a vocab, as in MultiCategoryBlock(vocab=…))")
    return Task(labels, threshold)


def _threshold_of(learn: Learner) -> float | None:
    loss = learn.loss_func
    named = loss.func if type(loss) is BaseLoss else loss  # MSELossFlat() is a BaseLoss of MSELoss
    name = getattr(named, "__name__", type(named).__name__)
    if isinstance(learn.model, DynamicUnet):
        raise _refusal(name, *_TASKS["DiceLoss"])
    if isinstance(loss, _ONE_LABEL) or name == "cross_entropy":
        return None
    if isinstance(loss, BCEWithLogitsLossFlat):
        return _number(loss.thresh)
    if name in _TORCHS_BCE:
        return 0.5
    raise _refusal(name, *_TASKS.get(name, _UNKNOWN))


def _refusal(loss: str, task: str, remedy: str) -> ExportError:
    return ExportError(f"learner: its loss is {loss}, for {task}, which is not exported ({remedy})")


def _number(threshold: Any) -> float:
    try:
        number = float(threshold)
    except (TypeError, ValueError, RuntimeError):
        number = -1.0
    if not 0 <= number <= 1:
        problem = f"its loss has the threshold {str(threshold)[:60]}, not one number from 0 to 1"
        raise ExportError(f"learner: {problem} (set learn.loss_func.thresh)")
    return number
