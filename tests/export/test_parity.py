"""Whether a file answers as its Learner does: the measures, the gates, and the refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from torch import nn

from export.__main__ import main
from export.errors import ParityError
from export.onnx_file.graph import PixelsToAnswers
from export.parity.compare import Parity, Reference, photo_names, wilson_interval
from export.parity.compare import compare as compare_with
from export.parity.gates import GATES, Gate
from export.pipeline import take_out_failures
from export.source.labels import true_classes
from export.source.preprocessing import Statistics

from ..conftest import cli_runner

SMALL_LEARNER = Path(__file__).parent / "data" / "fastai27.pkl"
LABELS = ("dog", "cat")
PHOTOS = [Path("beagle_1.jpg"), Path("Cat_2.jpg"), Path("pug_3.jpg")]
REFERENCE = np.array([[2.0, -2.0], [-1.0, 1.0], [0.1, 0.0]])


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def compare(reference: np.ndarray, probabilities: np.ndarray, logits: np.ndarray, *known: object) -> Parity:
    photos, labels, *truth = known
    return compare_with(Reference(photos, labels, reference, *truth), probabilities, logits)  # type: ignore[arg-type]


def test_a_file_that_answers_alike_is_no_distance_away() -> None:
    parity = compare(REFERENCE, probabilities_of(REFERENCE), REFERENCE, PHOTOS, LABELS)
    assert (parity.probability_max, parity.logit_max, parity.flips) == (pytest.approx(0, abs=1e-15), 0, [])
    assert GATES["fp32"].failures(parity) == []


def test_a_flipped_decision_is_told_with_its_margin() -> None:
    logits = REFERENCE.copy()
    logits[2] = [0.0, 0.1]
    parity = compare(REFERENCE, probabilities_of(logits), logits, PHOTOS, LABELS)
    assert parity.logit_max == pytest.approx(0.1)
    (flip,) = parity.flips
    assert (flip["photo"], flip["learner"], flip["file"]) == ("pug_3.jpg", "dog", "cat")
    assert flip["margin"] == pytest.approx(np.tanh(0.05))


def test_errors_are_counted_against_the_truth_that_names_tell() -> None:
    parity = compare(
        REFERENCE, probabilities_of(-REFERENCE), -REFERENCE, PHOTOS, LABELS, true_classes(PHOTOS, "species", LABELS)
    )
    assert (parity.judged, parity.errors, parity.original_errors) == (3, 3, 0)
    assert parity.score("three photos")["errors"] == 3


def test_a_photo_whose_breed_is_unknown_is_not_judged() -> None:
    assert true_classes(PHOTOS, "breed", ("pug", "beagle")) == [1, None, 0]
    assert true_classes([Path("horse/1.jpg")], "folder", ("cow", "horse")) == [1]


def test_a_gate_names_what_fails_it() -> None:
    logits = np.add(REFERENCE, [[0.0, 0.01]])
    parity = compare(REFERENCE, probabilities_of(logits), logits, PHOTOS, LABELS)
    assert Gate(1, 1, 1).failures(parity) == []
    (largest, p99) = GATES["fp32"].failures(parity)
    assert largest == "largest |Δ probability| is 0.0025, over 1e-05"
    assert p99.startswith("99th percentile of |Δ probability|")


def test_what_is_not_a_number_fails_a_gate() -> None:
    parity = compare(REFERENCE, REFERENCE * np.nan, REFERENCE, PHOTOS, LABELS)
    assert "largest |Δ probability| is nan, over 1e-05" in GATES["fp32"].failures(parity)


def test_photos_of_the_same_name_are_told_apart() -> None:
    photos = [Path("cats/1.jpg"), Path("dogs/1.jpg"), Path("dogs/2.jpg")]
    assert photo_names(photos) == ["cats/1.jpg", "dogs/1.jpg", "2.jpg"]


def test_the_wilson_interval_is_the_books() -> None:
    """Brown, Cai and DasGupta (2001) give the formula; 7 of 1,000 is 0.34 % to 1.44 %."""
    assert wilson_interval(7, 1000) == pytest.approx((0.0034, 0.0144), abs=5e-5)
    assert wilson_interval(0, 10)[0] == 0.0


def export(*arguments: object) -> Result:
    return cli_runner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_source_that_is_none_is_one_line_and_exit_2(tmp_path: Path, drawn_photos: Path) -> None:
    (tmp_path / "no.pkl").write_bytes(b"not a pickle")
    for source in (tmp_path / "nowhere.pkl", tmp_path / "no.pkl", tmp_path):
        done = export(source, "--out", tmp_path / "out", "--photos", drawn_photos)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1].startswith(f"Error: {source}: ") and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_that_answers_otherwise_is_refused_and_not_put_in_place(
    drawn_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Learner whose statistics change after they were read: what export measures must catch it."""
    honest = PixelsToAnswers.__init__

    def wrong_mean(
        self: PixelsToAnswers, model: nn.Module, width: int, statistics: Statistics, *others: Any, **named: Any
    ) -> None:
        honest(self, model, width, ((-2.0, 0.0, 2.0), statistics[1]), *others, **named)

    monkeypatch.setattr(PixelsToAnswers, "__init__", wrong_mean)
    done = export(SMALL_LEARNER, "--out", tmp_path / "out", "--photos", drawn_photos, "--limit", "4")
    assert done.exit_code == 1, done.stderr
    assert "Error: fp32: largest |Δ probability| is " in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(drawn_photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "file" / "out"
    out.parent.write_text("no folder")
    done = export(SMALL_LEARNER, "--out", out, "--photos", drawn_photos)
    assert (done.exit_code, done.stderr) == (2, f"Error: {out}: cannot be written to (give another --out)\n")


def test_a_photo_that_cannot_be_read_is_one_line_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "b.jpg").write_text("not a photo")
    done = export(SMALL_LEARNER, "--out", tmp_path / "out", "--photos", tmp_path / "photos", "--precision", "fp32")
    assert done.exit_code == 2 and "b.jpg: not a photo in a known format" in done.stderr.splitlines()[-1]


def test_a_precision_that_fails_its_gate_takes_only_its_own_files_out(tmp_path: Path) -> None:
    moved = np.add(REFERENCE, [[0.0, 0.5]])
    good, bad = (compare(REFERENCE, probabilities_of(logits), logits, PHOTOS, LABELS) for logits in (REFERENCE, moved))
    for name in ("model-fp32.onnx", "card-fp32.md", "model-int8.onnx", "card-int8.md"):
        (tmp_path / name).touch()
    refused = take_out_failures({"fp32": good, "int8": bad}, tmp_path)
    assert list(refused) == ["int8"] and refused["int8"].startswith("int8: 99th percentile of |Δ probability| is ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card-fp32.md", "model-fp32.onnx"]
    with pytest.raises(ParityError, match="no file is written"):
        take_out_failures({"fp32": bad}, tmp_path)
