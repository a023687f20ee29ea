"""The devices that ``device=`` names, and the onnxruntime provider that each one needs."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import DeviceError

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class Device:
    """How onnxruntime reaches a device."""

    provider: str
    """onnxruntime's name for what computes there."""
    wheel: str = ""
    """The plug-in's wheel, where onnxruntime has none built in; it is installed next to onnxruntime.

    Its package is named like the wheel, with underscores, and has a function ``get_library_path``.
    """
    library: str = ""
    """The provider's shared library in onnxruntime's package, where it has one: it needs others, such as CUDA's."""
    options: Callable[[int], dict[str, str]] = field(default=lambda threads: {})
    """The provider's options, for a number of threads."""


def _cache() -> str:
    """The folder for engines that take minutes to build."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  Path's raises without a home
    return os.path.join(folder, "petinfer")


def _cuda(threads: int) -> dict[str, str]:
    return {"use_tf32": "0"}  # TF32 would round what fp32 must keep


def _tensorrt_rtx(threads: int) -> dict[str, str]:
    return {"nv_runtime_cache_path": _cache()}


def _tensorrt(threads: int) -> dict[str, str]:
    return {"trt_engine_cache_enable": "1", "trt_engine_cache_path": _cache()}


def _openvino(threads: int) -> dict[str, str]:
    """By default it computes fp32 in bfloat16 where the processor can (`verify` measured an error of 3e-3), on all cores."""
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    return {"load_config": json.dumps({"CPU": {**hint, "INFERENCE_NUM_THREADS": str(threads)}, "GPU": hint})}


DEVICES = {
    "cuda": Device("CUDAExecutionProvider", library="onnxruntime_providers_cuda", options=_cuda),
    "tensorrt-rtx": Device("NvTensorRTRTXExecutionProvider", "onnxruntime-ep-nv-tensorrt-rtx", options=_tensorrt_rtx),
    "tensorrt": Device("TensorrtExecutionProvider", library="onnxruntime_providers_tensorrt", options=_tensorrt),
    "openvino": Device("OpenVINOExecutionProvider", "onnxruntime-ep-openvino", options=_openvino),
    "qnn": Device("QNNExecutionProvider", "onnxruntime-qnn"),
    "webgpu": Device("WebGpuExecutionProvider", "onnxruntime-ep-webgpu"),
    "coreml": Device("CoreMLExecutionProvider"),
    "cpu": Device("CPUExecutionProvider"),
}

# What "auto" tries, in this order. CUDA is in it because a user who installs onnxruntime-gpu expects it; no GPU was
# available to test it. The rest take minutes to build engines or were never measured here. Users of other projects report
# that CoreML takes 60 times as long as the CPU on an int8 file, which it splits into 220 parts.
AUTO = ("cuda", "openvino", "cpu")

_REGISTERING = threading.Lock()


@cache
def built_in_providers() -> frozenset[str]:
    """The providers of the installed onnxruntime; called before a plug-in is registered, which would count as one."""
    import onnxruntime

    return frozenset(onnxruntime.get_available_providers())


def available_devices() -> list[str]:
    """The devices whose provider is installed. Only opening a session shows whether one works."""
    return [name for name, device in DEVICES.items() if is_built_in(device) or _plugin_installed(device)]


def find_device(name: str) -> Device:
    """The device of that name.

    Raises:
        DeviceError: `DEVICES` has no such name.
    """
    if name not in DEVICES:
        raise DeviceError(f"device: {name!r} is unknown (use auto, {', '.join(DEVICES)})")
    return DEVICES[name]


def is_built_in(device: Device) -> bool:
    """Whether the installed onnxruntime has the device's provider without a plug-in."""
    return device.provider in built_in_providers()


def library_problem(device: Device) -> str:
    """Why the provider's library cannot be loaded, for example that CUDA is missing; empty if it can."""
    import ctypes
    from pathlib import Path

    import onnxruntime

    if not device.library:
        return ""
    form, folder = ("{}.dll" if sys.platform == "win32" else "lib{}.so"), Path(onnxruntime.__file__).parent / "capi"
    try:
        # the provider's library uses functions of the shared one
        ctypes.CDLL(str(folder / form.format("onnxruntime_providers_shared")), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / form.format(device.library)))
    except OSError as error:
        return " ".join(str(error).split())[:200]
    return ""


def plugin_devices(name: str, device: Device) -> list[onnxruntime.OrtEpDevice]:
    """The devices that a plug-in finds on this machine, after its library is loaded into onnxruntime.

    Raises:
        DeviceError: the plug-in is not installed, cannot be loaded, or finds no device.
    """
    import onnxruntime

    if not _plugin_installed(device):
        raise DeviceError(f"device {name}: {_missing(device)}")
    built_in_providers()
    try:
        with _REGISTERING:
            if not _found_by(device):
                plugin = import_module(device.wheel.replace("-", "_"))
                onnxruntime.register_execution_provider_library(device.provider, plugin.get_library_path())
            found = _found_by(device)
    except Exception as error:  # onnxruntime's own classes share no base but this, and an old one lacks the function
        problem = " ".join(str(error).split())[:200]
        remedy = f"check the device's driver, then pip install --upgrade onnxruntime {device.wheel}"
        raise DeviceError(f"device {name}: {device.wheel} cannot be loaded: {problem} ({remedy})") from error
    if not found:
        raise DeviceError(f'device {name}: {device.wheel} found no device on this machine (use device="cpu")')
    return found


def _plugin_installed(device: Device) -> bool:
    return bool(device.wheel) and importlib.util.find_spec(device.wheel.replace("-", "_")) is not None


def _found_by(device: Device) -> list[onnxruntime.OrtEpDevice]:
    import onnxruntime

    return [each for each in onnxruntime.get_ep_devices() if each.ep_name == device.provider]


def _missing(device: Device) -> str:
    installed = f"it has {', '.join(sorted(built_in_providers()))}"
    remedy = f"pip install {device.wheel}" if device.wheel else installed
    return f"this onnxruntime has no {device.provider} ({remedy})"
