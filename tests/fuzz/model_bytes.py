"""Change the bundled model file, one byte at a time, and cut it: each change must be refused, or differ from its digest.

python -m tests.fuzz.model_bytes [CHANGES]
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from petinfer import Classifier, ModelError
from petinfer.classifier import BUNDLED_MODEL
from petinfer.session.model_file import digest

_HEAD, _TAIL = 2**16, 2**14  # bytes that hold the graph's nodes, and its other descriptions
UNNOTICED = "UNNOTICED"


def main() -> None:
    """Print how many changes ended in each way; exits with 1 if one went unnoticed."""
    changes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changed.onnx"
        ends = Counter(f"byte changed: {end}" for end in change_bytes(path, changes))
        ends += Counter(f"cut: {end}" for end in cut(path))
    for end, count in ends.most_common():
        print(f"{count:6} {end}")
    sys.exit(any(UNNOTICED in end for end in ends))


def change_bytes(path: Path, changes: int) -> Iterator[str]:
    """How each of the changes ended: half of them anywhere, a quarter each at the file's two ends."""
    whole = BUNDLED_MODEL.read_bytes()
    random = np.random.default_rng(0)
    size = len(whole)
    places = [*random.integers(0, size, changes - 2 * (changes // 4))]
    places += [*random.integers(0, _HEAD, changes // 4), *random.integers(size - _TAIL, size, changes // 4)]
    path.write_bytes(whole)
    with path.open("r+b", buffering=0) as file:
        for place in places:
            for value in (whole[place] ^ random.integers(1, 256), whole[place]):
                file.seek(place)
                file.write(bytes([value]))
                if value != whole[place]:
                    yield load(path)


def cut(path: Path) -> Iterator[str]:
    """How loading ended for each power of two that is less than the file's size."""
    whole = BUNDLED_MODEL.read_bytes()
    for power in range(len(whole).bit_length()):
        path.write_bytes(whole[: 2**power])
        yield load(path)


def load(path: Path) -> str:
    """Load a file: who refuses it, or whether its digest, which `petinfer verify` computes, differs."""
    try:
        written = Classifier(path, threads=1).spec.sha256
    except ModelError as error:
        return "refused by onnxruntime" if "onnxruntime cannot load it" in str(error) else "refused by petinfer"
    return UNNOTICED if digest(path, written) == written else "loaded, and detected by its digest"


if __name__ == "__main__":
    main()
