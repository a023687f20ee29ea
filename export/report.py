"""The comparison for people to look at: one HTML page, with the photos that moved most inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from .parity import GATES, Parity, photo_names


def page(parities: dict[str, Parity], photos: Sequence[Path], labels: Sequence[str], compared_on: str) -> str:
    """The page: a row a precision, and under it the photos whose decision flipped or whose probability moved most."""
    by_name = dict(zip(photo_names(photos), photos, strict=True))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"small": lambda value: f"{value:.1e}", "percent": lambda value: f"{value:.2%}"}
    return environment.get_template("parity.html.jinja").render(
        parities=parities,
        gates=GATES,
        failures={name: parity.failures(GATES[name]) for name, parity in parities.items()},
        rows={
            name: [(row, _picture(by_name[row["photo"]])) for row in _shown(parity)]
            for name, parity in parities.items()
        },
        labels=labels,
        compared_on=compared_on,
    )


def _shown(parity: Parity, flips: int = 24) -> list[dict[str, Any]]:
    """Flipped decisions, the surest first, then what else moved most."""
    flipped = sorted(parity.flips, key=lambda row: -float(row["margin"]))[:flips]
    return flipped + [row for row in parity.furthest if row not in flipped]


def _picture(photo: Path, side: int = 160) -> str:
    """A small JPEG as a data URI."""
    with Image.open(photo) as image:
        small = image.convert("RGB")
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
