"""The command line of a single question, and the table that it prints."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from .conversions import Conversions
from .measurement import Findings, Row

Ask = Callable[[Conversions, int], Findings]

HELP = {"help_option_names": ["-h", "--help"]}
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def command(ask: Ask, count: str, default: int, count_help: str) -> click.Command:
    """The command line of a question: RUN PHOTOS, where to write, and how much to measure.

    Args:
        ask: measures; receives the run's conversions and the count.
        count: name of the option for the count.
        default: its default.
        count_help: its help.
    """

    def main(run: Path, photos: Path, work: Path | None, findings: Path | None, **counts: int) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            folder = work or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            found = ask(Conversions(run, photos, folder), counts[count])
        if findings:
            found.save(findings)
        else:
            click.echo("\n".join(table(found.rows)))

    parameters: list[click.Parameter] = [
        click.Argument(["run"], type=_FOLDER),
        click.Argument(["photos"], type=_FOLDER),
        click.Option(["--work"], type=click.Path(path_type=Path), help="Keep the converted weights in this folder."),
        click.Option(["--findings"], type=click.Path(path_type=Path), help="Write JSON to this file, not a table."),
        click.Option([f"--{count}"], type=click.IntRange(1), default=default, show_default=True, help=count_help),
    ]
    return click.Command("question", callback=main, params=parameters, help=ask.__doc__, context_settings=HELP)


def thread_counts() -> list[int]:
    """One, and all cores that this process may use."""
    from petinfer.session.threads import available_cores

    return sorted({1, available_cores()})


def table(rows: Iterable[Row]) -> list[str]:
    """The rows as text, grouped by setting and reference."""
    lines: list[str] = []
    previous: tuple[object, ...] = ()
    for row in rows:
        group = (row.question, row.threads, row.photo, row.reference, row.unit)
        if group != previous:
            previous = group
            lines += ["", _heading(row), _COLUMN_HEADS]
        lines.append(_line(row))
    return lines


_COLUMN_HEADS = f"{'':44}{'ratio':>8}{'median':>11}{'p90':>11} {'unit':9}{'n':>5}  labels that differ"


def _heading(row: Row) -> str:
    threads = f", {row.threads} thread{'s' * (row.threads > 1)}" if row.threads else ""
    return f"{row.question}{f', {row.photo}' if row.photo else ''}{threads}: ratio to {row.reference}"


def _line(row: Row) -> str:
    differ = f"{row.answers_differ} of {row.answers}" if row.answers else ""
    name = f"{row.contender} {row.precision}".strip()
    return f"{name:44}{row.ratio_to_reference:8.3f}{row.median:11.2f}{row.p90:11.2f} {row.unit:9}{row.n:5}  {differ}".rstrip()
