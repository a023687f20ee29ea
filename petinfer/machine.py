"""What a latency depends on beside the model: the processor, how it is driven, what else it does, and the memory."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm", "sve")


def processor_name() -> str:
    """The processor's name as the system gives it."""
    return _cpuinfo("model name") or _cpuinfo("Model") or platform.processor() or platform.machine()


def processor_flags() -> list[str]:
    """Of the instructions that int8 is fast with, those that the processor has."""
    has = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return [flag for flag in _FLAGS if flag in has]


def governor() -> str | None:
    """How Linux drives the processor's frequency, such as ``powersave``; None where it does not tell."""
    try:
        path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def load() -> float | None:
    """Processes that computed in the last minute, on average; None on Windows."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def peak_memory_mb() -> float | None:
    """The largest memory that this process had resident; None on Windows."""
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
