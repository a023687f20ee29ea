"""``petinfer classify --heat DIR``: a PNG per photo that shows which places decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .. import PetinferError, PhotoError
from .formats import Record
from .inputs import sources
from .output_file import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .. import Classifier, Prediction
    from ..classifier import Heat

_OPACITY = 0.65  # of the hottest place


class HeatMaps:
    """Writes heat maps into a folder, each under its photo's name and ``.png``.

    Raises:
        PetinferError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._names = folder, Counter[str]()
        self._written: str | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PetinferError(f"--heat: {folder}: cannot be created: {error.strerror} (choose another)") from error

    def predictions(self, classifier: Classifier, paths: list[str]) -> Iterator[Prediction | PhotoError]:
        """The predictions for the photos; each one's heat map is written before it is yielded."""
        for path, found in zip(paths, classifier.heat_stream(sources(paths)), strict=True):
            if isinstance(found, PhotoError):
                yield found
            else:
                self._written = self._write(Path(path).name, found)
                yield found.prediction

    def entry(self) -> Record:
        """What the record of the last prediction says of its heat map."""
        return {"heat": self._written}

    def _write(self, name: str, found: Heat) -> str:
        self._names[name] += 1
        again = f"-{self._names[name]}" if self._names[name] > 1 else ""
        path = self._folder / f"{name}{again}.png"
        with replacing(path) as partial:
            drawn(found.pixels, found.heat).save(partial, "PNG")
        return str(path)


def drawn(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> Image.Image:
    """The photo with its heat over it, from transparent through red to yellow.

    Args:
        pixels: uint8 [height, width, 3 or 1].
        heat: float32 [rows, columns], 0 to 1.
    """
    height, width, _ = pixels.shape
    scaled = np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)[..., None]
    colour = np.concatenate([np.full_like(scaled, 255), 255 * scaled, np.zeros_like(scaled)], 2)
    blended = pixels * (1 - _OPACITY * scaled) + colour * _OPACITY * scaled
    return Image.fromarray(blended.round().astype(np.uint8))
