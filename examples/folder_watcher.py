"""Watches a folder and prints one JSON line for each photo in it, and for each that is added or changed.

python examples/folder_watcher.py incoming/ >> answers.jsonl     # Ctrl-C ends it
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from watchfiles import watch

from petinfer import Classifier, PhotoError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SETTLED = 1  # second without a change, after which an unreadable photo is damaged rather than still being copied
RESCAN = 1000  # ms after which the folder is listed in any case: network drives report no changes


class Folder:
    """A folder and which version of each photo in it was answered."""

    def __init__(self, folder: Path, clf: Classifier) -> None:
        self.folder, self.clf = folder, clf
        self.answered: dict[Path, tuple[int, int]] = {}

    def answers(self) -> Iterator[dict[str, Any]]:
        """A record for each photo that was not there, or had other content, at the last call."""
        versions = {path: version for path in sorted(self.folder.rglob("*")) if (version := _version(path))}
        new = [path for path, version in versions.items() if self.answered.get(path) != version]
        self.answered = {path: version for path, version in self.answered.items() if path in versions}
        for path, answer in zip(new, self.clf.predict_stream(new), strict=True):
            if isinstance(answer, PhotoError) and time.time() - versions[path][0] / 1e9 < SETTLED:
                continue  # the next call tries it again
            self.answered[path] = versions[path]
            yield {"path": str(path), **({"error": str(answer)} if isinstance(answer, PhotoError) else asdict(answer))}


def _version(path: Path) -> tuple[int, int] | None:
    """Time of the last change and size; None if it is not a photo, or is gone again."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size) if path.suffix.lower() in SUFFIXES and path.is_file() else None


if __name__ == "__main__":
    folder = Folder(Path(sys.argv[1]), Classifier())
    for _ in watch(folder.folder, rust_timeout=RESCAN, yield_on_timeout=True, raise_interrupt=False):
        for record in folder.answers():  # a change only wakes it: what counts is what is in the folder
            print(json.dumps(record), flush=True)
