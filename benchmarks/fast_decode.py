"""Measures how much fast decoding changes pixels and answers on large photos, compared with exact decoding.

usage: python -m benchmarks.fast_decode PHOTOS [--enlarge 4000] [--number 200]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from petinfer import Classifier

from .photos import enlarged, evenly_spaced, photos_below


@dataclass(frozen=True)
class Change:
    """How one photo changed."""

    pixel_mean: float
    """Mean absolute difference of a pixel, of 255."""
    pixel_max: int
    probability: float
    """Largest absolute difference in a probability."""
    flipped: bool


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", metavar="PHOTOS", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--enlarge", type=int, help="Enlarge the longer side to this many px first; JPEG, quality 90.")
@click.option("--number", type=int, help="Use this many of the photos, evenly spaced.")
def main(folder: Path, enlarge: int | None, number: int | None) -> None:
    """Compare fast decoding with exact decoding on the photos below PHOTOS."""
    exact, fast = Classifier(), Classifier(decode="fast")
    found = photos_below(folder)
    chosen = evenly_spaced(found, number or len(found))
    photos = (enlarged(path, enlarge) if enlarge else path.read_bytes() for path in chosen)
    changes = [compare(exact, fast, photo) for photo in photos]
    moved = [change.probability for change in changes]
    print(f"{len(changes)} photos of {folder.name}" + (f", enlarged to {enlarge} px" if enlarge else ""))
    pixel_mean = np.mean([change.pixel_mean for change in changes])
    print(f"pixels: mean difference {pixel_mean:.2f} of 255, largest {max(change.pixel_max for change in changes)}")
    flips = sum(change.flipped for change in changes)
    print(f"answers: {flips} decisions flipped, |Δp| mean {np.mean(moved):.1e}, largest {np.max(moved):.1e}")


def compare(exact: Classifier, fast: Classifier, photo: bytes) -> Change:
    """Compare pixels and answers of one photo."""
    pixels = [classifier.pixels(photo) for classifier in (exact, fast)]
    difference = np.abs(pixels[0].astype(np.int16) - pixels[1])
    before, after = (exact.run(each[np.newaxis])[0][0] for each in pixels)
    moved = float(np.abs(before - after).max())
    return Change(float(difference.mean()), int(difference.max()), moved, bool(before.argmax() != after.argmax()))


if __name__ == "__main__":
    main()
