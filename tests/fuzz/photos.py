"""Fuzz the way from a photo's bytes to pixels with Atheris (pip install atheris), over the seeds.

    python -m tests.fuzz.photos FOLDER -max_total_time=3600 -print_final_stats=1

FOLDER keeps the corpus and, below ``faults``, one file for each fault; options after it are libFuzzer's. A fault does not end
the run; a crash or a hang of native code does, and libFuzzer leaves the file in the folder where it was started.
"""

from __future__ import annotations

import hashlib
import random
import sys
import traceback
import warnings
from pathlib import Path

import atheris  # type: ignore[import-not-found, unused-ignore]

with atheris.instrument_imports(include=["PIL", "petinfer"]):
    from PIL import Image

    from .mutations import with_checksums
    from .one_photo import read_photo
    from .seeds import seeds

    Image.init()  # imports the plug-in of each format

_known_faults: set[str] = set()


def main() -> None:
    """Write the seeds, then run libFuzzer."""
    corpus = Path(sys.argv[1])
    (faults := corpus / "faults").mkdir(parents=True, exist_ok=True)
    (kept := corpus / "corpus").mkdir(exist_ok=True)
    for name, content in seeds().items():
        (kept / f"seed-{name}").write_bytes(content)
    warnings.simplefilter("ignore")
    options = ["-timeout=120", "-rss_limit_mb=3000", "-max_len=20000", *sys.argv[2:], str(kept)]
    atheris.Setup([sys.argv[0], *options], lambda data: _try(data, faults), custom_mutator=_mutate)
    atheris.Fuzz()


def _try(data: bytes, faults: Path) -> None:
    """Keep the first file of each fault, which is named after the place that raised it."""
    try:
        read_photo(data)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        name = f"{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}"
        if isinstance(error, AssertionError) or name not in _known_faults:
            digest = hashlib.sha256(data).hexdigest()[:8]
            (faults / f"{name}-{digest}").write_bytes(data)
            print(f"fault {name}-{digest}: {error}", file=sys.stderr, flush=True)
        _known_faults.add(name)


def _mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """libFuzzer's mutation; half of the PNGs then get right checksums, or Pillow would read no further than the first."""
    mutated = bytes(atheris.Mutate(data, max_size))
    return with_checksums(mutated)[:max_size] if random.Random(seed).random() < 0.5 else mutated


if __name__ == "__main__":
    main()
