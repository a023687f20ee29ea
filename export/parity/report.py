"""The comparison as one HTML page, with the photos that moved most, and as a table for a terminal."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from petinfer.image import read

from .compare import Parity, Reference
from .gates import GATES, Gate


def page(parities: dict[str, Parity], reference: Reference, compared_on: str) -> str:
    """The page: a row for each precision, then the photos whose decision flipped or whose probability moved most."""
    photos = dict(zip(reference.names, reference.photos, strict=True))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"small": lambda value: f"{value:.1e}", "percent": lambda value: f"{value:.2%}"}
    rows = {
        name: [(row, _picture(photos[row["photo"]])) for row in _shown(parity)] for name, parity in parities.items()
    }
    return environment.get_template("parity.html.jinja").render(
        parities=parities,
        gates=GATES,
        limits={name: _limits(GATES[name], parity) for name, parity in parities.items()},
        failures={name: GATES[name].failures(parity) for name, parity in parities.items()},
        rows=rows,
        judged=any(parity.judged for parity in parities.values()),
        float64=next((parity for parity in parities.values() if parity.file_error is not None), None),
        turned=next((parity.turned for parity in parities.values() if parity.turned), None),
        compared_on=compared_on,
    )


def table(parities: dict[str, Parity]) -> Iterator[str]:
    """The comparison for a terminal, a line for each precision."""
    columns = (("max |Δp|", 11), ("p99 |Δp|", 11), ("mean |Δp|", 11), ("max |Δlogit|", 14), ("flips", 8))
    judged = any(parity.judged for parity in parities.values())
    errors = f"{'errors':>9}  Learner's" if judged else ""
    yield " " * 6 + "".join(f"{name:>{width}}" for name, width in columns) + errors + "   of photos"
    for precision, parity in parities.items():
        errors = f"{parity.errors:>9}{parity.original_errors:>11}" if judged else ""
        yield (
            f"{precision:6}{parity.probability_max:11.2e}{parity.probability_p99:11.2e}{parity.probability_mean:11.2e}"
            f"{parity.logit_max:14.2e}{len(parity.flips):8}{errors}{parity.photos:12}"
        )


def _limits(gate: Gate, parity: Parity) -> str:
    """A gate in words."""
    largest = f"{gate.largest:.1e} for any probability, " if math.isfinite(gate.largest) else ""
    margin = f" with a margin over {gate.margin_of(parity):g}" if gate.margin_of(parity) else ""
    share = f", {gate.int8_share:.0%} of the multiplications in int8" if gate.int8_share else ""
    exact = f", or {gate.torch_errors:g} times torch's own distance from float64" if gate.torch_errors else ""
    return f"{largest}{gate.p99:.1e} for 99 % of the photos, {gate.flips:.2%} of the decisions{margin} flipped{exact}{share}"


def _shown(parity: Parity, flips: int = 24) -> list[dict[str, Any]]:
    """Flipped decisions, those with the largest margin first, then the other photos that moved most."""
    flipped = sorted(parity.flips, key=lambda row: -float(row["margin"]))[:flips]
    return flipped + [row for row in parity.furthest if row not in flipped]


def _picture(photo: Path, side: int = 160) -> str:
    """A small JPEG as a data URI."""
    small = read(photo, "stored", 2 * side)
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
