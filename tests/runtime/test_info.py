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

from petinfer import __version__
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
    assert about["outputs"] == {name: ["batch", *shape] for name, shape in spec.outputs.items()}
    assert {"probabilities": ["batch", 2], "logits": ["batch", 2]}.items() <= about["outputs"].items()
    assert about["digest"] == digest(BUNDLED_MODEL, spec.sha256) and about["digest_matches"]


def test_each_known_sha256_can_be_computed_again() -> None:
    origin, found = read_spec(BUNDLED_MODEL).origin, steps(described())
    settings = json.dumps(origin["recipe"], sort_keys=True).encode()
    known = ["photo list", "photos", "starting weights", "recipe", "Learner", "model file"]
    assert list(found)[:6] == known
    assert found["photos"] == origin["photos"]["content_sha256"]
    assert found["photo list"] == origin["photos"]["split_sha256"]
    assert found["starting weights"] == origin["weights"]["sha256"]
    assert found["recipe"] == hashlib.sha256(settings).hexdigest()
    assert found["model file"] == hashlib.sha256(BUNDLED_MODEL.read_bytes()).hexdigest()


def test_the_photos_content_and_the_teacher_are_steps(tmp_path: Path) -> None:
    path, known = tmp_path / "model.onnx", read_spec(BUNDLED_MODEL)
    others = {"photos": 12, "content_sha256": "3" * 64}
    photos = known.origin["photos"] | {"content_sha256": "1" * 64, "unfamiliar": others}
    origin = known.origin | {"photos": photos, "teacher": {"file": "teacher.pth", "sha256": "2" * 64}}
    path.write_bytes(model(SOUND, spec=replace(known, origin=origin)))
    found = steps(described(str(path)))
    assert list(found)[:6] == [
        "photo list",
        "photos",
        "photos of other things",
        "starting weights",
        "teacher",
        "recipe",
    ]
    assert (found["photos"], found["teacher"], found["photos of other things"]) == ("1" * 64, "2" * 64, "3" * 64)


def test_the_text_says_the_same() -> None:
    lines = cli_runner().invoke(main, ["info"]).stdout.splitlines()
    assert "labels   dog, cat" in lines
    outputs = "outputs  probabilities float32 [batch, 2], logits float32 [batch, 2]"
    assert any(line.startswith(outputs) for line in lines)
    assert "input    image uint8 [batch, 224, 224, 3]: crop, bilinear, upright" in lines
    errors = read_spec(BUNDLED_MODEL).score["errors"]
    score = f"score    {errors} of 1000 photos of test wrong: {errors / 1000:.2%}"
    assert any(line.startswith(score) for line in lines)
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


LETTERS = {letter: letter * 64 for letter in "abc"}
SMALL = replace(
    read_spec(BUNDLED_MODEL),
    familiarity=None,
    features=None,
    heat=None,
    labels=tuple(f"class {i}" for i in range(48)),
    resize=replace(read_spec(BUNDLED_MODEL).resize, height=4, width=4),
    golden={},
    score={"errors": 3, "photos": 40, "on": "holidays", "interval": [0.02584, 0.19857]},
    parity={"max_probability_difference": 0.000123, "flips": 2, "photos": 50},
    origin={
        "photos": {"train": 30, "valid": 10, "split_sha256": LETTERS["a"]},
        "weights": {"file": "start.safetensors", "sha256": LETTERS["b"]},
        "recipe": {"size": 4, "lr": 0.1},
        "learner": {"file": "export.pkl", "sha256": LETTERS["c"]},
    },
)


def small_model(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model(SOUND, spec=replace(SMALL, **changes)))
    return path


def text_of(path: Path) -> list[str]:
    return cli_runner().invoke(main, ["info", str(path)]).stdout.splitlines()


def test_the_text_has_what_export_recorded(tmp_path: Path) -> None:
    path = small_model(tmp_path / "small.onnx")
    recipe, file = (hashlib.sha256(each).hexdigest() for each in (b'{"lr": 0.1, "size": 4}', path.read_bytes()))
    assert text_of(path) == [
        f"model    {path}, {SMALL.precision}",
        f"labels   {', '.join(SMALL.labels)}",
        "input    image uint8 [batch, 4, 4, 3]: crop, bilinear, upright",
        "outputs  probabilities float32 [batch, 48], logits float32 [batch, 48]",
        "score    3 of 40 photos of holidays wrong: 7.50%, 95 % interval 2.58% to 19.86%",
        "parity   at most 1.2e-04 in a probability, 2 decisions flipped, on 50 photos",
        f"digest   {SMALL.sha256}, which the file does not have: it was changed",
        "",
        f"photo list        30 to train on, 10 to validate            sha256 {LETTERS['a']}",
        f"starting weights  start.safetensors                         sha256 {LETTERS['b']}",
        f"recipe            2 settings                                sha256 {recipe}",
        f"Learner           export.pkl                                sha256 {LETTERS['c']}",
        f"model file        small.onnx                                sha256 {file}",
        "wheel             unknown                                   sha256 unknown",
    ]


def test_photos_by_content_and_a_teacher_are_steps_where_they_are_recorded(tmp_path: Path) -> None:
    photos = {**SMALL.origin["photos"], "content_sha256": LETTERS["b"]}
    teacher = {"file": "teacher.pkl", "sha256": LETTERS["c"]}
    for origin, sha256 in (({"teacher": teacher}, LETTERS["c"]), ({"teacher": {"note": "none"}}, "unknown")):
        path = small_model(tmp_path / "small.onnx", origin={**SMALL.origin, "photos": photos, **origin})
        what = origin["teacher"].get("file", "unknown")
        assert text_of(path)[9:12] == [
            f"photos            30 to train on, 10 to validate            sha256 {LETTERS['b']}",
            f"starting weights  start.safetensors                         sha256 {LETTERS['b']}",
            f"teacher           {what:42}sha256 {sha256}",
        ]


def test_the_text_has_what_is_not_known(tmp_path: Path) -> None:
    origin = {"photos": {"train": 30}, "weights": {}, "recipe": {}}
    path = small_model(tmp_path / "small.onnx", score={}, parity={}, origin=origin)
    assert [line for line in text_of(path) if line.endswith("unknown")] == [
        "score    unknown",
        "parity   unknown",
        "photo list        unknown                                   sha256 unknown",
        "starting weights  unknown                                   sha256 unknown",
        "recipe            unknown                                   sha256 unknown",
        "Learner           unknown                                   sha256 unknown",
        "wheel             unknown                                   sha256 unknown",
    ]


def test_a_long_name_of_a_file_is_cut_and_a_threshold_is_rounded(tmp_path: Path) -> None:
    origin = {"weights": {"file": "w" * 50}}
    lines = text_of(small_model(tmp_path / "small.onnx", origin=origin, threshold=0.1 + 0.2))
    assert f"starting weights  {'w' * 40}  sha256 unknown" in lines
    assert "a photo  has every label with a probability over 0.3" in lines


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"score": {"errors": 0, "photos": 0, "on": "x", "interval": [0, 1]}}, '{"errors": 0, "photos": 0, "on": "x"'),
        ({"score": {"errors": 3, "photos": 4, "on": "x", "interval": [0]}}, '{"errors": 3, "photos": 4, "on": "x"'),
        ({"parity": {"max_probability_difference": "small", "flips": 0, "photos": 1}}, '{"max_probability_difference"'),
    ],
)
def test_figures_that_mean_nothing_are_shown_as_they_are(parts: dict[str, Any], expected: str, tmp_path: Path) -> None:
    lines = text_of(small_model(tmp_path / "small.onnx", **parts))
    assert any(line[9:].startswith(expected) for line in lines)


def installed(site: Path, listed: str, url: str | None = None) -> Path:
    """A model file in a folder of packages, with the records that pip writes of petinfer."""
    path = small_model(site / "petinfer" / "models" / "small.onnx")
    about = site / "petinfer-9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: petinfer\nVersion: 9\n")
    sha256 = urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
    (about / "RECORD").write_text(listed.format(sha256))
    if url is not None:
        (about / "direct_url.json").write_text(url)
    return path


def wheel_step(path: Path) -> dict[str, Any]:
    last: dict[str, Any] = described(str(path))["chain"][-1]
    return last


OTHERS = "petinfer/__init__.py,sha256=YQ,1\nother/small.onnx,,\npetinfer-9.dist-info/RECORD,,\n"
LISTED = OTHERS + "petinfer/models/small.onnx,sha256={},9\n"
UNKNOWN_WHEEL = {"step": "wheel", "what": "unknown", "sha256": None}


@pytest.mark.parametrize(
    ("url", "sha256"),
    [
        (json.dumps({"archive_info": {"hashes": {"sha256": LETTERS["a"]}}}), LETTERS["a"]),
        (json.dumps({"archive_info": {"hashes": {"sha256": "abc"}}}), None),
        (json.dumps({"dir_info": {"editable": True}}), None),
        (None, None),
    ],
)
def test_the_wheel_lists_the_model_file(
    url: str | None, sha256: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = installed(tmp_path, LISTED, url)
    monkeypatch.syspath_prepend(tmp_path)
    model_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert wheel_step(path) == {
        "step": "wheel",
        "what": f"petinfer {__version__}",
        "sha256": sha256,
        "model_sha256": model_sha256,
    }
    assert text_of(path)[-2:] == [
        f"wheel             petinfer {__version__:33}sha256 {sha256 or 'unknown'}",
        "                  which lists this model file",
    ]


def test_a_wheel_that_lists_another_model_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = installed(tmp_path, LISTED)
    path.write_bytes(path.read_bytes() + b"\0\0")
    monkeypatch.syspath_prepend(tmp_path)
    assert text_of(path)[-1] == "                  which lists ANOTHER model file"


@pytest.mark.parametrize("listed", ["", OTHERS, OTHERS + "petinfer/models/small.onnx,,\n"])
def test_a_wheel_that_does_not_list_the_file_is_unknown(
    listed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = installed(tmp_path, listed)
    monkeypatch.syspath_prepend(tmp_path)
    assert wheel_step(path) == UNKNOWN_WHEEL


def test_a_model_file_beside_the_installed_one_has_no_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = installed(tmp_path / "site", LISTED)
    other = small_model(tmp_path / "small.onnx")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert wheel_step(other) == UNKNOWN_WHEEL
    path.unlink()
    assert wheel_step(other) == UNKNOWN_WHEEL
