"""Devices: what is there, what was asked for and is not, and plug-ins that bring none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from petinfer import Classifier, DeviceError, ModelError
from petinfer.device import AUTO, DEVICES, available_devices, session_options


@pytest.mark.parametrize("threads", [0, -1, 4096])
def test_threads_that_cannot_be_had_are_told(threads: int) -> None:
    with pytest.raises(DeviceError, match=rf"threads: {threads} cannot be had, this process may use \d+"):
        Classifier(threads=threads)


def test_an_unknown_device_is_told() -> None:
    with pytest.raises(DeviceError, match="device abacus: unknown"):
        Classifier(device="abacus")


def test_a_device_that_is_not_there_is_told_and_nothing_falls_back() -> None:
    for device in set(DEVICES) - set(available_devices()):
        with pytest.raises(DeviceError, match=f"device {device}: this onnxruntime has no {DEVICES[device].provider}"):
            Classifier(device=device)


def test_auto_ends_on_the_processor_where_there_is_nothing_else() -> None:
    assert available_devices() == ["cpu"]
    assert Classifier(device="auto").provider == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("version", "microseconds"), [("1.22.0", None), ("1.25.1", None), ("1.26.0", "20"), ("2.0.0", "20")]
)
def test_a_thread_that_waits_spins_for_a_moment_or_not_at_all(
    version: str, microseconds: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where onnxruntime does not know the moment, it would spin for a millisecond."""
    monkeypatch.setattr("onnxruntime.__version__", version)
    expected = {"allow_spinning": "1", "spin_duration_us": microseconds} if microseconds else {"allow_spinning": "0"}
    options = session_options(2)
    assert {name: options.get_session_config_entry(f"session.intra_op.{name}") for name in expected} == expected


def test_auto_tries_devices_that_are_known_and_the_processor_last() -> None:
    assert set(AUTO) <= set(DEVICES)
    assert AUTO[-1] == "cpu"


@pytest.fixture(autouse=True)
def forget_plug_ins() -> Iterator[None]:
    """A package that a test made is not there for the next."""
    yield
    for name in [name for name in sys.modules if name.startswith("onnxruntime_ep")]:
        del sys.modules[name]


def test_a_plug_in_whose_library_is_damaged_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "onnxruntime_ep_webgpu"
    package.mkdir()
    (package / "__init__.py").write_text(f"def get_library_path():\n    return {str(package / 'library.so')!r}\n")
    (package / "library.so").write_bytes(b"no library")
    monkeypatch.syspath_prepend(tmp_path)
    assert available_devices() == ["webgpu", "cpu"]
    with pytest.raises(DeviceError, match="device webgpu: onnxruntime-ep-webgpu cannot be loaded: "):
        Classifier(device="webgpu")


def test_auto_passes_over_a_plug_in_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "onnxruntime_ep_openvino"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('libtbb.so.12: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert Classifier(device="auto").provider == "CPUExecutionProvider"
    with pytest.raises(DeviceError, match="onnxruntime-ep-openvino cannot be loaded: libtbb"):
        Classifier(device="openvino")


def test_a_damaged_model_is_told_on_every_device(tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    for device in ("auto", "cpu"):
        with pytest.raises(ModelError, match=r"damaged\.onnx: onnxruntime cannot load it"):
            Classifier(tmp_path / "damaged.onnx", device)
