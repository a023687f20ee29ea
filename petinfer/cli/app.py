"""The command ``petinfer``: its subcommands, and one line and an exit code for each error."""

from __future__ import annotations

import errno
import io
import sys
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import click

from .. import PetinferError, __version__
from .inputs import in_options

COMMANDS = ("classify", "features", "verify", "info", "devices", "bench")
"""Each one is a function in the file of its name, in the order of `petinfer --help`."""


class _Commands(Mapping[str, click.Command]):
    """The commands by name. A command's file is imported when it is looked up: a start needs one of them."""

    def __getitem__(self, name: str) -> click.Command:
        if name not in COMMANDS:
            raise KeyError(name)
        return cast("click.Command", getattr(import_module(f".{name}", __package__), name))

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(click.Group):
    """Exits with 2 after one line for an error of petinfer, and with 130 after Ctrl-C."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except PetinferError as error:
            click.echo(f"Error: {in_options(str(error))}", err=True)
            context.exit(2)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head`, which click ends quietly
                raise
            click.echo(f"Error: cannot write: {error.strerror} (check where the answers go)", err=True)
            context.exit(2)
        except KeyboardInterrupt:
            context.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="petinfer")
def main() -> None:
    """Run an image classifier trained with fastai, without fastai."""
    warnings.filterwarnings("ignore", module="PIL")  # about large or odd photos, which are classified all the same
    if sys.stdout is None:
        raise PetinferError("standard output: closed, so nothing can be written to it (open it)")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name may not fit the terminal's encoding
            stream.reconfigure(errors="backslashreplace")


main.commands = _Commands()  # type: ignore[assignment]  # click adds nothing to it
