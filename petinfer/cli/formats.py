"""Writes the records of `petinfer classify` as a table, JSON, JSON lines, CSV or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple, TextIO

import click

Record = dict[str, Any]
UNSURE = "unsure"  # in place of a label, where people read it


class Columns(NamedTuple):
    """What the records contain."""

    labels: tuple[str, ...]
    top: int | None
    """How many classes a record names; None means all, and one in a table."""
    sorted_as: str | None = None
    """The entry that says where the photo was copied or moved to."""
    familiarity: bool = False
    """Whether the records have one."""


def write_json(records: Iterable[Record], columns: Columns, out: TextIO) -> None:
    """An array with a record per line; complete after Ctrl-C too."""
    print("[", end="", file=out)
    separator = "\n"
    try:
        for record in records:
            print(separator + json.dumps(record), end="", flush=True, file=out)
            separator = ",\n"
    finally:
        print("\n]", file=out)


def write_jsonl(records: Iterable[Record], columns: Columns, out: TextIO) -> None:
    """A record per line."""
    for record in records:
        print(json.dumps(record), flush=True, file=out)


def write_csv(records: Iterable[Record], columns: Columns, out: TextIO) -> None:
    """A row per record and a column per class; with ``--top K``, the columns of the other classes are empty."""
    import csv

    place = [columns.sorted_as] if columns.sorted_as else []
    place += ["familiarity"] if columns.familiarity else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "label", "probability", *columns.labels, "error", *place])
    for record in records:
        probabilities = record.get("probabilities", {})
        answer = (record.get("label"), record.get("probability"), *map(probabilities.get, columns.labels))
        row = (record["path"], *answer, record.get("error"), *map(record.get, place))
        writer.writerow(map(encodable, row))  # None becomes an empty field
        out.flush()


def write_table(records: Iterable[Record], columns: Columns, out: TextIO) -> None:
    """Label and probability, then the path, which may be of any length. Errors go to standard error."""
    from ..image import printable

    names = [printable(label) for label in columns.labels]
    width = max(map(len, names))
    for record in records:
        if "error" in record:
            click.echo(f"Error: {record['error']}", err=True)
        if "label" in record:
            ranked = list(record["probabilities"].items())[: columns.top or 1]
            answers = "   ".join(f"{printable(label):{width}}  {probability:7.2%}" for label, probability in ranked)
            if record.get("sure") is False:
                answers = f"{UNSURE:{width}}  {'':7}"
            print(f"{answers}  {printable(record['path'])}", flush=True, file=out)


def encodable(value: Any) -> Any:
    """A text that is not UTF-8, such as a path, with its bytes escaped; JSON escapes them by itself."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


WRITERS = {"json": write_json, "jsonl": write_jsonl, "csv": write_csv, "table": write_table}
