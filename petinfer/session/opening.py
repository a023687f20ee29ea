"""Opens onnxruntime sessions, in the background: onnxruntime releases the interpreter while it loads a model."""

from __future__ import annotations

import os
import re
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DeviceError, ModelError
from .devices import AUTO, Device, available_devices, find_device, is_built_in, library_problem, plugin_devices
from .graph import check_graph
from .model_file import Identity, identity, strip_weights
from .pruning import without_output
from .threads import thread_count

if TYPE_CHECKING:
    import onnxruntime

_MODELS = Path(__file__).parent.parent / "models"
BUNDLED_MODEL = _MODELS / "pets-int8.onnx"
BUNDLED_BY_NAME = {"lite": _MODELS / "pets-lite-int8.onnx"}


class SessionKey(NamedTuple):
    """What decides which session is opened."""

    path: Path
    file: Identity
    """The file's identity when the key was made: a replaced file is another model."""
    device: str
    threads: int
    heat: bool = False
    """Whether the session computes heat maps; of a file with them, a session without is faster."""


def model_path(model: str | os.PathLike[str] | None) -> Path:
    """The file that a Classifier's argument names: a key of `BUNDLED_BY_NAME`, a path, or None for the bundled model.

    Only the bare text is a name: ``"./lite"`` and ``Path("lite")`` are files.
    """
    if model is None:
        return BUNDLED_MODEL
    named = BUNDLED_BY_NAME.get(model) if isinstance(model, str) else None
    return named or Path(model)


def session_key(
    model: str | os.PathLike[str] | None = None, device: str = "auto", threads: int | None = None
) -> SessionKey:
    """The key for a `Classifier`'s arguments.

    Raises:
        ModelError: there is no such file.
        DeviceError: fewer threads are available.
    """
    path = model_path(model)
    return SessionKey(path, identity(path), device, thread_count(threads))


class SessionFuture(threading.Thread):
    """A session that is being opened by a thread of its own."""

    def __init__(self, key: SessionKey) -> None:
        # Here, not in the thread: it imports numpy, which fails if two threads import it at the same time.
        import onnxruntime  # noqa: F401

        super().__init__()
        self.key, self.pid = key, os.getpid()
        self._session: onnxruntime.InferenceSession | None = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Open the session."""
        try:
            self._session = open_session(self.key)
        except BaseException as error:
            self._error = error

    def result(self) -> onnxruntime.InferenceSession:
        """Wait for the session. Raises what `open_session` raises."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._session


_opened_early: dict[SessionKey, SessionFuture] = {}


def open_early() -> None:
    """Start to open the session of a `Classifier` without arguments. If no such Classifier is made, only time is lost."""
    key = session_key()
    _opened_early[key] = SessionFuture(key)


def open_in_background(key: SessionKey) -> SessionFuture:
    """The session that `open_early` started for the same key, or else a new one."""
    return _opened_early.pop(key, None) or SessionFuture(key)


def open_session(key: SessionKey) -> onnxruntime.InferenceSession:
    """Open a session on the key's device; on ``auto``, on the first of `AUTO` that works.

    Raises:
        ModelError: the file's graph is refused, the CPU cannot load it, or it was replaced since the key was made.
        DeviceError: the device is unknown, not installed, or cannot run the whole model.
    """
    if sys.platform == "win32":  # where ORT_DISABLE_TELEMETRY has no effect
        import onnxruntime

        onnxruntime.disable_telemetry_events()
    check_graph(key.path)
    session = _open_first(key) if key.device == "auto" else _open(key, key.device)
    _sessions.add(session)
    if identity(key.path) != key.file:
        raise ModelError(f"{key.path}: was replaced while it was loaded (load it again)")
    return session


def _open_first(key: SessionKey) -> onnxruntime.InferenceSession:
    installed = available_devices()
    for name in AUTO[:-1]:
        if name in installed:
            try:
                return _open(key, name)
            except DeviceError as error:
                _log("auto goes on to the next device, after %s", error)
    return _open(key, AUTO[-1])


def _open(key: SessionKey, name: str) -> onnxruntime.InferenceSession:
    device = find_device(name)
    session = _open_on_cpu(key) if name == "cpu" else _open_on_device(key, name, device)
    if session.get_providers()[0] != device.provider:
        problem = f"{device.provider} did not start, because its driver or a library is missing"
        raise DeviceError(f'device {name}: {problem} (use device="cpu")')
    return session


def _open_on_device(key: SessionKey, name: str, device: Device) -> onnxruntime.InferenceSession:
    """The whole network on the device or an error: by default, onnxruntime moves single nodes or all to the CPU."""
    import onnxruntime

    options = session_options(key.threads)
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    providers = [(device.provider, device.options(key.threads))] if is_built_in(device) else None
    plugged = [] if providers else plugin_devices(name, device)
    missing = library_problem(device) if providers else ""
    try:
        if plugged:
            if len(plugged) > 1:
                _log("device %s: took the first of %d", name, len(plugged))
            options.add_provider_for_devices(plugged[:1], device.options(key.threads))
        with _without_red_lines() if missing else nullcontext():
            return onnxruntime.InferenceSession(key.path, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's own classes share no base but this
        problem = missing or f"cannot load {key.path}: {_one_line(error)}"
        remedy = 'install what is missing, or use device="cpu"' if missing else 'use device="cpu"'
        raise DeviceError(f"device {name}: {problem} ({remedy})") from error


@contextmanager
def _without_red_lines() -> Iterator[None]:
    """Keep onnxruntime from printing what the error will say; afterwards its default logger prints warnings as before."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(2)


def _open_on_cpu(key: SessionKey) -> onnxruntime.InferenceSession:
    """Map the weights where that works. Without /proc, or with an odd path, it does not: then read the file."""
    import onnxruntime

    for source in (_mapped_weights, _whole_file, _file_bytes):
        options = session_options(key.threads)
        try:
            model = source(key, options)
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        except Exception as error:  # onnxruntime's own classes share no base but this
            problem = error
    raise ModelError(f"{key.path}: onnxruntime cannot load it: {_one_line(problem)} (export it again)") from problem


def _mapped_weights(key: SessionKey, options: onnxruntime.SessionOptions) -> bytes:
    target = key.path.resolve()  # onnxruntime refuses external data behind a symbolic link
    message = strip_weights(target)
    if not key.heat:
        message = without_output(message, "heat")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(target.parent))
    return message


def _whole_file(key: SessionKey, options: onnxruntime.SessionOptions) -> Path:
    return key.path


def _file_bytes(key: SessionKey, options: onnxruntime.SessionOptions) -> bytes:
    return key.path.read_bytes()


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """The options that every session has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised; onnxruntime would print them too
    for name, value in _spinning(onnxruntime.__version__).items():
        options.add_session_config_entry(f"session.intra_op.{name}", value)
    options.add_session_config_entry("session.prepack.enable_parallel", "1")
    return options


def _spinning(version: str) -> dict[str, str]:
    """How long a thread polls for the next layer's work before it sleeps: 20 µs, enough between two layers.

    By default it polls for milliseconds and keeps a core busy. Before 1.26, onnxruntime polls that long or not at all.
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)  # of "1.30rc1" too
    known = numbers is not None and (int(numbers[1]), int(numbers[2])) >= (1, 26)
    return {"allow_spinning": "1", "spin_duration_us": "20"} if known else {"allow_spinning": "0"}


def _log(message: str, *values: object) -> None:
    """A warning of the logger ``petinfer``; importing logging earlier would delay every start by milliseconds."""
    import logging

    logging.getLogger("petinfer").warning(message, *values)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


_sessions: weakref.WeakSet[Any] = weakref.WeakSet()


def _load_ctypes() -> None:
    """Import before a fork what the child needs: an import in the child could wait for a lock that nobody holds."""
    if _sessions:
        import ctypes  # noqa: F401


def _keep_sessions_of_parent() -> None:
    """In a forked child, make the parent's sessions immortal.

    A session's destructor joins its pool's threads, and a fork copies only the thread that forks: the child would hang
    when it drops the session, at the latest when it exits.
    """
    if _sessions:
        import ctypes

        for session in _sessions:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(before=_load_ctypes, after_in_child=_keep_sessions_of_parent)
