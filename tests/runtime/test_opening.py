"""How sessions are opened: from which source, with which options, and what is said where that fails."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest

from petinfer import Classifier, DeviceError, ModelError
from petinfer.classifier import BUNDLED_MODEL
from petinfer.session.devices import DEVICES, Device, built_in_providers, plugin_devices
from petinfer.session.opening import _open_on_device, session_key, session_options

from .test_graph import NODE, SOUND, model, node

WHEEL = "onnxruntime-ep-mine"
needs_plug_ins = pytest.mark.skipif(not hasattr(onnxruntime, "get_ep_devices"), reason="onnxruntime 1.23 or newer")


@pytest.fixture(autouse=True)
def forget_plug_ins() -> Iterator[None]:
    """A package that a test made is not there for the next."""
    yield
    for name in [name for name in sys.modules if name.startswith("onnxruntime_ep")]:
        del sys.modules[name]


def plug_in(folder: Path, content: str, wheel: str = WHEEL) -> None:
    """An installed plug-in whose package has this content."""
    package = folder / wheel.replace("-", "_")
    package.mkdir()
    (package / "__init__.py").write_text(content)


def test_the_weights_of_a_session_on_the_cpu_are_mapped(tmp_path: Path) -> None:
    def folder(path: Path) -> str:
        options = Classifier(path, "cpu").session.get_session_options()
        return options.get_session_config_entry("session.model_external_initializers_file_folder_path")

    assert folder(BUNDLED_MODEL) == str(BUNDLED_MODEL.resolve().parent)
    if sys.platform != "win32":
        (tmp_path / "link.onnx").symlink_to(BUNDLED_MODEL)
        assert folder(tmp_path / "link.onnx") == str(BUNDLED_MODEL.resolve().parent)


def test_lite_is_the_name_of_the_small_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lite").write_bytes(BUNDLED_MODEL.read_bytes())
    assert session_key("lite").path == BUNDLED_MODEL.parent / "pets-lite-int8.onnx"
    for file in ("./lite", Path("lite"), tmp_path / "lite"):
        assert session_key(file).path == Path(file)


def test_every_session_has_its_threads_and_prints_no_errors() -> None:
    options = session_options(1)
    assert (options.intra_op_num_threads, options.log_severity_level) == (1, 4)
    assert options.get_session_config_entry("session.prepack.enable_parallel") == "1"


def test_a_graph_that_onnxruntime_refuses_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.onnx"
    path.write_bytes(model([*SOUND, (NODE, node("Relu", inputs="nowhere" * 60, outputs="y"))]))
    with pytest.raises(ModelError) as refused:
        Classifier(path, "cpu")
    start, end = f"{path}: onnxruntime cannot load it: ", " (export it again)"
    message = str(refused.value)
    assert message.startswith(start + "[ONNXRuntimeError]") and message.endswith(end)
    assert len(message) == len(start) + 200 + len(end) and "\n" not in message


def test_a_device_may_leave_nothing_to_the_cpu() -> None:
    """onnxruntime refuses the CPU itself, when it may not be fallen back on."""
    with pytest.raises(DeviceError) as refused:
        _open_on_device(session_key(BUNDLED_MODEL, "cpu", 1), "mine", Device("CPUExecutionProvider"))
    message = str(refused.value)
    assert message.startswith(f"device mine: cannot load {BUNDLED_MODEL}: [ONNXRuntimeError]")
    assert "disabled fallback to the CPU EP" in message and message.endswith(' (use device="cpu")')


@needs_plug_ins
def test_a_plug_in_that_cannot_be_imported_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, f"raise OSError('libtbb.so:\\n  not   there, ' + {'x' * 300!r})")
    monkeypatch.syspath_prepend(tmp_path)
    remedy = f"check the device's driver, then pip install --upgrade onnxruntime {WHEEL}"
    problem = ("libtbb.so: not there, " + "x" * 300)[:200]
    with pytest.raises(DeviceError) as refused:
        plugin_devices("mine", Device("MineExecutionProvider", WHEEL))
    assert str(refused.value) == f"device mine: {WHEEL} cannot be loaded: {problem} ({remedy})"


@needs_plug_ins
def test_a_library_that_is_none_is_named_by_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, "def get_library_path():\n    return '/nowhere/mine.so'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeviceError, match=f"^device mine: {WHEEL} cannot be loaded: .*load library /nowhere/mine.so"):
        plugin_devices("mine", Device("MineExecutionProvider", WHEEL))


@needs_plug_ins
def test_a_provider_that_is_loaded_is_not_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, "raise OSError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    found = plugin_devices("mine", Device("CPUExecutionProvider", WHEEL))
    assert found and {each.ep_name for each in found} == {"CPUExecutionProvider"}


def test_a_device_that_is_not_installed_names_its_wheel_or_what_is_there() -> None:
    missing = "this onnxruntime has no MineExecutionProvider"
    with pytest.raises(DeviceError) as refused:
        plugin_devices("mine", Device("MineExecutionProvider", WHEEL))
    assert str(refused.value) == f"device mine: {missing} (pip install {WHEEL})"
    with pytest.raises(DeviceError) as refused:
        plugin_devices("mine", Device("MineExecutionProvider"))
    assert str(refused.value) == f"device mine: {missing} (it has {', '.join(sorted(built_in_providers()))})"


@needs_plug_ins
def test_auto_logs_why_it_skips_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wheel = "onnxruntime-ep-openvino"
    plug_in(tmp_path, "raise OSError('libtbb.so.12')", wheel)
    monkeypatch.syspath_prepend(tmp_path)
    with caplog.at_level(logging.WARNING, "petinfer"):
        assert Classifier(device="auto").provider == "CPUExecutionProvider"
    (message,) = caplog.messages
    skipped = f"device openvino: {wheel} cannot be loaded: libtbb.so.12 ("
    assert message.startswith(f"auto goes on to the next device, after {skipped}")


def test_devices_keep_fp32_and_their_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engines = str(tmp_path / "petinfer")
    openvino = (
        '{"CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "3"}, '
        '"GPU": {"INFERENCE_PRECISION_HINT": "f32"}}'
    )
    expected = {
        "cuda": {"use_tf32": "0"},
        "tensorrt-rtx": {"nv_runtime_cache_path": engines},
        "tensorrt": {"trt_engine_cache_enable": "1", "trt_engine_cache_path": engines},
        "openvino": {"load_config": openvino},
    }
    assert {name: device.options(3) for name, device in DEVICES.items() if device.options(3)} == expected
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert DEVICES["tensorrt-rtx"].options(1) == {"nv_runtime_cache_path": str(tmp_path / ".cache" / "petinfer")}
