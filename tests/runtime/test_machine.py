"""What a measurement says of the machine: as the system reports it, and where it reports nothing."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import PIL
import pytest

from petinfer import Classifier, __version__
from petinfer.bench.machine import (
    describe,
    governor,
    load,
    peak_memory_mb,
    processor_flags,
    processor_name,
)
from petinfer.session.model_file import digest

from .several_labels import colours_model

CPUINFO = Path("/proc/cpuinfo")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def test_the_description_is_of_the_classifier_and_the_packages(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = colours_model(tmp_path / "model.onnx")
    classifier = Classifier(path, threads=1, decode="fast")
    about = describe(classifier)
    assert about.pop("load") == pytest.approx(load(), abs=1)
    assert about == {
        "processor": processor_name(),
        "flags": processor_flags(),
        "governor": governor(),
        "provider": "CPUExecutionProvider",
        "threads": 1,
        "precision": "fp32",
        "decode": "fast",
        "model": str(path),
        "digest": digest(path, classifier.spec.sha256),
        "score": {},
        "versions": {
            "petinfer": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }


@pytest.mark.skipif(not CPUINFO.exists(), reason="needs Linux's /proc/cpuinfo")
def test_the_processor_and_its_instruction_sets_are_those_of_linux() -> None:
    entries = dict(re.findall(r"^([^\t:]+)\s*:[ ]*(.*?)\s*$", CPUINFO.read_text().partition("\n\n")[0], re.MULTILINE))
    name = entries.get("model name") or entries.get("Model") or platform.processor() or platform.machine()
    known = ["avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm", "sve"]
    has = (entries.get("flags") or entries.get("Features") or "").split()
    assert (processor_name(), processor_flags()) == (name, [flag for flag in known if flag in has])


def without_system_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_text(path: Path, **options: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "read_text", read_text)


def test_a_system_without_such_files_names_the_processor_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    without_system_files(monkeypatch)
    monkeypatch.setattr(platform, "processor", lambda: "i386")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert (processor_name(), processor_flags(), governor()) == ("i386", [], None)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert processor_name() == "x86_64"


RASPBERRY = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes asimddp
Model name\t: of something else

Revision\t: c04170
Model\t\t: Raspberry Pi 5 Model B Rev 1.0: 4 GB
"""


@pytest.mark.parametrize(
    ("content", "name", "flags"),
    [
        (RASPBERRY, "Raspberry Pi 5 Model B Rev 1.0: 4 GB", ["asimddp"]),
        ("model name\t: Xeon\nflags\t\t: sse amx_int8 avx2\n", "Xeon", ["avx2", "amx_int8"]),
        ("flags\t\t: avx_vnni avx512_vnni avx512f\n", "chip", ["avx512f", "avx_vnni", "avx512_vnni"]),
        ("Features\t: sve i8mm svebf16\n", "chip", ["i8mm", "sve"]),
    ],
)
def test_each_kind_of_processor_has_its_entries(
    content: str, name: str, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's file with the content that it has on other machines."""
    texts = {CPUINFO: content, GOVERNOR: "powersave\n"}
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: texts[path].encode().decode(encoding))
    monkeypatch.setattr(platform, "processor", lambda: "chip")
    assert (processor_name(), processor_flags(), governor()) == (name, flags, "powersave")


def test_the_load_is_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.26, 5.0, 9.0), raising=False)
    assert load() == 1.3
    monkeypatch.delattr(os, "getloadavg")
    assert load() is None


def test_the_peak_memory_is_in_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux counts in kilobytes, macOS in bytes."""
    resource = pytest.importorskip("resource")
    for system, counted, megabytes in (("linux", 999_600, 1000), ("darwin", 10**12, 1_000_000)):
        usage = resource.struct_rusage((0, 0, counted, *[0] * 13))
        monkeypatch.setattr(resource, "getrusage", lambda who, usage=usage: usage)
        monkeypatch.setattr(sys, "platform", system)
        assert peak_memory_mb() == megabytes
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_memory_mb() is None
