"""``petinfer verify``: the proof on this device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import DeviceError
from .formats import Record, counted
from .inputs import in_options, model_options

if TYPE_CHECKING:
    from .. import Classifier
    from ..verify import Verdict


@click.command()
@model_options
@click.option(
    "--signature",
    type=(click.Path(path_type=Path), click.Path(path_type=Path)),
    metavar="FILE KEY",
    help="First check that the public KEY (PEM) signed the model with this signature FILE.",
)
@click.option("--providers", is_flag=True, help="Verify on each device that works here.")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def verify(
    model: str | None,
    device: str,
    threads: int | None,
    signature: tuple[Path, Path] | None,
    providers: bool,
    as_json: bool,
) -> None:
    """Prove that this device gives the Learner's answers.

    Runs the golden photos, and compares the model's pixels and probabilities with those recorded in its file. Exits with
    1 if they differ.
    """
    from ..classifier import Classifier
    from ..session.opening import model_path
    from ..signature import check_signature
    from ..verify import verify as check

    if providers and device != "auto":
        raise click.UsageError("--providers tries every device; leave --device out")
    if signature:
        check_signature(model_path(model), *signature)
        click.echo(f"signed by {signature[1]}", err=True)
    classifiers = _on_each_device(model, threads) if providers else [Classifier(model, device, threads)]
    found = [(classifier, check(classifier)) for classifier in classifiers]
    if as_json:
        reports = [_verdict_record(*each) for each in found]
        click.echo(json.dumps(reports if providers else reports[0]))
    else:
        for each in found:
            _print_verdict(*each)
    click.get_current_context().exit(1 if any(verdict.failures for _, verdict in found) else 0)


def _on_each_device(model: str | None, threads: int | None) -> Iterator[Classifier]:
    """A classifier on each device that is installed; standard error says which ones do not work."""
    from ..classifier import Classifier
    from ..session.devices import available_devices
    from ..session.threads import thread_count

    thread_count(threads)  # whose error is not a device's
    for name in available_devices():
        try:
            yield Classifier(model, name, threads)
        except DeviceError as error:
            click.echo(f"not verified: {in_options(str(error))}", err=True)


def _verdict_record(classifier: Classifier, verdict: Verdict) -> Record:
    about = {"model": str(classifier.path), "provider": classifier.provider, "precision": classifier.spec.precision}
    return {**about, "passed": not verdict.failures, **asdict(verdict)}


def _print_verdict(classifier: Classifier, verdict: Verdict) -> None:
    threads = counted(classifier.threads, "thread")
    click.echo(f"{classifier.path}, {classifier.spec.precision} on {classifier.provider}, {threads}\n")
    click.echo(f"{'photo':26}{'pixels':>10}{'|Δp| file':>12}{'|Δp| Learner':>14}")
    for found in verdict.checks:
        pixels = "equal" if found.pixels_equal else "differ" if found.decoded_equal else "decoder"
        flipped = ("  flipped, as exported" if found.as_exported else "  flipped") if found.flipped else ""
        click.echo(f"{found.photo:26}{pixels:>10}{found.moved:12.1e}{found.from_learner:14.1e}{flipped}")
    for note in verdict.notes:
        click.echo(f"\nnote: {note}")
    for failure in verdict.failures:
        click.echo(f"Error: {in_options(failure)}", err=True)
    equal, flips = (sum(getattr(check, name) for check in verdict.checks) for name in ("pixels_equal", "flipped"))
    end = "NOT verified" if verdict.failures else "verified"
    click.echo(
        f"\n{equal} of {len(verdict.checks)} photos with identical pixels, {counted(flips, 'decision')} flipped: {end}"
    )
