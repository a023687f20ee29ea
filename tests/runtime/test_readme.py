"""README: its first command's output is what it says, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from petinfer.cli import main

from ..conftest import REPOSITORY, cli_runner

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_first_command_prints_what_readme_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    command, printed = re.search(r"\$ pip install \. && petinfer (.*)\n(.*)\n", README).groups()  # type: ignore[union-attr]
    assert cli_runner().invoke(main, command.split()).stdout == printed + "\n"


def test_the_python_of_readme_runs(cat_photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.S).group(1)  # type: ignore[union-attr]
    (tmp_path / "photo.jpg").write_bytes(cat_photo.read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"photos": ["photo.jpg"]}
    exec(code, names)
    assert names["p"].label == "cat"  # type: ignore[attr-defined]


def test_every_link_in_readme_and_docs_leads_somewhere() -> None:
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), (page.name, link)
