"""The comparison of files with several labels: flips are other sets, and rounding at the threshold is accepted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.parity.compare import Array, Parity, Reference, compare, probabilities_of
from export.parity.gates import GATES

LABELS = ("cat", "dog", "person")
PHOTOS = [Path("a.jpg"), Path("b.jpg")]
LOGITS = np.array([[2.0, 0.03, -3.0], [-1.0, -2.0, -0.5]])  # the second has none


def moved(logits: Array, threshold: float = 0.5) -> Parity:
    return compare(Reference(PHOTOS, LABELS, LOGITS, threshold=threshold), probabilities_of(logits, threshold), logits)


def test_probabilities_are_sigmoids_without_overflow() -> None:
    logits = np.array([[-1000.0, 0.0, 1000.0]])
    assert probabilities_of(logits, 0.5).tolist() == [[0.0, 0.5, 1.0]]
    assert probabilities_of(LOGITS, 0.5) == pytest.approx(1 / (1 + np.exp(-LOGITS)))


def test_a_file_that_answers_alike_has_no_flips() -> None:
    parity = moved(LOGITS)
    assert (parity.flips, parity.threshold, parity.judged) == ([], 0.5, None)
    assert {row["photo"]: row["learner"] for row in parity.furthest} == {"a.jpg": "cat, dog", "b.jpg": "none"}


def test_a_flip_is_another_set_of_labels_with_its_least_margin() -> None:
    """The most probable label of each photo stays the same."""
    logits = np.add(LOGITS, [[0, -0.05, 4.0], [0, 0, 0.8]])
    first, second = moved(logits).flips
    assert (first["learner"], first["file"]) == ("cat, dog", "cat, person")
    assert first["margin"] == pytest.approx(1 / (1 + np.exp(-0.03)) - 0.5)
    assert (second["learner"], second["file"]) == ("none", "person")
    assert second["margin"] == pytest.approx(0.5 - 1 / (1 + np.exp(0.5)))


@pytest.mark.parametrize(("precision", "accepted"), [("fp32", False), ("fp16", True), ("int8", True)])
def test_a_label_that_rounding_moves_over_the_threshold_is_accepted(precision: str, accepted: bool) -> None:
    """The Learner's probability of dog is 0.0075 over it."""
    parity = replace(moved(np.add(LOGITS, [[0, -0.031, 0], [0, 0, 0]])), probability_max=0.0, probability_p99=0.0)
    assert len(parity.flips) == 1
    assert (GATES[precision].failures(parity) == []) == accepted


def test_a_label_that_was_far_from_the_threshold_fails_every_gate() -> None:
    parity = replace(moved(np.add(LOGITS, [[-4.0, 0, 0], [0, 0, 0]])), probability_max=0.0, probability_p99=0.0)
    for gate in GATES.values():
        assert gate.failures(parity)[0].startswith("share of decisions flipped is 0.5")


def test_one_label_a_photo_keeps_its_margin() -> None:
    one = compare(Reference(PHOTOS, LABELS, LOGITS), probabilities_of(LOGITS, None), LOGITS)
    assert [gate.margin_of(one) for gate in GATES.values()] == [0.0, 0.02, 0.0]
    assert [gate.margin_of(replace(one, threshold=0.5)) for gate in GATES.values()] == [1e-5, 0.02, 0.02]
