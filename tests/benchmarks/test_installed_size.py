"""The installed size of packages with everything they require."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

from benchmarks import installed_size


def test_installed_size_includes_what_is_required_and_no_more() -> None:
    names = {each.metadata["Name"].lower() for each in installed_size.with_requirements(["petinfer"])}
    assert names >= {"petinfer", "numpy", "pillow", "onnxruntime", "click"}
    assert names & {"torch", "fastai", "pytest"} == set()


def test_a_distribution_is_as_large_as_its_files() -> None:
    click = distribution("click")
    expected = sum(Path(str(click.locate_file(file))).stat().st_size for file in click.files or [])
    assert installed_size.total([click]) == expected > 100_000


def test_libraries_for_gpus_are_recognised_by_name() -> None:
    names = ("libtorch_cpu.so", "libtorch_cuda.so", "cuda.py")
    assert [name for name in names if installed_size.is_for_cpus(Path(name))] == ["libtorch_cpu.so", "cuda.py"]
