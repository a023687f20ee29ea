"""What fast decoding costs in exactness: pixels and answers beside exact decoding, on large photos.

usage: python -m benchmarks.fast_decode PHOTOS [--enlarge 4000] [--number 200]
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from petinfer import Classifier

from .photos import enlarged, photos_below, spread


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--enlarge", type=int, help="First make the longer side this many px, as a camera would; JPEG, quality 90."
)
@click.option("--number", type=int, help="Take this many of the photos, evenly.")
def main(folder: Path, enlarge: int | None, number: int | None) -> None:
    """Compare fast decoding with exact decoding on the photos of FOLDER."""
    exact, fast = Classifier(), Classifier(decode="fast")
    means, largest, moved, flips = [], 0, [], 0
    found = photos_below(folder)
    for path in spread(found, number or len(found)):
        photo = enlarged(path, enlarge) if enlarge else path.read_bytes()
        whole, part = exact.pixels(photo), fast.pixels(photo)
        difference = np.abs(whole.astype(np.int16) - part)
        means.append(float(difference.mean()))
        largest = max(largest, int(difference.max()))
        before, after = (exact.run(pixels[np.newaxis])[0][0] for pixels in (whole, part))
        moved.append(float(np.abs(before - after).max()))
        flips += int(before.argmax() != after.argmax())
    print(f"{len(moved)} photos of {folder.name}" + (f", enlarged to {enlarge} px" if enlarge else ""))
    print(f"pixels: mean difference {np.mean(means):.2f} of 255, largest {largest}")
    print(f"answers: {flips} decisions flipped, |Δp| mean {np.mean(moved):.1e}, largest {np.max(moved):.1e}")


if __name__ == "__main__":
    main()
