"""Writes the records of `petinfer classify` as a table, JSON, JSON lines, CSV or Parquet; and a number with its noun."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple, TextIO

import click

Record = dict[str, Any]
UNSURE, NONE = "unsure", "none"  # in place of a label, where people read it


class Columns(NamedTuple):
    """What the records contain."""

    labels: tuple[str, ...]
    top: int | None
    """How many classes a record names; None means all, and one in a table."""
    sorted_as: str | None = None
    """The entry that says where the photo was copied or moved to."""
    familiarity: bool = False
    """Whether the records have one."""
    several: bool = False
    """Whether a photo may have several labels or none, and records have the entry ``labels``."""


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

    entries = ["label", "labels", "probability"] if columns.several else ["label", "probability"]
    last = ["error", "note", *([columns.sorted_as] if columns.sorted_as else [])]
    last += ["familiarity"] if columns.familiarity else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", *entries, *columns.labels, *last])
    for record in records:
        joined = {"labels": ";".join(record["labels"])} if "labels" in record else {}
        answer = map((record | joined).get, ["path", *entries])
        probabilities = map(record.get("probabilities", {}).get, columns.labels)
        writer.writerow(map(encodable, [*answer, *probabilities, *map(record.get, last)]))  # None: an empty field
        out.flush()


def write_table(records: Iterable[Record], columns: Columns, out: TextIO) -> None:
    """Labels and probabilities, then the path, which may be of any length. Errors go to standard error."""
    from ..image import printable

    width = max(map(len, map(printable, (*columns.labels, *([NONE] if columns.several else [])))))
    for record in records:
        if "error" in record:
            click.echo(f"Error: {record['error']}", err=True)
        if "label" in record:
            answers = [f"{printable(label):{width}}  {share:7.2%}" for label, share in _shown(record, columns)]
            if record.get("sure") is False or not answers:
                answers = [f"{NONE if record.get('sure', True) else UNSURE:{width}}  {'':7}"]
            print(f"{'   '.join(answers)}  {printable(record['path'])}", flush=True, file=out)


def _shown(record: Record, columns: Columns) -> list[tuple[str, float]]:
    """What a table shows of a photo: the most probable classes that ``--top`` asks for, or without it, its labels."""
    probabilities: dict[str, float] = record["probabilities"]
    if columns.several and columns.top is None:
        return [(label, probabilities[label]) for label in record["labels"]]
    return list(probabilities.items())[: columns.top or 1]


def encodable(value: Any) -> Any:
    """A text that is not UTF-8, such as a path, with its bytes escaped; JSON escapes them by itself."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def counted(number: int, singular: str, plural: str = "") -> str:
    """The number with its noun: ``1 thread``, ``2 threads``."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


WRITERS = {"json": write_json, "jsonl": write_jsonl, "csv": write_csv, "table": write_table}
