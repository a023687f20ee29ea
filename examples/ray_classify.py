"""Classifies photos on many machines with Ray Data: paths in Parquet in, answers in Parquet out.

python examples/ray_classify.py paths.parquet answers/ --workers 2     # a run that was stopped goes on when started again

``paths.parquet`` has a column ``path``, each path once. Photos and answers are in folders that every machine sees.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from petinfer import Classifier, PhotoError


class Worker:
    """What each process keeps: one Classifier, on the one core that Ray gives it."""

    def __init__(self, folder: Path, model: str | None) -> None:
        self.folder, self.clf = folder, Classifier(model, threads=1)
        numbers = dict.fromkeys(["probability", *self.clf.labels], pa.float32())
        self.schema = pa.schema({"path": pa.string(), "label": pa.string(), **numbers, "error": pa.string()}.items())

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Write the batch's answers as one file, whose name follows from its paths: computed twice, it is there once."""
        paths, rows = batch["path"].to_pylist(), []
        for path, answer in zip(paths, self.clf.predict_stream(paths), strict=True):
            failed = isinstance(answer, PhotoError)
            row = {"error": str(answer)} if failed else vars(answer) | vars(answer)["probabilities"]
            rows.append({"path": path, **row})  # of which the schema takes its columns
        name = f"{hashlib.sha256(repr(paths).encode()).hexdigest()[:16]}.parquet"
        part = self.folder / f".{name}"  # which readers of the folder skip
        pq.write_table(pa.Table.from_pylist(rows, self.schema), part)
        part.replace(self.folder / name)  # so each file that they read is whole
        return pa.table({"errors": [sum("error" in row for row in rows)]})


def classify(paths: Path, folder: Path, workers: int, model: str | None = None, photos_per_file: int = 64) -> int:
    """Write the answers that are not in the folder yet, and return how many photos could not be read."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = pq.read_table(paths, columns=["path"])
    if any(folder.glob("[!.]*.parquet")):
        todo = todo.join(pq.read_table(folder, columns=["path"]), "path", join_type="left anti").sort_by("path")
    batches = [todo.slice(start, photos_per_file) for start in range(0, len(todo), photos_per_file)]
    pool = ray.data.ActorPoolStrategy(size=workers)
    options: dict[str, Any] = {"compute": pool, "num_cpus": 1, "batch_size": None, "batch_format": "pyarrow"}
    done = ray.data.from_arrow(batches).map_batches(Worker, fn_constructor_args=[folder.resolve(), model], **options)
    return sum(row["errors"] for row in done.iter_rows()) if batches else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", type=Path), parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2), parser.add_argument("--model")
    raise SystemExit(min(classify(**vars(parser.parse_args())), 1))
