"""Classifies photos in an asyncio program without blocking its event loop.

python examples/asyncio_classifier.py docs/chelsea.jpg petinfer/golden/*.png
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

from petinfer import Classifier, PhotoError, Prediction


class AsyncClassifier:
    """A Classifier whose `predict` can be awaited.

    Args:
        clf: with ``threads=1``, because here whole photos run side by side; petinfer and onnxruntime release the
            interpreter while they decode and compute.
        workers: photos that are computed at the same time.
        waiting: photos that may wait or be computed at the same time: further callers wait, before their photo is read.
    """

    def __init__(self, clf: Classifier, workers: int, waiting: int = 32) -> None:
        self.clf, self._pool, self._places = clf, ThreadPoolExecutor(workers), asyncio.Semaphore(waiting)

    async def predict(self, photo: str | bytes) -> Prediction:
        """Raises PhotoError if the photo cannot be read."""
        async with self._places:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self.clf.predict, photo)


async def main(paths: list[str]) -> None:
    """Print the answers in the order in which they come."""
    clf = AsyncClassifier(Classifier(threads=1), workers=Classifier().threads)

    async def answer(path: str) -> str:
        try:
            prediction = await clf.predict(path)
        except PhotoError as error:
            return str(error)
        return f"{path}: {prediction.label} {prediction.probability:.2%}"

    for task in asyncio.as_completed([answer(path) for path in paths]):
        print(await task)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
