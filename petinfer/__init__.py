"""Run an image classifier that was trained with fastai: its answers, from the same pixels, without fastai or torch.

>>> from petinfer import Classifier
>>> Classifier().predict("photo.jpg").label
'cat'
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# By default, onnxruntime 1.29 and newer stores a device ID and sends telemetry. Set the variable to 0 to allow that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Classifier", "DeviceError", "ModelError", "PetinferError", "PhotoError", "Prediction"]

if TYPE_CHECKING:
    from .classifier import Classifier, Prediction
    from .errors import DeviceError, ModelError, PetinferError, PhotoError
else:  # hidden from type checkers, to which __getattr__ would make every misspelt name valid

    def __getattr__(name: str) -> object:
        """Import a public name on first use (PEP 562): ``import petinfer`` alone loads neither numpy nor onnxruntime."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module = "classifier" if name in ("Classifier", "Prediction") else "errors"
        value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
