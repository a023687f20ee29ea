"""How many threads a session may compute with."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import DeviceError


def thread_count(requested: int | None) -> int:
    """The number of threads to compute with; None means one per available core.

    Raises:
        ValueError: ``requested`` is not an integer.
        DeviceError: fewer than ``requested`` cores are available.
    """
    available = available_cores()
    if requested is None:
        return available
    if not isinstance(requested, int) or isinstance(requested, bool):
        raise ValueError(f"threads: {requested!r} is not an integer")
    if not 1 <= requested <= available:
        raise DeviceError(f"threads: {requested} requested, {available} available (use 1 to {available})")
    return requested


def available_cores() -> int:
    """The cores this process may use: its CPU affinity, limited by the CPU quotas of its control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *cgroup_quotas()]))


def cgroup_quotas(process: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """The CPU quotas, in whole cores, of a process's control group and of every group above it.

    Args:
        process: the file that lists the groups, a line ``hierarchy:controllers:path`` each.
        mount: where the control groups are mounted, version 2 at the top and version 1 in a folder per controller.
    """
    try:
        lines = process.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    quotas: list[int] = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = mount / controllers if controllers else mount
        folder = top / group.lstrip("/")
        # inside a container, the path is the host's and the top is the container's own group
        for level in (folder, *folder.parents) if folder.is_relative_to(top) and folder.is_dir() else (top,):
            quotas += _quota(level)
            if level == top:
                break
    return quotas


def _quota(group: Path) -> list[int]:
    """The quota that a control group sets, rounded down to whole cores; none where it sets none."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period"))
        return [int(quota) // int(period)] if int(quota) > 0 else []
    except (OSError, ValueError):  # no such file, or no limit ("max")
        return []
