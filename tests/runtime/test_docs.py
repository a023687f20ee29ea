"""The pages in docs/, and what the repository's other files repeat, agree with the code."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import petinfer
from petinfer.cli import main

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def make_api() -> ModuleType:
    """docs/make_api.py, which is not in a package."""
    spec = importlib.util.spec_from_file_location("make_api", DOCS / "make_api.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_and_parameter_is_documented(make_api: ModuleType) -> None:
    assert make_api.undocumented() == []


def test_the_api_page_is_current(make_api: ModuleType) -> None:
    assert (DOCS / "api.md").read_text(encoding="utf-8") == make_api.page()  # if not: python docs/make_api.py


def test_an_undocumented_parameter_is_found(make_api: ModuleType) -> None:
    def resize(photo: str, size: int) -> None:
        """Resize a photo."""

    assert make_api.undocumented_parameters("resize", resize) == ["resize(photo)", "resize(size)"]


def test_the_diagram_names_only_files_that_exist() -> None:
    diagram = (DOCS / "how-it-works.svg").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w/]+\.py", diagram))
    assert {"image.py", "classifier.py", "spec.py"} <= named
    assert {name for name in named if not (REPOSITORY / "petinfer" / name).is_file()} == set()


def test_every_option_that_chooses_or_writes_photos_is_documented() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    described_by_help = {"model", "device", "threads", "upright", "stored", "fast_decode", "max_bytes", "max_pixels"}
    parameters = main.commands["classify"].params
    options = {each.name: each.opts[-1] for each in parameters if each.opts[0].startswith("-")}
    assert described_by_help < set(options)
    assert [name for key, name in options.items() if key not in described_by_help and f"`{name}" not in page] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/how-it-works.md"])
def test_files_named_in_code_font_exist(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:petinfer|train|export|docs|tests|benchmarks)/[\w./-]*)`", text))
    assert {name for name in named if not (REPOSITORY / name).exists()} == set()


def test_the_version_is_the_changelogs_top_entry() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.M)[0] == petinfer.__version__


def test_the_workflow_tests_the_lowest_versions_of_pyproject() -> None:
    workflow = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    lowest = re.search(r"LOWEST: (.*)", workflow)
    assert lowest
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = {requirement.replace(">=", "==") + ".*" for requirement in project["dependencies"]}
    assert set(lowest[1].split()) == expected
    assert f'"{project["requires-python"].removeprefix(">=")}"' in workflow
