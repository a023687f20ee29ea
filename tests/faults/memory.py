"""Memory after 10,000 photos, compared with after 100: a stream of photos may not leave anything behind.

python -m tests.faults.memory [PHOTOS]
"""

from __future__ import annotations

import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

from petinfer import Classifier

from ..conftest import draw

EARLY = 100


def main() -> None:
    """Print the process's memory after 100 photos and after all; exits with 1 if it grew by more than 5 %."""
    photos = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        early, late = measure(Path(folder), photos)
    growth = late / early - 1
    print(f"{early / 1e6:.1f} MB after {EARLY} photos, {late / 1e6:.1f} MB after {photos}: {growth:+.1%}")
    sys.exit(growth > 0.05)


def measure(folder: Path, photos: int) -> tuple[int, int]:
    """Resident memory, bytes: after 100 photos, after all. Every tenth photo is damaged."""
    paths = []
    for i in range(20):
        draw("standing", i).save(path := folder / f"{i}.jpg")
        if i % 10 == 9:
            path.write_bytes(path.read_bytes()[:500])
        paths.append(path)
    early = 0
    for number, _ in enumerate(Classifier().predict_stream(islice(cycle(paths), photos)), 1):
        if number == EARLY:
            early = resident()
    return early, resident()


def resident() -> int:
    """Memory of the process in bytes, without files that are mapped, which Linux may drop and read again."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
