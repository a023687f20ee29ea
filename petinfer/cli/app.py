"""The command ``petinfer``: its subcommands, and one line and an exit code for each error."""

from __future__ import annotations

import errno
import io
import sys
import warnings
from typing import Any

import click

from .. import PetinferError, __version__
from .bench import bench
from .classify import classify
from .devices import devices
from .inputs import in_options
from .verify import verify


class _Group(click.Group):
    """Exits with 2 after one line for an error of petinfer, and with 130 after Ctrl-C."""

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


for command in (classify, verify, devices, bench):
    main.add_command(command)
