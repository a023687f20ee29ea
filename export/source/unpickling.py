"""Unpickles Learners that notebooks, other systems, other Pythons and older versions of fastai saved.

What cannot be imported is replaced by a stub: prediction does not need metrics, most callbacks, or the function that
labelled the photos. A stub in the network is found afterwards, by `require_no_stubs`.
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from typing import Any

from fasttransform import transform as fasttransform
from torch import nn

from ..errors import ExportError, one_line

# Where fastai 2.8 moved what older Learners name. `_DispatchedTransform` stands for fastcore's own Transform.
_MOVED = {"fastcore.transform": "fasttransform.transform", "fastcore.dispatch": "fasttransform.cast"}
_BY_VALUE = ("cloudpickle", "dill")  # they pickle the code of a function, which only the same Python can read


class Stub(type):
    """The class of what replaces something that cannot be imported. It can be unpickled, and raises when it is called."""

    reason = ""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Called in place of making an object, or of calling a function."""
        raise ExportError(f"learner: prediction calls {cls}, which is not importable{cls.reason} ({cls.remedy()})")

    def __str__(cls) -> str:
        return f"{cls.__module__}.{cls.__qualname__}"

    def remedy(cls) -> str:
        """What makes it importable."""
        if cls.__module__ == "__main__":
            return f"put {cls.__qualname__} into a module, and save the Learner again"
        package = cls.__module__.split(".")[0]
        return f"install {package}, or put {package}.py into the current folder"


def make_stub(module: str, name: str, reason: str = "") -> Stub:
    """A stub, announced on standard error; ``reason`` says why it is not importable, if its module exists."""
    reason = f" ({reason})" if reason else ""
    print(f"{module}.{name} is not importable{reason}; replaced by a stub", file=sys.stderr)
    return Stub(name, (), {"__module__": module, "reason": reason})


def require_no_stubs(network: Any) -> None:
    """Refuse a network whose modules include one that cannot be imported."""
    for module in _modules(network):
        if isinstance(type(module), Stub):
            cls = type(module)
            raise ExportError(
                f"learner: its network contains {cls}, which is not importable{cls.reason} ({cls.remedy()})"
            )


def _modules(module: Any) -> Iterator[Any]:
    yield module
    children = vars(module).get("_modules") or {} if isinstance(module, nn.Module) else {}
    for child in children.values():
        yield from _modules(child)


class Unpickler(pickle.Unpickler):
    """Finds what a pickle names, where it is now."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle calls ``name`` in ``module``, or a stub."""
        package = module.split(".")[0]
        if package == "pathlib":  # Python 3.13 wrote pathlib._local
            return getattr(pathlib, portable_path(name))
        if (module, name) == ("types", "CodeType") or (
            package in _BY_VALUE and name in ("_builtin_type", "_create_code")
        ):
            return _make_code if name != "_builtin_type" else _builtin_type
        if package in _BY_VALUE and name in ("_make_function", "_function_setstate", "_create_function"):
            return _tolerant(super().find_class(module, name))
        try:
            return super().find_class(module, name)
        except (AttributeError, ImportError) as error:
            return _find_elsewhere(module, name, error)


class PickleModule:
    """What ``torch.load`` takes as its ``pickle_module``."""

    __name__ = "pickle"
    Unpickler = Unpickler
    load = staticmethod(pickle.load)


def portable_path(name: str, system: str = os.name) -> str:
    """The name of a path class that can be made on this system: Windows makes no PosixPath, and others no WindowsPath."""
    foreign = "PosixPath" if system == "nt" else "WindowsPath"
    return f"Pure{name}" if name == foreign else name


def _find_elsewhere(module: str, name: str, error: Exception) -> Any:
    """Where something moved to, or a stub; a name that a newer package dropped is an error that gives the version."""
    if module in _MOVED and (moved := _find_moved(module, name)) is not None:
        return moved
    package = module.split(".")[0]
    if package not in packages_distributions():
        return make_stub(module, name)
    if module in _MOVED:
        raise ExportError(_dropped(module, name)) from error
    missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    if isinstance(error, ImportError) and missing.split(".")[0] != package:
        return make_stub(module, name, one_line(error))  # the module exists, and fails to import
    raise ExportError(_dropped(module, name)) from error


def _find_moved(module: str, name: str) -> Any:
    if name in ("Transform", "TypeDispatch", "_TypeDict"):
        return {"Transform": _DispatchedTransform, "TypeDispatch": _Dispatch, "_TypeDict": _Dispatch}[name]
    return getattr(importlib.import_module(_MOVED[module]), name, None)


def _dropped(module: str, name: str) -> str:
    distribution = packages_distributions()[module.split(".")[0]][0]
    version = importlib.metadata.version(distribution)
    if module in _MOVED:
        remedy = "pip install --no-deps 'fastai<2.8' 'fastcore<1.8' 'fastprogress<1.1'"
        return f"learner: {module}.{name} is not in {distribution} {version} ({remedy})"
    return f"learner: {module}.{name} is not in {distribution} {version} (install the {distribution} that saved the Learner)"


class _Dispatch:
    """fastcore's ``TypeDispatch`` and the dictionaries in it, which chose a function by its argument's type."""

    def functions(self) -> list[Callable[..., Any]]:
        """All the functions, of this and of the dictionaries in it."""
        found: list[Callable[..., Any]] = []
        for value in getattr(self, "d", {}).values() or [getattr(self, "funcs", None)]:
            found += value.functions() if isinstance(value, _Dispatch) else [value] * (value is not None)
        return found


class _DispatchedTransform(fasttransform.Transform):  # type: ignore[misc]
    """A function as a transform, saved by fastai before 2.8."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        old = {name: state.pop(name) for name, each in list(state.items()) if isinstance(each, _Dispatch)}
        enc, dec = (old[name].functions() if name in old else [] for name in ("encodes", "decodes"))
        fasttransform.Transform.__init__(self, enc or None, dec or None)
        self.__dict__ |= state


class _ForeignCode:
    """The code of a function that another Python pickled by value."""

    def __init__(self, name: str) -> None:
        self.name = name


def _make_code(*arguments: Any) -> Any:
    """``types.CodeType``, whose arguments change with Python's versions."""
    try:
        return types.CodeType(*arguments)
    except (TypeError, ValueError):
        return _ForeignCode([each for each in ("function", *arguments) if isinstance(each, str)][-1])


def _builtin_type(name: str) -> Any:
    return _make_code if name == "CodeType" else getattr(types, name)


def _tolerant(make: Callable[..., Any]) -> Callable[..., Any]:
    """A function of cloudpickle or dill that makes a function, or a stub where its code cannot be read."""

    def made(first: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(first, _ForeignCode):
            name = next((each for each in arguments if isinstance(each, str)), first.name)
            return make_stub("__main__", name, "pickled by value under another Python")
        return first if isinstance(first, Stub) else make(first, *arguments, **named)

    return made
