"""How the commands end: an error as one line, with the exit code of its kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from petinfer.errors import PetinferError

from .errors import ExportError, ParityError


@contextmanager
def in_one_line(context: click.Context) -> Iterator[None]:
    """Exit with 2 on an error, with 1 if a file does not answer as the Learner does, and with 130 after Ctrl-C."""
    try:
        yield
    except (ExportError, PetinferError) as error:
        _stop(context, f"Error: {error}", 2)
    except ParityError as error:
        _stop(context, f"Error: {error}", 1)
    except KeyboardInterrupt:
        _stop(context, "Interrupted: nothing was written", 130)


def _stop(context: click.Context, message: str, code: int) -> None:
    click.echo(message, err=True)
    context.exit(code)
