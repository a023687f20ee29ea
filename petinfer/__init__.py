"""Run an image classifier that was trained with fastai: its answers, from the same pixels, without fastai or torch.

>>> from petinfer import Classifier
>>> Classifier().predict("photo.jpg").label
'cat'
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# onnxruntime 1.29 and newer keeps a device ID and sends telemetry unless this is set before it is imported. A device that
# classifies photos tells nobody; who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from .classifier import Classifier, Prediction
    from .errors import DeviceError, ModelError, PetinferError, PhotoError

__version__ = "0.1.0"
__all__ = ["Classifier", "DeviceError", "ModelError", "PetinferError", "PhotoError", "Prediction"]

_MODULES = {
    "Classifier": "classifier",
    "Prediction": "classifier",
    "DeviceError": "errors",
    "ModelError": "errors",
    "PetinferError": "errors",
    "PhotoError": "errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562): ``import petinfer`` alone loads neither numpy nor onnxruntime."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
