"""Progress of long work on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

T = TypeVar("T")


def progress_bar(items: Iterable[T], title: str) -> Iterator[T]:
    """The items, with a progress bar on a terminal; elsewhere the title alone."""
    with click.progressbar(items, label=title, file=sys.stderr) as bar:
        yield from bar
