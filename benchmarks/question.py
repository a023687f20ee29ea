"""How a question is asked on its own: its arguments, and what becomes of its findings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from .conversions import Conversions
from .measurement import Findings, Row

Ask = Callable[[Conversions, int], Findings]


def command(ask: Ask, count: str, default: int, told: str) -> click.Command:
    """The command line of a question: RUN PHOTOS, where to put things, and how much to measure.

    Args:
        ask: takes the weights' conversions and the count.
        count: the name of the option for the count.
        default: its default.
        told: its help.
    """

    def main(run: Path, photos: Path, work: Path | None, findings: Path | None, **counts: int) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            found = ask(Conversions(run, photos, work or Path(temporary)), counts[count])
        if findings:
            found.save(findings)
        else:
            click.echo("\n".join(table(found.rows)))

    parameters: list[click.Parameter] = [
        click.Argument(["run"], type=click.Path(exists=True, file_okay=False, path_type=Path)),
        click.Argument(["photos"], type=click.Path(exists=True, file_okay=False, path_type=Path)),
        click.Option(["--work"], type=click.Path(path_type=Path), help="Keep the rivals' forms of the weights here."),
        click.Option(["--findings"], type=click.Path(path_type=Path), help="Write JSON here in place of the table."),
        click.Option([f"--{count}"], type=click.IntRange(1), default=default, show_default=True, help=told),
    ]
    return click.Command("question", callback=main, params=parameters, help=ask.__doc__)


def thread_counts() -> list[int]:
    """One, and all the cores that this process may use."""
    from petinfer.session.threads import (
        available_cores,  # brings onnxruntime, which the parent of a cold start must not have
    )

    return sorted({1, available_cores()})


def table(rows: Iterable[Row]) -> list[str]:
    """The rows for people, a reference under the other."""
    lines: list[str] = []
    heading: Any = None
    for row in rows:
        group = (row.question, row.threads, row.photo, row.reference, row.unit)
        if group != heading:
            heading = group
            threads = f", {row.threads} thread{'s' * (row.threads > 1)}" if row.threads else ""
            about = f"{row.question}{f', {row.photo}' if row.photo else ''}{threads}: ratio to {row.reference}"
            lines += ["", about, f"{'':44}{'ratio':>8}{'median':>11}{'p90':>11} {'unit':9}{'n':>5}  labels that differ"]
        lines.append(_line(row))
    return lines


def _line(row: Row) -> str:
    differ = f"{row.answers_differ} of {row.answers}" if row.answers else ""
    name = f"{row.contender} {row.precision}".strip()
    return f"{name:44}{row.ratio_to_reference:8.3f}{row.median:11.2f}{row.p90:11.2f} {row.unit:9}{row.n:5}  {differ}".rstrip()
