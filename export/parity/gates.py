"""How far a model file may be from its Learner, by precision."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .compare import Parity


@dataclass(frozen=True)
class Gate:
    """The tolerances of one precision."""

    largest: float
    """|Δ probability| of any photo; infinite for no limit."""
    p99: float
    """|Δ probability| of 99 % of the photos."""
    flips: float
    """Share of the decisions that may differ."""
    margin: float = 0.0
    """Decisions for which the Learner's margin is smaller may differ; see `margin_of`."""
    torch_errors: float = 0.0
    """A file also passes if its error against float64 is at most this many times torch's own float32 error."""
    int8_share: float = 0.0
    """Least share of the multiplications in int8."""

    def failures(self, parity: Parity) -> list[str]:
        """The goals that were missed; empty if the file passes."""
        flips = sum(flip["margin"] > self.margin_of(parity) for flip in parity.flips) / parity.photos
        measured = [("share of decisions flipped", flips, self.flips)]
        if not self._is_exact(parity):
            measured = [
                ("largest |Δ probability|", parity.probability_max, self.largest),
                ("99th percentile of |Δ probability|", parity.probability_p99, self.p99),
                *measured,
            ]
        failures = [_failure(name, value, limit, "over") for name, value, limit in measured if not value <= limit]
        if parity.int8_share is not None and not parity.int8_share >= self.int8_share:
            failures.append(_failure("share of multiplications in int8", parity.int8_share, self.int8_share, "under"))
        return failures

    def margin_of(self, parity: Parity) -> float:
        """How near to a change the Learner's decision may be for a flip to be accepted.

        Where photos have several labels, each is a decision by itself, and many are near the threshold: those that a
        probability crosses within ``p99`` are accepted.
        """
        return self.margin if parity.threshold is None else max(self.margin, self.p99)

    def _is_exact(self, parity: Parity) -> bool:
        """Whether float32 is the limit: the file's error against float64 is within ``torch_errors`` times torch's."""
        if parity.file_error is None or parity.torch_error is None:
            return False
        return parity.file_error <= self.torch_errors * parity.torch_error


GATES = {
    "fp32": Gate(1e-5, 1e-5, 0.0, torch_errors=4),
    "fp16": Gate(5e-3, 5e-3, 0.0, margin=0.02),
    "int8": Gate(math.inf, 0.02, 0.002, int8_share=0.5),
}


def _failure(name: str, value: float, limit: float, relation: str) -> str:
    """With as many digits as tell the value from its limit."""
    digits = next((n for n in range(2, 17) if f"{value:.{n}g}" != f"{limit:.{n}g}"), 17)
    return f"{name} is {value:.{digits}g}, {relation} {limit:.2g}"
