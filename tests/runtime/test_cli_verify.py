"""What `petinfer verify` prints and exits with, of a small model with one golden photo."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from petinfer import Classifier
from petinfer.verify import verify

from .test_cli import petinfer
from .test_devices import forget_plug_ins  # noqa: F401  used by each test here too
from .test_several_labels_verify import BLUE, golden_model

HEADING = "photo                         pixels   |Δp| file  |Δp| Learner"
VERIFIED = "1 of 1 photos with identical pixels, 0 decisions flipped: verified"
NOTE = "note: this machine's JPEG decoder gives other pixels than the one where the model was exported: cat.jpg"


def table(model: Path, row: str, *end: str) -> list[str]:
    return [f"{model}, fp32 on CPUExecutionProvider, 1 thread", "", HEADING, row, "", *end]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One that answers here what it answered where it was exported; the Learner's answer differs by 0.02."""
    return golden_model(tmp_path / "model.onnx", 0.5, BLUE + 0.02, BLUE + 5e-6)


def test_the_table_of_a_model_that_is_verified(model: Path) -> None:
    result = petinfer("verify", "--model", model, "--threads", 1)
    moved = verify(Classifier(model)).checks[0].moved  # 5e-6, in the rounding of this processor
    row = f"cat.jpg                        equal     {moved:.1e}       2.0e-02"
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == table(model, row, VERIFIED)


def test_the_table_and_the_errors_of_a_flipped_decision(tmp_path: Path) -> None:
    model = golden_model(tmp_path / "model.onnx", 0.5, BLUE + 0.4, BLUE + 0.4)
    result = petinfer("verify", "--model", model, "--threads", 1)
    row = "cat.jpg                        equal     4.0e-01       4.0e-01  flipped"
    end = "1 of 1 photos with identical pixels, 1 decision flipped: NOT verified"
    assert (result.exit_code, result.stdout.splitlines()) == (1, table(model, row, end))
    assert result.stderr.splitlines() == [
        "Error: cat.jpg: a probability differs by 4.0e-01, more than 1e-05 on CPUExecutionProvider (use --device cpu)",
        "Error: cat.jpg: the decision is not the Learner's (do not use this file on this device)",
    ]


@pytest.mark.parametrize(
    ("changes", "pixels", "note", "end", "status"),
    [
        ({"pixels": "0" * 64}, " differ", [], "NOT verified", 1),
        ({"pixels": "0" * 64, "decoded": "0" * 64}, "decoder", [NOTE, ""], "verified", 0),
    ],
)
def test_the_table_says_whether_decoding_or_resizing_differs(
    changes: dict[str, str], pixels: str, note: list[str], end: str, status: int, tmp_path: Path
) -> None:
    model = golden_model(tmp_path / "model.onnx", 0.5, BLUE, BLUE + 5e-6, **changes)
    result = petinfer("verify", "--model", model, "--threads", 1)
    row, last = result.stdout.splitlines()[3], result.stdout.splitlines()[5:]
    assert (result.exit_code, row[:36]) == (status, f"cat.jpg{'':22}{pixels}")
    assert last == [*note, f"0 of 1 photos with identical pixels, 0 decisions flipped: {end}"]


def test_json_is_the_verdict_and_what_it_is_about(model: Path) -> None:
    found = json.loads(petinfer("verify", "--model", model, "--device", "cpu", "--json").stdout)
    verdict = asdict(verify(Classifier(model)))
    about = {"model": str(model), "provider": "CPUExecutionProvider", "precision": "fp32", "passed": True}
    assert found == about | json.loads(json.dumps(verdict))
    golden_model(model, 0.5, BLUE + 0.4, BLUE + 0.4)
    result = petinfer("verify", "--model", model, "--json")
    assert (result.exit_code, json.loads(result.stdout)["passed"]) == (1, False)


def test_every_device_is_tried_and_one_that_does_not_work_is_told(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plug-in that onnxruntime cannot load stands for a device that does not work."""
    package = tmp_path / "onnxruntime_ep_webgpu"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('no driver')\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = petinfer("verify", "--model", model, "--providers", "--json", "--threads", 1)
    broken = [line for line in result.stderr.splitlines() if "webgpu" in line]
    assert broken[0].startswith("not verified: device webgpu: onnxruntime-ep-webgpu cannot be loaded: ")
    assert (result.exit_code, len(broken)) == (0, 1)
    found = [(each["provider"], each["passed"]) for each in json.loads(result.stdout)]
    assert found[-1] == ("CPUExecutionProvider", True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--providers", "--device", "cpu"], "Error: --providers tries every device; leave --device out"),
        (["--providers", "--threads", "4096"], "Error: --threads: 4096 requested, "),
    ],
)
def test_providers_are_refused_with_a_device_or_too_many_threads(options: list[str], message: str) -> None:
    result = petinfer("verify", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(message)
