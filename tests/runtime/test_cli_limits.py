"""Limits, heat maps and features on the command line, by a small graph whose numbers are the photo's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petinfer import Classifier
from petinfer.classifier import BUNDLED_MODEL
from petinfer.cli.app import main

from ..conftest import cli_runner
from .several_labels import colours_model
from .test_limits import limits_model, photo


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return limits_model(tmp_path / "limits.onnx")


@pytest.fixture
def dim(tmp_path: Path) -> Path:
    """A photo with the familiarity -7."""
    return saved(tmp_path / "dim.png", 3)


@pytest.fixture
def bright(tmp_path: Path) -> Path:
    """A photo with the familiarity 190."""
    return saved(tmp_path / "bright.png", 200)


def saved(path: Path, value: int) -> Path:
    Image.fromarray(photo(value)).save(path)
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    done = cli_runner().invoke(main, [str(each) for each in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_an_unfamiliar_photo_has_no_label_but_probabilities(model: Path, dim: Path, bright: Path) -> None:
    code, out, _ = run("classify", "--model", model, "--json", "--min-familiarity", "0", dim, bright)
    unsure, sure = json.loads(out)
    assert code == 0
    assert (unsure["label"], unsure["sure"], unsure["familiarity"]) == (None, False, -7)
    assert set(unsure["probabilities"]) == {"dark", "light"} and unsure["probability"] > 0.5
    assert (sure["label"], sure["familiarity"]) == ("light", 190) and "sure" not in sure


def test_without_limits_every_photo_has_a_label(model: Path, dim: Path) -> None:
    _, out, _ = run("classify", "--model", model, "--json", dim)
    assert json.loads(out)[0]["label"] == "dark"


def test_the_table_and_the_summary_say_unsure(model: Path, dim: Path, bright: Path) -> None:
    code, out, error = run("classify", "--model", model, "--min-coverage", "0.5", dim, bright)
    first, second = out.splitlines()
    assert code == 0
    assert first.split() == ["unsure", str(dim)] and second.split() == ["light", "100.00%", str(bright)]
    assert error.splitlines()[-1] == "1 unsure, 1 light"


def test_an_unsure_photo_is_copied_to_a_folder_of_its_own(model: Path, dim: Path, tmp_path: Path) -> None:
    code, _, _ = run("classify", "--model", model, "--min-familiarity", "0", "--copy-to", tmp_path / "sorted", dim)
    assert code == 0 and (tmp_path / "sorted" / "unsure" / "dim.png").is_file()


def test_csv_has_the_familiarity(model: Path, dim: Path) -> None:
    _, out, _ = run("classify", "--model", model, "--csv", dim)
    header, row = (line.split(",") for line in out.splitlines())
    assert row[header.index("familiarity")] == "-7.0"


def test_a_file_without_familiarity_refuses_the_limit(bright: Path, tmp_path: Path) -> None:
    model = colours_model(tmp_path / "plain.onnx")
    code, _, error = run("classify", "--model", model, "--min-familiarity", "0", bright)
    assert code == 2 and "has no familiarity (leave the limit out" in error and error.count("\n") == 1


def test_a_heat_map_is_written_for_each_photo(model: Path, bright: Path, tmp_path: Path) -> None:
    """The heat of a photo of 200 is 200 / 255 everywhere, so each place is drawn in one colour."""
    code, out, _ = run("classify", "--model", model, "--jsonl", "--heat", tmp_path / "maps", bright, bright)
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [Path(each["heat"]).name for each in records] == ["bright.png.png", "bright.png-2.png"]
    heat = 200 / 255
    expected = np.array([200, 200, 200]) * (1 - 0.65 * heat) + np.array([255, 255 * heat, 0]) * 0.65 * heat
    with Image.open(records[0]["heat"]) as image:
        assert image.size == (4, 4)
        assert np.abs(np.asarray(image) - expected).max() <= 1


def test_an_unreadable_photo_has_an_error_and_no_heat_map(model: Path, bright: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    code, out, _ = run("classify", "--model", model, "--jsonl", "--heat", tmp_path, tmp_path / "bad.jpg", bright)
    bad, good = (json.loads(line) for line in out.splitlines())
    assert code == 1 and "heat" not in bad and Path(good["heat"]).is_file()


def test_features_are_a_row_per_photo(model: Path, dim: Path, bright: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    out = tmp_path / "features.npz"
    code, _, error = run("features", "--model", model, "--out", out, dim, tmp_path / "bad.jpg", bright)
    with np.load(out) as found:
        assert found["paths"].tolist() == [str(dim), str(bright)]
        assert found["features"].tolist() == [[3, 3, 3], [200, 200, 200]] and found["features"].dtype == np.float32
        assert len(str(found["model"])) == 64
    assert code == 1 and "bad.jpg" in error and "2 photos written" in error


def test_features_need_a_name_that_ends_in_npz(bright: Path) -> None:
    code, _, error = run("features", "--out", "features.csv", bright)
    assert code == 2 and "does not end in .npz" in error


def test_a_file_called_lite_is_not_the_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lite").write_bytes(BUNDLED_MODEL.read_bytes())
    digests = [json.loads(run("info", "--json", model)[1])["digest"] for model in ("lite", "./lite")]
    assert digests == [Classifier("lite").spec.sha256, Classifier().spec.sha256]
    assert json.loads(run("verify", "--json", "--model", "./lite")[1])["model"] == "lite"


def test_the_small_bundled_model_is_named_lite(cat_photo: Path, tmp_path: Path) -> None:
    """Noise is unfamiliar to it; it has features and heat maps."""
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save(noise)
    code, out, _ = run("classify", "--model", "lite", "--json", "--min-familiarity", "0", cat_photo, noise)
    cat, nothing = json.loads(out)
    assert code == 0 and cat["label"] == "cat" and cat["probability"] > 0.95 and cat["familiarity"] > 0
    assert nothing["label"] is None and nothing["familiarity"] < 0
    classifier = Classifier("lite")
    assert classifier.features(cat_photo).shape == (1280,)
    assert classifier.heat_map(cat_photo).max() == 1
    assert run("verify", "--model", "lite")[0] == 0
    assert json.loads(run("info", "--json", "lite")[1])["digest"] == classifier.spec.sha256
