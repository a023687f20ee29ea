"""Writes the records of `petinfer classify` as a table, JSON, JSON lines or CSV."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import click

Record = dict[str, Any]


def write_json(records: Iterable[Record], labels: tuple[str, ...], top: int | None) -> None:
    """An array with a record per line; complete after Ctrl-C too."""
    print("[", end="")
    separator = "\n"
    try:
        for record in records:
            print(separator + json.dumps(record), end="", flush=True)
            separator = ",\n"
    finally:
        print("\n]")


def write_jsonl(records: Iterable[Record], labels: tuple[str, ...], top: int | None) -> None:
    """A record per line."""
    for record in records:
        print(json.dumps(record), flush=True)


def write_csv(records: Iterable[Record], labels: tuple[str, ...], top: int | None) -> None:
    """A row per record and a column per class; with ``--top K``, the columns of the other classes are empty."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "label", "probability", *labels, "error"])
    for record in records:
        probabilities = record.get("probabilities", {})
        answer = (record.get("label"), record.get("probability"), *map(probabilities.get, labels))
        row = (_encodable(record["path"]), *answer, record.get("error"))
        writer.writerow(["" if value is None else value for value in row])
        sys.stdout.flush()


def write_table(records: Iterable[Record], labels: tuple[str, ...], top: int | None) -> None:
    """Label and probability, then the path, which may be of any length. Errors go to standard error."""
    from ..image import printable

    names = [printable(label) for label in labels]
    width = max(map(len, names))
    for record in records:
        if "error" in record:
            click.echo(f"Error: {record['error']}", err=True)
            continue
        ranked = list(record["probabilities"].items())[: top or 1]
        answers = "   ".join(f"{printable(label):{width}}  {probability:7.2%}" for label, probability in ranked)
        print(f"{answers}  {printable(record['path'])}", flush=True)


def _encodable(path: str) -> str:
    """A path that is not UTF-8, with its bytes escaped; JSON escapes them by itself."""
    return path.encode("utf-8", "backslashreplace").decode()


WRITERS = {"json": write_json, "jsonl": write_jsonl, "csv": write_csv, "table": write_table}
