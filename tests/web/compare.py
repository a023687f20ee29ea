"""Compares the page in headless Chromium with petinfer on a folder of JPEGs: pixels, answers, time. Takes minutes.

``python -m tests.web.compare PHOTOS [COUNT]``, after ``npm ci && npm run build`` in docs/web. Each photo is classified by the
page and by petinfer in turn. A second comparison has the browser decode the photo itself, which the page does not do.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from petinfer import Classifier
from petinfer.folder import find_photos

from .test_page import CHROMIUM, WEB

Row = dict[str, Any]


def compare(photos: list[str]) -> Iterator[Row]:
    """For each photo what the page says, and beside it petinfer's pixels, probabilities and time (ms)."""
    command = ["node", Path(__file__).with_name("compare_page.mjs"), WEB / "build"]
    environment = os.environ | {"CHROMIUM": str(CHROMIUM)}
    classifier = Classifier()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, bufsize=1
    ) as page:
        assert page.stdin and page.stdout
        for photo in photos:
            page.stdin.write(f"{photo}\n")
            row = json.loads(page.stdout.readline())
            start = time.perf_counter()
            prediction = classifier.predict(photo)
            row["petinfer_ms"] = 1000 * (time.perf_counter() - start)
            row["expected"] = [prediction.probabilities[label] for label in classifier.spec.labels]
            row["same"] = hashlib.sha256(classifier.pixels(photo).tobytes()).hexdigest() == row["pixels"]
            yield row
        page.stdin.close()


def moved(rows: list[Row], found: list[list[float]]) -> str:
    """How far probabilities are from petinfer's, and how many decisions differ."""
    mine, theirs = np.array(found), np.array([row["expected"] for row in rows])
    flips = int((mine.argmax(1) != theirs.argmax(1)).sum())
    return f"largest difference in a probability {np.abs(mine - theirs).max():.1e}, decisions that differ {flips}"


def share(rows: list[Row], which: str) -> str:
    """How many bytes differ where the browser decodes."""
    found = [row["own"][which] for row in rows if which in row["own"]]
    differing, total = (sum(each[key] for each in found) for key in ("differing", "bytes"))
    return f"{differing / total:.2%} of the bytes differ, by at most {max(each['largest'] for each in found)}"


def times(rows: list[Row]) -> str:
    """Medians."""
    steps = {name: np.median([row["times"][name] for row in rows]) for name in ("decode", "resize", "network")}
    total = np.median([sum(row["times"].values()) for row in rows])
    petinfer = np.median([row["petinfer_ms"] for row in rows])
    parts = ", ".join(f"{name} {value:.1f}" for name, value in steps.items())
    return f"{total:.0f} ms ({parts}); petinfer {petinfer:.0f} ms, ratio of the medians {total / petinfer:.1f}"


def main() -> None:
    """Print the comparison."""
    photos = find_photos(sys.argv[1]).photos[: int(sys.argv[2]) if len(sys.argv) > 2 else None]
    rows = list(compare(photos))
    print(f"{len(rows)} photos: identical pixels on {sum(row['same'] for row in rows)}")
    print(f"the page: {moved(rows, [row['probabilities'] for row in rows])}")
    print(f"time: {times(rows)}")
    print(f"decoded by the browser: {share(rows, 'decoded')}; network's input: {share(rows, 'input')}")
    print(f"  {moved(rows, [row['own']['probabilities'] for row in rows])}")


if __name__ == "__main__":
    main()
