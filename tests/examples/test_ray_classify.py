"""Ray Data with two workers: the answers of ``petinfer classify``, each once, also where a run was stopped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import REPOSITORY

ray = pytest.importorskip("ray", reason="pip install -r examples/requirements.txt")
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from examples.ray_classify import classify  # noqa: E402

pytestmark = pytest.mark.slow  # Ray takes half a minute to start and to stop


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    """Workers find petinfer and the example in the repository; on other machines, both are installed."""
    variables = {
        "PYTHONPATH": str(REPOSITORY),
        "RAY_worker_niceness": "0",  # at Ray's 15, a busy machine starves them
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        ray.init(num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False)
        yield
        ray.shutdown()


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    folder = tmp_path / "photos"
    shutil.copytree(REPOSITORY / "petinfer" / "golden", folder)
    (folder / "broken.jpg").write_bytes(b"not a photo")
    return [str(path) for path in sorted(folder.iterdir())]


def classified(photos: list[str]) -> list[dict[str, Any]]:
    """The rows that the command line's answers make."""
    command = [sys.executable, "-m", "petinfer", "classify", "--jsonl", *photos]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout.splitlines()
    empty = dict.fromkeys(("path", "label", "probability", "cat", "dog", "error"))
    records = [json.loads(line) for line in lines]
    rows = [empty | record | record.get("probabilities", {}) for record in records]
    return [{name: row[name] for name in empty} for row in rows]


def by_path(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["path"]))


def test_answers_are_those_of_classify_also_if_a_run_is_stopped(photos: list[str], tmp_path: Path) -> None:
    paths, folder = tmp_path / "paths.parquet", tmp_path / "answers"
    pq.write_table(pa.table({"path": photos[::2]}), paths)
    first_errors = classify(paths, folder, workers=2, photos_per_file=3)
    first = {file: file.read_bytes() for file in folder.iterdir()}
    (folder / ".stopped.parquet").write_bytes(b"half a file")

    pq.write_table(pa.table({"path": photos}), paths)
    errors = first_errors + classify(paths, folder, workers=2, photos_per_file=3)
    assert (errors, classify(paths, folder, workers=2)) == (1, 0)
    assert {file: file.read_bytes() for file in first} == first
    assert by_path(pq.read_table(folder).to_pylist()) == by_path(classified(photos))
