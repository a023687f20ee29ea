"""`verify` reports each way in which a device can differ: a real run, compared with a description that was changed."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petinfer import Classifier, ModelError
from petinfer.classifier import BUNDLED_MODEL
from petinfer.image import read
from petinfer.session.model_file import digest
from petinfer.spec import Golden
from petinfer.verify import INT8_ELSEWHERE, TOLERANCES, Check, Verdict, _colours_moved, onnxruntime_wheels, verify

from .test_limits import limits_model

PNG, JPEG = "cat-palette.png", "cat.jpg"
OTHER = "0" * 64


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


class Elsewhere(Classifier):
    """A classifier that says another provider computes."""

    provider = "OtherExecutionProvider"


def verified(classifier: Classifier, photo: str = PNG, **changes: Any) -> Verdict:
    """The verdict on one golden photo, of which the description says something else."""
    golden = {photo: replace(classifier.spec.golden[photo], **changes)}
    return with_spec(classifier, golden=golden)


def with_spec(classifier: Classifier, **changes: Any) -> Verdict:
    original = classifier.spec
    classifier.spec = replace(original, **changes)
    try:
        return verify(classifier)
    finally:
        classifier.spec = original


def shifted(classifier: Classifier, photo: str, by: float) -> tuple[float, ...]:
    """What this device computes for a golden photo, with its first probability larger by ``by``."""
    (check,) = verified(classifier, photo, file=(0.0, 0.0)).checks
    first, *rest = classifier.run(classifier.pixels(golden_path(photo))[None])[0][0].tolist()
    assert check.moved == pytest.approx(max(first, *rest))
    return (first + by, *rest)


def golden_path(photo: str) -> Path:
    return BUNDLED_MODEL.parent.parent / "golden" / photo


@pytest.mark.parametrize("photo", [PNG, JPEG])
def test_an_unchanged_description_is_verified(photo: str, classifier: Classifier) -> None:
    found = verified(classifier, photo)
    (check,) = found.checks
    assert (found.failures, found.notes) == ((), ())
    assert (check.photo, check.size_equal, check.decoded_equal, check.pixels_equal) == (photo, True, True, True)
    assert not check.flipped


@pytest.mark.parametrize(
    ("photo", "changes", "failures"),
    [
        (PNG, {"size": (1, 1)}, ["decoded to another image (install another version of Pillow)"]),
        (JPEG, {"size": (1, 1)}, ["decoded to another image (install another version of Pillow)"]),
        (PNG, {"decoded": OTHER}, ["decoded to another image (install another version of Pillow)"]),
        (JPEG, {"decoded": OTHER}, []),
        (JPEG, {"decoded": OTHER, "pixels": OTHER}, []),
        (PNG, {"pixels": OTHER}, ["decoded equally but resized to other pixels (install another version of Pillow)"]),
        (JPEG, {"pixels": OTHER}, ["decoded equally but resized to other pixels (install another version of Pillow)"]),
        (PNG, {"learner": (1.0, 0.0)}, ["the decision is not the Learner's (do not use this file on this device)"]),
    ],
)
def test_what_differs_is_a_failure_of_its_own(
    photo: str, changes: dict[str, Any], failures: list[str], classifier: Classifier
) -> None:
    assert verified(classifier, photo, **changes).failures == tuple(f"{photo}: {failure}" for failure in failures)


def test_another_jpeg_decoder_is_noted_with_the_photos(classifier: Classifier) -> None:
    golden = {name: replace(classifier.spec.golden[name], decoded=OTHER) for name in (JPEG, "cat-grey.jpg")}
    note = "this machine's JPEG decoder gives other pixels than the one where the model was exported"
    assert with_spec(classifier, golden=golden).notes == (f"{note}: {JPEG}, cat-grey.jpg",)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_probability_may_differ_by_the_tolerance_alone(precision: str, classifier: Classifier) -> None:
    tolerance = {"fp32": 1e-5, "fp16": 5e-3, "int8": 5e-3}[precision]
    assert TOLERANCES[precision] == tolerance
    for by, fails in ((0.9 * tolerance, False), (1.1 * tolerance, True)):
        golden = replace(classifier.spec.golden[PNG], file=shifted(classifier, PNG, by))
        found = with_spec(classifier, golden={PNG: golden}, precision=precision)
        assert found.checks[0].moved == pytest.approx(by, rel=0.01)
        moved = f"a probability differs by {found.checks[0].moved:.1e}, more than {tolerance:.0e}"
        assert found.failures == ((f'{PNG}: {moved} on CPUExecutionProvider (use device="cpu")',) if fails else ())


@pytest.mark.parametrize(("by", "failures"), [(0.04, 0), (0.06, 1)])
def test_a_jpeg_of_other_pixels_may_differ_by_5_percent(by: float, failures: int, classifier: Classifier) -> None:
    """It is the decoder's difference and not the device's; a larger one is another picture."""
    file = shifted(classifier, JPEG, by)
    assert len(verified(classifier, JPEG, decoded=OTHER, pixels=OTHER, file=file).failures) == failures


@pytest.mark.parametrize(("precision", "tolerance"), [("int8", 2e-2), ("fp16", 5e-3)])
def test_int8_alone_may_differ_more_on_other_providers(precision: str, tolerance: float) -> None:
    assert TOLERANCES["int8"] < INT8_ELSEWHERE == 2e-2
    classifier = Elsewhere()
    for by, fails in ((0.9 * tolerance, False), (1.1 * tolerance, True)):
        golden = {PNG: replace(classifier.spec.golden[PNG], file=shifted(classifier, PNG, by))}
        moved = f"a probability differs by {by:.1e}, more than {tolerance:.0e}"
        found = with_spec(classifier, golden=golden, precision=precision).failures
        assert found == ((f'{PNG}: {moved} on OtherExecutionProvider (use device="cpu")',) if fails else ())


def familiar(classifier: Classifier, by: float, photo: str = PNG, **changes: Any) -> tuple[Check, tuple[str, ...]]:
    """The check and the failures of a golden photo whose recorded familiarity is larger by ``by``."""
    decoded = read(golden_path(photo), "stored")
    pixels = classifier.pixels(golden_path(photo))
    answers, familiarity = (each[0] for each in classifier.outputs(pixels[None], "probabilities", "familiarity"))
    digests = [sha256(np.ascontiguousarray(each).tobytes()).hexdigest() for each in (decoded, pixels)]
    golden = Golden(decoded.size, *digests, tuple(answers.tolist()), tuple(answers.tolist()), float(familiarity) + by)
    found = with_spec(classifier, golden={photo: replace(golden, **changes)})
    return found.checks[0], found.failures[1:]  # the first is that the file's sha256 is not recorded


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-3), ("fp16", 5e-2), ("int8", 1e-1)])
def test_a_familiarity_may_differ_by_the_tolerance_alone(precision: str, limit: float, tmp_path: Path) -> None:
    classifier = Classifier(limits_model(tmp_path / "limits.onnx", precision=precision), orientation="stored")
    for by in (0.9 * limit, 1.1 * limit):
        for sign in (1, -1):
            check, failures = familiar(classifier, by * sign)
            assert check.familiarity_moved == pytest.approx(by, rel=1e-6)
            moved = f"familiarity differs by {by:.1e}, more than {limit:.0e}"
            expected = f"{PNG}: {moved} (do not use limits on it on this device)"
            assert failures == ((expected,) if by > limit else ())


def test_familiarity_is_compared_for_equal_pixels_on_the_cpu_alone(tmp_path: Path) -> None:
    path = limits_model(tmp_path / "limits.onnx")
    check, failures = familiar(Elsewhere(path, orientation="stored"), 1.0)
    assert (check.familiarity_moved, failures) == (pytest.approx(1), ())
    check, failures = familiar(Classifier(path, orientation="stored"), 1.0, JPEG, decoded=OTHER, pixels=OTHER)
    assert (check.familiarity_moved, failures) == (pytest.approx(1), ())


def test_without_a_recorded_familiarity_nothing_moved(classifier: Classifier, tmp_path: Path) -> None:
    assert verified(classifier, familiarity=None).checks[0].familiarity_moved == 0
    check, failures = familiar(Classifier(limits_model(tmp_path / "limits.onnx"), orientation="stored"), 0)
    assert (check.familiarity_moved, failures) == (0, ())


def test_the_colours_of_a_grey_model_are_compared_too() -> None:
    for photo in ("cat.jpg", "cat-grey.jpg"):
        grey = read(golden_path(photo), "stored", mode="L")
        assert _colours_moved(photo, np.asarray(grey)) < 1
        assert _colours_moved(photo, np.asarray(grey)[:, ::-1]) > 10


def test_an_image_of_fewer_than_four_pixels_has_other_colours() -> None:
    whole = np.asarray(read(golden_path(JPEG), "stored"))
    assert _colours_moved(JPEG, whole) < 1
    assert [_colours_moved(JPEG, whole[:n]) for n in (1, 3)] == [255, 255]
    assert _colours_moved(JPEG, whole[:, :3]) == 255
    assert _colours_moved(JPEG, whole[:4, :4]) < 255
    assert _colours_moved(PNG, whole[:1]) == 0


def installed(folder: Path, name: str, *files: str) -> None:
    """A distribution as pip installs one."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def test_two_wheels_of_onnxruntime_are_a_failure(
    tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, "Onnxruntime_GPU", "onnxruntime/__init__.py", "onnxruntime/capi/x.so")
    installed(tmp_path, "onnxruntime-ep-openvino", "onnxruntime_ep_openvino/__init__.py")
    installed(tmp_path, "something-else", "onnxruntime/__init__.py")
    (tmp_path / "nameless-1.0.dist-info").mkdir()
    (tmp_path / "nameless-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    here = onnxruntime_wheels()
    assert here[-1] == "onnxruntime-gpu" and len(here) == 2
    problem = "overwrite each other (pip uninstall all, then install one)"
    assert verified(classifier).failures == (f"{' and '.join(here)} {problem}",)


def test_a_file_with_another_sha256_is_not_the_exported_one(classifier: Classifier) -> None:
    golden = {PNG: classifier.spec.golden[PNG]}
    (failure,) = with_spec(classifier, golden=golden, sha256="f" * 64).failures
    assert failure == f"{BUNDLED_MODEL} is not the exported file: its sha256 differs (copy it again)"


def test_the_sha256_is_computed_with_zeros_in_its_place(tmp_path: Path) -> None:
    """The sums were computed with sha256sum."""
    (tmp_path / "model").write_bytes(b"before " + b"ab" * 32 + b" after")
    assert digest(tmp_path / "model", "ab" * 32) == EXPECTED
    assert digest(tmp_path / "model", "cd" * 32) != EXPECTED


EXPECTED = "49468610faf028d48f7a1af7742fc39cadedff7788082ed573bbc464324345b7"


def test_a_description_without_golden_answers_is_refused(classifier: Classifier) -> None:
    problem = "contains no golden answers to verify (export it with this version of petinfer)"
    with pytest.raises(ModelError) as refused:
        with_spec(classifier, golden={})
    assert str(refused.value) == f"{BUNDLED_MODEL}: {problem}"
