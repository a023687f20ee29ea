"""Measures megabytes on disk: petinfer with its dependencies and its model, and the training stack.

usage: python -m benchmarks.installed_size RUN PHOTOS
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from .conversions import Conversions
from .measurement import Findings, Named, Setting, make_row
from .question import command

QUESTION = "installed size"
RUNTIME = ("petinfer",)
TRAINING = ("fastai", "torchvision")

# Parts of a Linux wheel of torch that only GPUs need; the wheels for CPUs do not have them.
_CUDA_DISTRIBUTIONS = re.compile(r"nvidia-|cuda-|triton$")
_CUDA_FILES = re.compile(r"cuda|nvshmem|nvrtc|cudnn|cupti")


def ask(conversions: Conversions, _: int) -> Findings:
    """Add up the files of each package and of everything it requires."""
    runtime, training = with_requirements(RUNTIME), with_requirements(TRAINING)
    model = (conversions.run / "onnx" / "model-int8.onnx").stat().st_size
    bundled = sum(path.stat().st_size for each in runtime for path in files_of(each) if path.suffix == ".onnx")
    sizes = {
        "fastai and torch": total(training),
        "fastai and torch, without CUDA": total(without_cuda(training), is_for_cpus),
        "petinfer with its model": total(runtime) - bundled + model,
    }
    contenders = [Named(name, "") for name in sizes]
    megabytes = {each.title: [sizes[each.name] / 1e6] for each in contenders}
    pairs = [(each, contenders[0]) for each in contenders] + [(contenders[2], contenders[1])]
    return Findings([make_row(Setting(QUESTION, 0, unit="MB"), each, other, megabytes) for each, other in pairs])


def with_requirements(names: Iterable[str]) -> list[Distribution]:
    """The distributions and everything they require on this machine, without extras that are not requested."""
    waiting, found = [Requirement(name) for name in names], {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        key = (wanted.name.lower().replace("_", "-"), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            found[key[0]] = installed = distribution(wanted.name)
        except PackageNotFoundError:  # a requirement of another platform
            continue
        waiting += [each for each in map(Requirement, installed.requires or []) if applies(each, wanted.extras)]
    return list(found.values())


def applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Whether a requirement applies on this machine, for a distribution requested with these extras."""
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def files_of(installed: Distribution) -> list[Path]:
    """The existing files of a distribution; for an editable installation, those of the package's folder."""
    listed = [Path(str(installed.locate_file(file))) for file in installed.files or []]
    if "direct_url.json" in {path.name for path in listed} and not any(path.suffix == ".py" for path in listed):
        name = installed.metadata["Name"]
        origin = Path(__import__(name).__file__ or "").parent
        listed += [path for path in origin.rglob("*") if "__pycache__" not in path.parts]
    return [path for path in listed if path.is_file()]


def total(distributions: Iterable[Distribution], keep: Callable[[Path], bool] = lambda _: True) -> int:
    """The number of bytes of all their files."""
    return sum(path.stat().st_size for path in {p for each in distributions for p in files_of(each)} if keep(path))


def without_cuda(distributions: Iterable[Distribution]) -> list[Distribution]:
    """The distributions that a CPU needs."""
    return [each for each in distributions if not _CUDA_DISTRIBUTIONS.match(each.metadata["Name"].lower())]


def is_for_cpus(path: Path) -> bool:
    """Whether a file is anything but a library for GPUs."""
    return not (".so" in path.name and _CUDA_FILES.search(path.name))


main = command(ask, "count", 1, "Unused: nothing is repeated.")

if __name__ == "__main__":
    main()
