"""`petinfer info`: what a model file says of itself, with hashes that can be computed again."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from petinfer.classifier import BUNDLED_MODEL
from petinfer.cli import main
from petinfer.session.model_file import digest, read_spec

from ..conftest import REPOSITORY, cli_runner
from .test_graph import SOUND, model


def described(*arguments: str) -> dict[str, Any]:
    result = cli_runner().invoke(main, ["info", "--json", *arguments])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def steps(about: dict[str, Any]) -> dict[str, str | None]:
    return {each["step"]: each["sha256"] for each in about["chain"]}


def test_the_bundled_model_is_described() -> None:
    about, spec = described(), read_spec(BUNDLED_MODEL)
    assert (about["labels"], about["score"], about["parity"]) == (list(spec.labels), spec.score, spec.parity)
    assert about["resize"] == {"method": "crop", "size": [224, 224], "padding": "reflection", "resample": "bilinear"}
    assert about["outputs"] == {"probabilities": ["batch", 2], "logits": ["batch", 2]}
    assert about["digest"] == digest(BUNDLED_MODEL, spec.sha256) and about["digest_matches"]


def test_each_known_sha256_can_be_computed_again() -> None:
    origin, found = read_spec(BUNDLED_MODEL).origin, steps(described())
    settings = json.dumps(origin["recipe"], sort_keys=True).encode()
    assert list(found)[:5] == ["photo list", "starting weights", "recipe", "Learner", "model file"]
    assert found["photo list"] == origin["photos"]["split_sha256"]
    assert found["starting weights"] == origin["weights"]["sha256"]
    assert found["recipe"] == hashlib.sha256(settings).hexdigest()
    assert found["model file"] == hashlib.sha256(BUNDLED_MODEL.read_bytes()).hexdigest()


def test_the_text_says_the_same() -> None:
    lines = cli_runner().invoke(main, ["info"]).stdout.splitlines()
    assert "labels   dog, cat" in lines
    assert "outputs  probabilities float32 [batch, 2], logits float32 [batch, 2]" in lines
    assert "input    image uint8 [batch, 224, 224, 3]: crop, bilinear, upright" in lines
    assert any(line.startswith("score    21 of 1000 photos of test wrong: 2.10%") for line in lines)
    for step, sha256 in steps(described()).items():
        assert any(line.startswith(step) and line.endswith(f"sha256 {sha256 or 'unknown'}") for line in lines)


def test_a_model_of_unknown_origin_is_described(tmp_path: Path) -> None:
    """Any JSON is allowed in ``origin``, also what looks like a hash and is none."""
    path = tmp_path / "model.onnx"
    known = read_spec(BUNDLED_MODEL)
    for origin in ({}, {"photos": 3, "weights": {"sha256": "\x1b[2J"}, "recipe": [], "learner": {"file": "\x1b[2J"}}):
        spec = replace(known, origin=origin, score={"errors": "some"}, parity={}, golden={})
        path.write_bytes(model(SOUND, spec=spec))
        found = steps(described(str(path)))
        assert [found.pop("model file") is None, *(value for value in found.values() if value)] == [False]
        text = cli_runner().invoke(main, ["info", str(path)]).stdout
        assert "\x1b" not in text and 'score    {"errors": "some"}' in text


def test_a_changed_file_is_said_to_be_changed(tmp_path: Path) -> None:
    content = bytearray(BUNDLED_MODEL.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "changed.onnx").write_bytes(content)
    assert not described(str(tmp_path / "changed.onnx"))["digest_matches"]
    lines = cli_runner().invoke(main, ["info", str(tmp_path / "changed.onnx")]).stdout.splitlines()
    assert any(line.startswith("digest ") and line.endswith("it was changed") for line in lines)


def test_a_file_that_is_not_a_model_is_one_line_and_2(tmp_path: Path) -> None:
    result = cli_runner().invoke(main, ["info", str(tmp_path / "absent.onnx")])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no such model file" in result.stderr


def test_the_wheel_is_the_last_step(tmp_path: Path) -> None:
    """Installed as pip does it: the package's files, and a RECORD and direct_url.json that name their hashes."""
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, check=True, capture_output=True, timeout=120, cwd=REPOSITORY)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (info,) = (tmp_path / "site").glob("*.dist-info")
    archive = {"archive_info": {"hashes": {"sha256": sha256}}, "url": f"file://{wheel}"}
    (info / "direct_url.json").write_text(json.dumps(archive))
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from petinfer.cli import main; main()"
    command = [sys.executable, "-c", code, tmp_path / "site", "info", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120, text=True, cwd=tmp_path)
    about = json.loads(done.stdout)
    assert about["model"].startswith(str(tmp_path / "site"))
    last, listed = about["chain"][-1], urlsafe_b64encode(bytes.fromhex(about["chain"][-1]["model_sha256"])).decode()
    assert (last["step"], last["sha256"], last["model_sha256"]) == ("wheel", sha256, about["chain"][-2]["sha256"])
    bill = info / "sboms" / "pets-int8.cdx.json"
    assert json.loads(bill.read_text())["metadata"]["component"]["hashes"][0]["content"] == last["model_sha256"]
    assert f"pets-int8.onnx,sha256={listed.rstrip('=')}," in (info / "RECORD").read_text()
