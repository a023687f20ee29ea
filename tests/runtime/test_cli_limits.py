"""Limits below which a photo gets no label, heat maps and features, by the small bundled model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petinfer import Classifier, ModelError
from petinfer.cli.app import main

from ..conftest import cli_runner


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A picture of nothing."""
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save(path)
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    done = cli_runner().invoke(main, [str(each) for each in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_a_photo_of_nothing_has_no_label_and_all_probabilities(noise: Path, cat_photo: Path) -> None:
    code, out, _ = run("classify", "--model", "lite", "--json", "--min-familiarity", "0", noise, cat_photo)
    nothing, cat = json.loads(out)
    assert code == 0
    assert nothing["label"] is None and nothing["sure"] is False and nothing["familiarity"] < 0
    assert set(nothing["probabilities"]) == {"cat", "dog"} and nothing["probability"] > 0.5
    assert cat["label"] == "cat" and "sure" not in cat and cat["familiarity"] > 0


def test_without_limits_every_photo_has_a_label(noise: Path) -> None:
    _, out, _ = run("classify", "--model", "lite", "--json", noise)
    assert json.loads(out)[0]["label"] in ("cat", "dog")


def test_the_table_and_the_summary_say_unsure(noise: Path, cat_photo: Path) -> None:
    code, out, error = run("classify", "--model", "lite", "--min-familiarity", "0", noise, cat_photo)
    assert code == 0
    assert out.splitlines()[0] == f"unsure           {noise}"
    assert out.splitlines()[1].startswith("cat  ")
    assert error.splitlines()[-1] == "1 unsure, 1 cat"


def test_an_unsure_photo_is_copied_to_a_folder_of_its_own(noise: Path, tmp_path: Path) -> None:
    code, _, _ = run("classify", "--model", "lite", "--min-familiarity", "0", "--copy-to", tmp_path / "sorted", noise)
    assert code == 0 and (tmp_path / "sorted" / "unsure" / "noise.png").is_file()


def test_csv_has_the_familiarity(noise: Path) -> None:
    _, out, _ = run("classify", "--model", "lite", "--csv", noise)
    header, row = (line.split(",") for line in out.splitlines())
    expected = Classifier("lite").predict(noise).familiarity
    assert float(row[header.index("familiarity")]) == expected


def test_a_probability_can_be_the_limit(cat_photo: Path) -> None:
    probability = Classifier().predict(cat_photo).probability
    for limit, label in ((probability - 1e-6, "cat"), (probability + 1e-6, None)):
        assert Classifier(min_probability=limit).predict(cat_photo).label == label


def test_a_share_of_photos_chooses_the_limit() -> None:
    described = Classifier("lite").spec.familiarity
    assert described is not None
    assert Classifier("lite", min_coverage=0.95).min_familiarity == dict(described.coverage)[0.95]
    with pytest.raises(ValueError, match="min_coverage: chooses min_familiarity"):
        Classifier("lite", min_coverage=0.95, min_familiarity=0)


def test_a_file_without_familiarity_refuses_the_limit() -> None:
    code, _, error = run("classify", "--min-familiarity", "0", "photo.jpg")
    assert code == 2 and "has no familiarity (leave the limit out" in error and error.count("\n") == 1


def test_a_heat_map_is_written_for_each_photo(cat_photo: Path, noise: Path, tmp_path: Path) -> None:
    code, out, _ = run("classify", "--model", "lite", "--jsonl", "--heat", tmp_path / "maps", cat_photo, noise, noise)
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [Path(each["heat"]).name for each in records] == ["chelsea.jpg.png", "noise.png.png", "noise.png-2.png"]
    with Image.open(records[0]["heat"]) as image:
        assert image.size == (260, 260)
        drawn = np.asarray(image).astype(float)
    classifier = Classifier("lite")
    heat = classifier.heat_map(cat_photo)
    assert heat.max() == 1 and heat.min() >= 0
    changed = np.abs(drawn - classifier.pixels(cat_photo)).max(2)
    rows, columns = np.unravel_index(heat.argmax(), heat.shape)
    side = 260 // heat.shape[0]
    hottest = changed[rows * side : (rows + 1) * side, columns * side : (columns + 1) * side]
    assert hottest.mean() > 2 * np.median(changed)


def test_an_unreadable_photo_has_an_error_and_no_heat_map(cat_photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    code, out, _ = run("classify", "--model", "lite", "--jsonl", "--heat", tmp_path, tmp_path / "bad.jpg", cat_photo)
    bad, good = (json.loads(line) for line in out.splitlines())
    assert code == 1 and "heat" not in bad and Path(good["heat"]).is_file()


def test_features_are_a_row_per_photo(cat_photo: Path, noise: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    out = tmp_path / "features.npz"
    code, _, error = run("features", "--model", "lite", "--out", out, cat_photo, tmp_path / "bad.jpg", noise)
    classifier = Classifier("lite")
    with np.load(out) as found:
        assert found["paths"].tolist() == [str(cat_photo), str(noise)]
        assert found["model"] == classifier.spec.sha256
        assert found["features"].shape == (2, classifier.spec.features) and found["features"].dtype == np.float32
        assert np.array_equal(found["features"][0], classifier.features(cat_photo))
    assert code == 1 and "bad.jpg" in error and "2 photos written" in error


def test_a_file_without_features_or_heat_is_an_error(cat_photo: Path) -> None:
    for ask in (Classifier().features, Classifier().heat_map):
        with pytest.raises(ModelError, match="has no output"):
            ask(cat_photo)
