"""Describes what a latency depends on: processor, load, device, model and versions."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import PIL

from .. import __version__
from ..classifier import Classifier
from ..session.model_file import digest

_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm", "sve")


def describe(classifier: Classifier) -> dict[str, Any]:
    """All of that for one classifier, as plain values for JSON."""
    return {
        "processor": processor_name(),
        "flags": processor_flags(),
        "governor": governor(),
        "load": load(),
        "provider": classifier.provider,
        "threads": classifier.threads,
        "precision": classifier.spec.precision,
        "decode": classifier.decode,
        "model": str(classifier.path),
        "digest": digest(classifier.path, classifier.spec.sha256),
        "score": classifier.spec.score,
        "versions": {
            "petinfer": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }


def processor_name() -> str:
    """The processor's name as the system reports it."""
    return _cpuinfo("model name") or _cpuinfo("Model") or platform.processor() or platform.machine()


def processor_flags() -> list[str]:
    """The instruction sets of this processor that make int8 fast."""
    has = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return [flag for flag in _FLAGS if flag in has]


def governor() -> str | None:
    """Linux's frequency governor, such as ``powersave``; None where there is none."""
    try:
        path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def load() -> float | None:
    """The average number of running processes in the last minute; None on Windows."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def peak_memory_mb() -> float | None:
    """The process's peak resident memory, MB; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3))


def _cpuinfo(entry: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split("\t")[0].strip() == entry), "")
