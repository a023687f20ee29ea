"""``petinfer devices``: which devices can run a model here."""

from __future__ import annotations

import click

from .. import DeviceError, PetinferError
from .inputs import in_options


@click.command()
@click.option("--model", type=click.Path(), help="Model file to try, or lite.  [default: the bundled one]")
def devices(model: str | None) -> None:
    """List the devices that can run a model here.

    For each of the others, the line says why it cannot.
    """
    from ..classifier import Classifier
    from ..session.devices import AUTO, DEVICES
    from ..verify import onnxruntime_wheels

    for device in DEVICES:
        try:
            provider = Classifier(model, device).provider
            rest = "" if device in AUTO else " (auto does not choose it)"
            click.echo(f"{device:13} ready: {provider}{rest}")
        except DeviceError as error:
            click.echo(f"{device:13} no: {in_options(str(error)).partition(': ')[2]}")
    wheels = onnxruntime_wheels()
    if len(wheels) > 1:
        raise PetinferError(f"{' and '.join(wheels)} overwrite each other (pip uninstall all, then install one)")
