"""What computes: the devices that ``device=`` names, onnxruntime's provider of each, and a session on it."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import onnxruntime

from .errors import DeviceError, ModelError
from .mapping import without_weights


_sessions: weakref.WeakSet[onnxruntime.InferenceSession] = weakref.WeakSet()


def _load_ctypes() -> None:
    """Import before a fork what the child needs: an import in the child could wait for a lock that nobody holds."""
    if _sessions:
        import ctypes  # noqa: F401


def _keep_sessions_of_parent() -> None:
    """In a forked child, make the parent's sessions immortal.

    A session's destructor joins its pool's threads, and a fork copies no thread but the one that forks: the child would
    hang when it drops the session, at the latest when it exits.
    """
    if _sessions:
        import ctypes

        for session in _sessions:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(before=_load_ctypes, after_in_child=_keep_sessions_of_parent)


@dataclass(frozen=True)
class Device:
    """How onnxruntime reaches a device."""

    provider: str
    """onnxruntime's name for what computes there."""
    wheel: str = ""
    """The plug-in that brings it where it is not built in: installed beside onnxruntime, not in its place."""
    options: Callable[[int], dict[str, str]] = field(default=lambda threads: {})
    """What the provider is told, for a number of threads."""


def _cache() -> str:
    """Where engines are kept that take minutes to build."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  Path's raises without a home
    return os.path.join(cache, "petinfer")


def _cuda(threads: int) -> dict[str, str]:
    return {"use_tf32": "0"}  # TF32 would round what fp32 promises


def _tensorrt_rtx(threads: int) -> dict[str, str]:
    return {"nv_runtime_cache_path": _cache()}


def _tensorrt(threads: int) -> dict[str, str]:
    return {"trt_engine_cache_enable": "1", "trt_engine_cache_path": _cache()}


def _openvino(threads: int) -> dict[str, str]:
    """Left to itself, it computes fp32 in bfloat16 where the processor can (`verify` found it off by 3e-3), on all cores."""
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    return {"load_config": json.dumps({"CPU": {**hint, "INFERENCE_NUM_THREADS": str(threads)}, "GPU": hint})}


DEVICES = {
    "cuda": Device("CUDAExecutionProvider", options=_cuda),
    "tensorrt-rtx": Device("NvTensorRTRTXExecutionProvider", "onnxruntime-ep-nv-tensorrt-rtx", _tensorrt_rtx),
    "tensorrt": Device("TensorrtExecutionProvider", options=_tensorrt),
    "openvino": Device("OpenVINOExecutionProvider", "onnxruntime-ep-openvino", _openvino),
    "qnn": Device("QNNExecutionProvider", "onnxruntime-qnn"),
    "webgpu": Device("WebGpuExecutionProvider", "onnxruntime-ep-webgpu"),
    "coreml": Device("CoreMLExecutionProvider"),
    "cpu": Device("CPUExecutionProvider"),
}

_BUILT_IN = frozenset(onnxruntime.get_available_providers())  # before a plug-in is registered, which counts among these
_REGISTERING = threading.Lock()

# What "auto" tries, in this order. The others build engines for minutes, or are slower than a CPU as often as not.
AUTO = ("cuda", "tensorrt-rtx", "openvino", "coreml", "cpu")


def available_cores() -> int:
    """The cores that this process may use: its affinity, and the quota of its control group where one is set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2 here, or no limit ("max")
        return cores


def thread_count(asked: int | None) -> int:
    """The threads to compute with: the cores at hand, or as many as were asked for, if they are there."""
    cores = available_cores()
    if asked is None:
        return cores
    if not 1 <= asked <= cores:
        raise DeviceError(f"threads: {asked} cannot be had, this process may use {cores} (ask for 1 to {cores})")
    return asked


def available_devices() -> list[str]:
    """The devices whose provider is installed; whether one starts, only `open_session` can tell."""
    return [name for name, device in DEVICES.items() if _built_in(device) or _plugin_installed(device)]


class Opening(threading.Thread):
    """A session that opens in the background: onnxruntime lets the interpreter go on meanwhile."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        super().__init__()
        self.path, self.device, self.threads = path, device, threads
        self._session: onnxruntime.InferenceSession | None = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Open it, in the thread."""
        try:
            self._session = open_session(self.path, self.device, self.threads)
        except BaseException as error:
            self._error = error

    def result(self) -> onnxruntime.InferenceSession:
        """Wait for the session; raises what `open_session` does."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._session


def open_session(path: Path, device: str, threads: int) -> onnxruntime.InferenceSession:
    """A session of the model on the device; on ``auto``, on the first that works.

    Raises:
        ModelError: the file is missing, or the CPU cannot load it.
        DeviceError: the device cannot be had.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such model file (check the path; python -m export writes one)")
    if device != "auto":
        return _start(path, device, threads)
    installed = available_devices()
    for name in AUTO[:-1]:
        if name in installed:
            try:
                return _start(path, name, threads)
            except DeviceError:
                continue
    return _start(path, "cpu", threads)


def _start(path: Path, name: str, threads: int) -> onnxruntime.InferenceSession:
    device = DEVICES.get(name)
    if device is None:
        raise DeviceError(f"device {name}: unknown (known are auto, {', '.join(DEVICES)})")
    options = session_options(threads)
    providers = [(device.provider, device.options(threads))] if _built_in(device) else None
    plugged = [] if providers else _plugin_devices(name, device)
    if device.wheel:  # the whole network or nothing: a node that it lacks would go to the CPU in silence
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    before = _identity(path)
    try:
        if plugged:
            options.add_provider_for_devices(plugged[:1], device.options(threads))
        # alone and without a fallback: onnxruntime would go on with the next provider, after a warning
        source = _mapped(path, options) if name == "cpu" else path
        session = onnxruntime.InferenceSession(source, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's own classes share no base but this
        problem = " ".join(str(error).split())[:200]
        if name == "cpu":
            raise ModelError(f"{path}: onnxruntime cannot load it: {problem} (export it again)") from error
        raise DeviceError(f"device {name}: cannot load {path}: {problem} (petinfer runs with --device cpu)") from error
    _sessions.add(session)
    if _identity(path) != before:
        raise ModelError(f"{path}: was replaced while it was loaded (load it again)")
    if session.get_providers()[0] != device.provider:
        problem = f"{device.provider} did not start, its driver or library is missing"
        raise DeviceError(f"device {name}: {problem} (petinfer runs with --device cpu)")
    return session


def _mapped(path: Path, options: onnxruntime.SessionOptions) -> bytes | Path:
    """What to give to onnxruntime so that it maps the weights; the path itself where the file is no ONNX message."""
    target = path.resolve()  # onnxruntime takes no weights from beyond a symbolic link
    try:
        message = without_weights(target)
    except (OSError, ValueError, IndexError):
        return path  # onnxruntime says what is wrong
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(target.parent))
    return message


def _identity(path: Path) -> tuple[int, int, int]:
    """What changes with a file's content: where weights lie is read before onnxruntime maps them."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """What every session is told."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised; onnxruntime would print it too
    for name, value in _spinning().items():
        options.add_session_config_entry(f"session.intra_op.{name}", value)
    options.add_session_config_entry("session.prepack.enable_parallel", "1")
    return options


def _spinning() -> dict[str, str]:
    """How long a thread looks for the next layer's work before it sleeps: 20 us, which bridge two layers.

    Left to itself it spins for milliseconds, and takes a core from its host program. Before 1.26, onnxruntime spins so or
    not at all.
    """
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    return {"allow_spinning": "1", "spin_duration_us": "20"} if version >= (1, 26) else {"allow_spinning": "0"}


def _built_in(device: Device) -> bool:
    return device.provider in _BUILT_IN


def _plugin_installed(device: Device) -> bool:
    return bool(device.wheel) and importlib.util.find_spec(device.wheel.replace("-", "_")) is not None


def _plugin_devices(name: str, device: Device) -> list[onnxruntime.OrtEpDevice]:
    """What the plug-in finds on this machine, once its library is loaded into onnxruntime."""
    if not _plugin_installed(device):
        raise DeviceError(f"device {name}: {_absent(device)}")
    try:
        with _REGISTERING:
            if not _found_by(device):
                plugin = import_module(device.wheel.replace("-", "_"))
                onnxruntime.register_execution_provider_library(device.provider, plugin.get_library_path())
            found = _found_by(device)
    except Exception as error:  # onnxruntime's own classes share no base but this, and an old one lacks the function
        problem = " ".join(str(error).split())[:200]
        remedy = f"pip install --upgrade onnxruntime {device.wheel}"
        raise DeviceError(f"device {name}: {device.wheel} cannot be loaded: {problem} ({remedy})") from error
    if not found:
        raise DeviceError(f"device {name}: {device.wheel} finds none on this machine (petinfer runs with --device cpu)")
    return found


def _found_by(device: Device) -> list[onnxruntime.OrtEpDevice]:
    return [each for each in onnxruntime.get_ep_devices() if each.ep_name == device.provider]


def _absent(device: Device) -> str:
    has = f"it has {', '.join(sorted(_BUILT_IN))}"
    remedy = f"pip install {device.wheel}" if device.wheel else has
    return f"this onnxruntime has no {device.provider} ({remedy})"
