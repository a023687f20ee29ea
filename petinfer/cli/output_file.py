"""``petinfer classify -o FILE``: answers in a file that has its name only once it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .. import PetinferError
from .formats import WRITERS, Columns, Record, encodable

SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")
ROWS = 1000  # of a Parquet file that are written together


def check_output(path: Path) -> None:
    """Refuse, before a photo is classified, a file that could not be written afterwards.

    Raises:
        PetinferError: its suffix is not one of `SUFFIXES`, pyarrow is missing, or there is no such folder.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise PetinferError(f"--output: {path}: the suffix is not {', '.join(SUFFIXES[:-1])} or .parquet (rename it)")
    if path.exists() and not path.is_file():
        raise PetinferError(f"--output: {path}: not a regular file (choose another)")
    if not Path(os.path.realpath(path)).parent.is_dir():
        raise PetinferError(f"--output: {path}: its folder does not exist (create it, or choose another)")
    if path.suffix.lower() == ".parquet":
        _pyarrow(path)


def write_file(records: Iterable[Record], columns: Columns, path: Path) -> None:
    """Write all records to a file, in the format that its suffix names.

    Raises:
        OSError: the file cannot be written.
    """
    form = path.suffix.lower().removeprefix(".")
    with _written_beside(path) as partial:
        if form == "parquet":
            _write_parquet(records, columns, partial)
        else:
            with partial.open("w", encoding="utf-8", newline="") as out:
                WRITERS[form](records, columns, out)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of a file next to ``path``, and rename it to ``path`` at the end, unless something was raised."""
    target = Path(os.path.realpath(path))  # of a link, which stays one
    partial = target.with_name(f"{target.name}.partial")
    yield partial
    partial.replace(target)


@contextmanager
def _written_beside(path: Path) -> Iterator[Path]:
    """`replacing`; if something ends the run earlier, such as Ctrl-C, the partial file has the answers up to there."""
    try:
        with replacing(path) as partial:
            yield partial
    except BaseException:
        if partial.exists():
            click.echo(f"{path} was not written; {partial} has the answers so far", err=True)
        raise


def _write_parquet(records: Iterable[Record], columns: Columns, path: Path) -> None:
    """The columns are the entries of a JSON record; ``probabilities`` is a struct with a field per class."""
    pyarrow = _pyarrow(path)
    from pyarrow.parquet import ParquetWriter

    schema = _schema(pyarrow, columns)
    rows: list[Record] = []

    def write() -> None:
        writer.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema=schema))
        rows.clear()

    with ParquetWriter(path, schema) as writer:  # ends the file, so that it can be read, after Ctrl-C too
        try:
            for record in records:
                rows.append({name: _encodable(value) for name, value in record.items()})
                if len(rows) == ROWS:
                    write()
        finally:
            if rows:
                write()


def _encodable(value: Any) -> Any:
    return [encodable(each) for each in value] if isinstance(value, list) else encodable(value)


def _schema(pyarrow: Any, columns: Columns) -> Any:
    text, number = pyarrow.string(), pyarrow.float64()
    kinds = {"path": text, "label": text, **({"labels": pyarrow.list_(text)} if columns.several else {})}
    kinds["probability"] = number
    kinds["probabilities"] = pyarrow.struct([(encodable(label), number) for label in columns.labels])
    kinds |= {"orientation": text, "model": text, "error": text, "note": text}
    if columns.familiarity:
        kinds["familiarity"] = number
    if columns.sorted_as:
        kinds[columns.sorted_as] = text
    return pyarrow.schema(list(kinds.items()))


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        problem = "Parquet needs the package pyarrow (pip install pyarrow, or choose .csv or .jsonl)"
        raise PetinferError(f"--output: {path}: {problem}") from error
    return pyarrow
