"""Familiarity of a finished model file, fitted again: the rest of the file stays as it is."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from export.onnx_file.sbom import sbom_path
from export.refit import main
from petinfer import Classifier
from petinfer.session.opening import model_path
from petinfer.verify import verify

from ..conftest import cli_runner, draw, obeys_ctrl_c
from ..runtime.several_labels import colours_model

LITE = model_path("lite")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of 100 photos to fit on and to scale on, and 30 of noise to fit on and to measure."""
    folder = tmp_path_factory.mktemp("photos")
    for part, first in (("train", 1000), ("held-back", 2000)):
        (folder / part).mkdir()
        for i in range(50):
            draw("standing", first + i).save(folder / part / f"Abyssinian_{i}.png")
            draw("lying", first + 100 + i).save(folder / part / f"beagle_{i}.png")
    random = np.random.default_rng(0)
    for part in ("unfamiliar", "others"):
        (folder / part).mkdir()
        for i in range(30):
            noise = random.integers(0, 256, (260, 260, 3), np.uint8)
            Image.fromarray(noise).save(folder / part / f"{i}.png")
    return folder


def run(drawn: Path, out: Path, model: Path = LITE, **folders: str) -> Result:
    """The command; ``folders`` replaces what its options name, ``""`` leaves an option out."""
    named = {"calibrate": "train", "photos": "held-back", "unfamiliar": "unfamiliar", "others": "others"} | folders
    options = [part for name, each in named.items() if each for part in (f"--{name}", str(drawn / each))]
    return cli_runner().invoke(main, [str(model), "--out", str(out), *options])


@pytest.fixture(scope="module")
def refitted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled lite with another familiarity."""
    out = tmp_path_factory.mktemp("out") / "deep" / "model.onnx"
    done = run(photos, out)
    assert done.exit_code == 0, done.output
    assert (
        "| familiarity | fitted on 100 training photos and 30 of other things, scaled on 100 held-back" in done.stdout
    )
    return out


def test_familiarity_is_on_the_scale_of_the_new_photos(refitted: Path, photos: Path) -> None:
    """Of 100 photos, 0 is between the first and the second, and 1 between the middle two."""
    classifier = Classifier(refitted)
    held_back, others = (
        np.array([each.familiarity for each in classifier.predict_batch(sorted((photos / part).iterdir()))], np.float64)
        for part in ("held-back", "others")
    )
    assert sum(held_back < -1e-3) == 1 and abs(np.median(held_back) - 1) <= 1e-3
    assert others.max() < held_back.min()
    described = classifier.spec.familiarity
    assert described is not None and (described.photos, described.held_back, described.others) == (100, 100, 30)
    assert [row["others_answered"]["count"] for row in described.table] == [0, 0, 0]


def test_all_other_answers_are_the_same_to_the_bit(refitted: Path, photos: Path) -> None:
    before, after = Classifier("lite"), Classifier(refitted)
    for photo in sorted((photos / "held-back").iterdir())[::20]:
        pixels = before.pixels(photo)[np.newaxis]
        names = ["probabilities", "logits", "features", "heat"]
        for name, old, new in zip(names, before.outputs(pixels, *names), after.outputs(pixels, *names), strict=True):
            np.testing.assert_array_equal(old, new, name)


def test_the_new_file_is_verified_and_described(refitted: Path) -> None:
    spec, bundled = Classifier(refitted).spec, Classifier("lite").spec
    assert verify(Classifier(refitted)).failures == ()
    assert (spec.origin, spec.score, spec.parity) == (bundled.origin, bundled.score, bundled.parity)
    assert spec.sha256 in refitted.with_suffix(".md").read_text(encoding="utf-8")
    component = json.loads(sbom_path(refitted).read_text(encoding="utf-8"))["metadata"]["component"]
    assert component["hashes"][0]["content"] == hashlib.sha256(refitted.read_bytes()).hexdigest()


def test_without_photos_of_other_things_none_are_mentioned(photos: Path, tmp_path: Path) -> None:
    done = run(photos, tmp_path / "model.onnx", unfamiliar="", others="")
    assert done.exit_code == 0, done.output
    described = Classifier(tmp_path / "model.onnx").spec.familiarity
    assert described is not None and described.others == 0 and "others_answered" not in described.table[0]
    assert '"others"' not in Classifier(tmp_path / "model.onnx").spec.to_json()


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({"calibrate": "unfamiliar"}, "--calibrate: 30 photos, familiarity needs 100"),
        ({"photos": "others"}, "--photos: 30 photos, familiarity needs 100"),
        ({"photos": "train"}, "--calibrate and --photos: 100 photos are in both"),
        ({"others": "unfamiliar"}, "--unfamiliar and --others: 30 photos are in both"),
    ],
    ids=["few to fit on", "few to scale on", "the same photos", "the same others"],
)
def test_photos_that_cannot_be_used_are_one_line(
    folders: dict[str, str], message: str, photos: Path, tmp_path: Path
) -> None:
    done = run(photos, tmp_path / "model.onnx", **folders)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_without_features_is_refused(photos: Path, tmp_path: Path) -> None:
    done = run(photos, tmp_path / "model.onnx", model=colours_model(tmp_path / "plain.onnx"))
    assert done.exit_code == 2 and "plain.onnx: has no features to fit familiarity on" in done.stderr


def test_a_folder_that_cannot_be_written_is_one_line(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(photos, tmp_path / "file" / "model.onnx")
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "give another --out" in done.stderr


def test_ctrl_c_exits_with_130_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    folders = ["--calibrate", photos / "train", "--photos", photos / "held-back"]
    command = [sys.executable, "-m", "export.refit", LITE, "--out", tmp_path / "model.onnx", *folders]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=obeys_ctrl_c) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("training photos")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(120) == 130
        assert process.stderr.read() == "Interrupted: nothing was written\n"
    assert not list(tmp_path.iterdir())
