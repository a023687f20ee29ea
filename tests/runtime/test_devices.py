"""Devices: what is there, what was asked for and is not, and plug-ins that bring none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest

from petinfer import Classifier, DeviceError, ModelError
from petinfer.session.devices import AUTO, DEVICES, Device, available_devices, is_built_in, library_problem
from petinfer.session.opening import session_options
from petinfer.session.threads import available_cores, cgroup_quotas

from ..conftest import REPOSITORY


@pytest.mark.parametrize("threads", [0, -1, 4096])
def test_more_threads_than_cores_are_refused(threads: int) -> None:
    with pytest.raises(DeviceError, match=rf"threads: {threads} requested, \d+ available"):
        Classifier(threads=threads)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(DeviceError) as refused:
        Classifier(device="abacus")
    known = "auto, cuda, tensorrt-rtx, tensorrt, openvino, qnn, webgpu, coreml, cpu"
    assert str(refused.value) == f"device: 'abacus' is unknown (use {known})"


def test_a_device_that_is_not_installed_is_refused_without_fallback() -> None:
    for device in set(DEVICES) - set(available_devices()):
        with pytest.raises(DeviceError, match=f"device {device}: this onnxruntime has no {DEVICES[device].provider}"):
            Classifier(device=device)


def test_a_library_that_cannot_be_loaded_says_why() -> None:
    """onnxruntime's own package has the shared part of all providers, and the rest only in its GPU wheels."""
    if sys.platform != "linux" or "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime's CPU wheel on Linux")
    folder = Path(onnxruntime.__file__).parent / "capi"
    absent = f"{folder}/libonnxruntime_providers_cuda.so: cannot open shared object file: No such file or directory"
    assert library_problem(DEVICES["cuda"]) == absent
    assert library_problem(Device("some", library="onnxruntime_providers_shared")) == ""
    assert library_problem(DEVICES["cpu"]) == ""


def test_a_gpu_package_without_a_gpu_is_one_reason_and_no_red_lines() -> None:
    """With onnxruntime-gpu installed, on a machine without CUDA: run by hand."""
    if not (is_built_in(DEVICES["cuda"]) and (problem := library_problem(DEVICES["cuda"]))):
        pytest.skip("needs onnxruntime-gpu without CUDA's libraries")
    command = [sys.executable, "-m", "petinfer", "classify", "docs/chelsea.jpg"]
    auto = subprocess.run(command, capture_output=True, timeout=60, text=True, cwd=REPOSITORY, check=True)
    goes_on = f"auto goes on to the next device, after device cuda: {problem} (install what is missing, or use "
    assert (auto.stdout.split()[0], auto.stderr) == ("cat", f'{goes_on}device="cpu")\n')
    cuda = subprocess.run([*command, "--device", "cuda"], capture_output=True, timeout=60, text=True, cwd=REPOSITORY)
    remedy = "install what is missing, or use --device cpu"
    assert (cuda.returncode, cuda.stderr) == (2, f"Error: device cuda: {problem} ({remedy})\n")


def test_auto_uses_the_cpu_where_nothing_else_is_installed() -> None:
    if set(available_devices()) & set(AUTO) != {"cpu"}:
        pytest.skip(f"other devices are installed here: {available_devices()}")
    assert Classifier(device="auto").provider == "CPUExecutionProvider"


@pytest.mark.parametrize("threads", ["2", 1.5, True])
def test_threads_must_be_an_integer(threads: object) -> None:
    with pytest.raises(ValueError, match=f"threads: {threads!r} is not an integer"):
        Classifier(threads=threads)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "files", "quotas"),
    [
        (["0::/"], {"cpu.max": "max 100000"}, []),
        (["0::/"], {"cpu.max": "250000 100000"}, [2]),
        (["0::/a/b"], {"a/b/cpu.max": "max 100000", "a/cpu.max": "100000 100000"}, [1]),
        (["0::/host/path"], {"cpu.max": "300000 100000"}, [3]),
        (
            ["4:cpu,cpuacct:/a"],
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "150000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            [1],
        ),
        (["4:cpu:/"], {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        (["3:memory:/a"], {"memory/a/cpu.max": "100000 100000"}, []),
    ],
)
def test_cpu_quotas_of_all_groups_above_count(
    lines: list[str], files: dict[str, str], quotas: list[int], tmp_path: Path
) -> None:
    """Control groups of version 2 and 1, of a parent slice, and inside a container that shows the host's path."""
    (tmp_path / "cgroup").write_text("\n".join(lines) + "\n")
    for name, content in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(content + "\n")
    assert cgroup_quotas(tmp_path / "cgroup", tmp_path / "mount") == quotas


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_cores_outside_the_affinity_do_not_count() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cgroup_quotas(tmp_path / "absent", tmp_path) == []
    assert available_cores() >= 1


@pytest.mark.parametrize(
    ("version", "microseconds"),
    [("1.22.0", None), ("1.25.1", None), ("1.26.0", "20"), ("1.30rc1", "20"), ("2.0.0", "20")],
)
def test_threads_spin_for_20_microseconds_or_not_at_all(
    version: str, microseconds: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where onnxruntime does not know the moment, it would spin for a millisecond."""
    monkeypatch.setattr("onnxruntime.__version__", version)
    expected = {"allow_spinning": "1", "spin_duration_us": microseconds} if microseconds else {"allow_spinning": "0"}
    options = session_options(2)
    assert {name: options.get_session_config_entry(f"session.intra_op.{name}") for name in expected} == expected


def test_auto_tries_known_devices_and_the_cpu_last() -> None:
    assert set(AUTO) <= set(DEVICES)
    assert AUTO[-1] == "cpu"


@pytest.fixture(autouse=True)
def forget_plug_ins() -> Iterator[None]:
    """A package that a test made is not there for the next."""
    yield
    for name in [name for name in sys.modules if name.startswith("onnxruntime_ep")]:
        del sys.modules[name]


def test_a_plug_in_with_a_damaged_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "onnxruntime_ep_webgpu"
    package.mkdir()
    (package / "__init__.py").write_text(f"def get_library_path():\n    return {str(package / 'library.so')!r}\n")
    (package / "library.so").write_bytes(b"no library")
    monkeypatch.syspath_prepend(tmp_path)
    assert "webgpu" in available_devices()
    with pytest.raises(DeviceError, match="device webgpu: onnxruntime-ep-webgpu cannot be loaded: "):
        Classifier(device="webgpu")


def test_auto_skips_a_plug_in_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "onnxruntime_ep_openvino"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('libtbb.so.12: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert Classifier(device="auto").provider == "CPUExecutionProvider"
    problem = "libtbb" if hasattr(onnxruntime, "get_ep_devices") else "module 'onnxruntime' has no"  # before 1.23
    with pytest.raises(DeviceError, match=f"onnxruntime-ep-openvino cannot be loaded: {problem}"):
        Classifier(device="openvino")


def test_a_damaged_model_is_refused_on_every_device(tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    for device in ("auto", "cpu"):
        with pytest.raises(ModelError, match=r"damaged\.onnx: not an ONNX model, or damaged"):
            Classifier(tmp_path / "damaged.onnx", device)
