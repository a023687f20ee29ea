"""Megabytes on disk: petinfer with its dependencies and its model, beside the training stack.

usage: python -m benchmarks.installed_size RUN PHOTOS
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from .conversions import Conversions
from .measurement import Contender, Findings, row_of
from .question import command

QUESTION = "installed size"
RUNTIME = ("petinfer",)
TRAINING = ("fastai", "torchvision")

# What a Linux wheel of torch brings for GPUs, and the wheels for processors alone do not.
_CUDA_DISTRIBUTIONS = re.compile(r"nvidia-|cuda-|triton$")
_CUDA_FILES = re.compile(r"cuda|nvshmem|nvrtc|cudnn|cupti")


def ask(forms: Conversions, _: int) -> Findings:
    """Sum the files of the distributions, by their Requires-Dist."""
    runtime, training = with_requirements(RUNTIME), with_requirements(TRAINING)
    model = (forms.run / "onnx" / "model-int8.onnx").stat().st_size
    bundled = sum(path.stat().st_size for each in runtime for path in files_of(each) if path.suffix == ".onnx")
    sizes = {
        "fastai and torch": total(training),
        "fastai and torch, without CUDA": total(without_cuda(training), is_for_processors),
        "petinfer with its model": total(runtime) - bundled + model,
    }
    findings = Findings()
    contenders = [Contender(name, "", lambda _: None) for name in sizes]
    megabytes = {each.title: [sizes[each.name] / 1e6] for each in contenders}
    pairs = [(each, contenders[0]) for each in contenders] + [(contenders[2], contenders[1])]
    findings.rows = [row_of(QUESTION, each, other, megabytes, threads=0, unit="MB") for each, other in pairs]
    return findings


def with_requirements(names: Iterable[str]) -> list[Distribution]:
    """The distributions and all that they require on this machine, extras left out unless asked for."""
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
        except PackageNotFoundError:  # an optional part for another platform
            continue
        waiting += [each for each in map(Requirement, installed.requires or []) if applies(each, wanted.extras)]
    return list(found.values())


def applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Whether a requirement holds here, of a distribution that was asked for with these extras."""
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def files_of(installed: Distribution) -> list[Path]:
    """The files of a distribution that are there; of one installed for development, the package's folder."""
    listed = [Path(str(installed.locate_file(file))) for file in installed.files or []]
    if "direct_url.json" in {path.name for path in listed} and not any(path.suffix == ".py" for path in listed):
        name = installed.metadata["Name"]
        origin = Path(__import__(name).__file__ or "").parent
        listed += [path for path in origin.rglob("*") if "__pycache__" not in path.parts]
    return [path for path in listed if path.is_file()]


def total(distributions: Iterable[Distribution], keep: Callable[[Path], bool] = lambda _: True) -> int:
    """Bytes of all their files."""
    return sum(path.stat().st_size for path in {p for each in distributions for p in files_of(each)} if keep(path))


def without_cuda(distributions: Iterable[Distribution]) -> list[Distribution]:
    """Those that a processor needs."""
    return [each for each in distributions if not _CUDA_DISTRIBUTIONS.match(each.metadata["Name"].lower())]


def is_for_processors(path: Path) -> bool:
    """Whether a file is no library for GPUs."""
    return not (".so" in path.name and _CUDA_FILES.search(path.name))


main = command(ask, "count", 1, "Not used: nothing is repeated.")

if __name__ == "__main__":
    main()
