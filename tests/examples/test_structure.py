"""The examples as a whole: short, and with every package that they import in their requirements."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from ..conftest import REPOSITORY
from ..test_package import imports

EXAMPLES = sorted((REPOSITORY / "examples").rglob("*.py"))
PIP_NAMES = {"cv2": "opencv-python", "starlette": "fastapi", "ray": "ray[data]", "pyarrow": "ray[data]"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_has_fewer_than_60_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60


def test_every_import_is_in_the_requirements() -> None:
    lines = (REPOSITORY / "examples" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = {re.split(r"[>\s]", line)[0] for line in lines if not line.startswith("#")}
    names = {name.split(".")[0] for path in EXAMPLES for _, name in imports(path)}
    foreign = names - sys.stdlib_module_names - {"petinfer", "numpy", "PIL"}
    assert {PIP_NAMES.get(name, name.replace("_", "-")) for name in foreign} - listed == set()
