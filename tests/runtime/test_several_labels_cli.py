"""The command line on a model file with a threshold: tables, JSON, CSV, Parquet, the summary, sorting, info."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from .several_labels import LABELS, colour_photos, colours_model
from .test_cli import petinfer

pytest.importorskip("onnx")

EXPECTED = {"blue and red": ["blue", "red"], "dark": [], "red": ["red"]}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return colours_model(tmp_path / "model.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return colour_photos(tmp_path / "photos")


def test_the_table_prints_the_labels_of_each_photo_or_none(model: Path, photos: Path) -> None:
    result = petinfer("classify", photos, "--model", model)
    assert result.stdout.splitlines() == [
        f"blue    98.20%   red     59.87%  {photos / 'blue and red.png'}",
        f"none            {photos / 'dark.png'}",
        f"red     73.11%  {photos / 'red.png'}",
    ]
    assert (result.exit_code, result.stderr) == (0, "2 red, 1 blue, 1 none\n")


def test_top_shows_classes_under_the_threshold_too(model: Path, photos: Path) -> None:
    result = petinfer("classify", photos / "dark.png", "--model", model, "--top", 2)
    assert result.stdout == f"green   26.89%   blue    11.92%  {photos / 'dark.png'}\n"


def test_json_has_the_labels_of_each_photo(model: Path, photos: Path) -> None:
    records = json.loads(petinfer("classify", photos, "--model", model, "--json", "--top", 1).stdout)
    assert {Path(record["path"]).stem: record["labels"] for record in records} == EXPECTED
    assert [record["label"] for record in records] == ["blue", None, "red"]
    assert [list(record["probabilities"]) for record in records] == [["blue"], ["green"], ["red"]]


def test_json_of_a_file_without_a_threshold_has_no_labels(tmp_path: Path, photos: Path) -> None:
    model = colours_model(tmp_path / "single.onnx", None)
    (record,) = json.loads(petinfer("classify", photos / "red.png", "--model", model, "--json").stdout)
    assert list(record) == ["path", "label", "probability", "probabilities", "orientation", "model"]


def test_csv_joins_the_labels_by_semicolons(model: Path, photos: Path) -> None:
    text = petinfer("classify", photos, photos / "gone.png", "--model", model, "--csv").stdout
    assert text.splitlines()[0] == "path,label,labels,probability,red,green,blue,error,note"
    rows = {Path(row["path"]).stem: row for row in csv.DictReader(io.StringIO(text))}
    assert {name: rows[name]["labels"] for name in EXPECTED} == {"blue and red": "blue;red", "dark": "", "red": "red"}
    assert (rows["dark"]["label"], rows["gone"]["labels"]) == ("", "")
    assert float(rows["dark"]["green"]) == float(rows["dark"]["probability"]) > 0.2


def test_parquet_has_a_list_of_labels(model: Path, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    out = tmp_path / "out.parquet"
    assert petinfer("classify", photos, photos / "gone.png", "--model", model, "-o", out).exit_code == 1
    rows = {Path(row["path"]).stem: row for row in parquet.read_table(out).to_pylist()}
    assert {name: rows[name]["labels"] for name in EXPECTED} == EXPECTED
    assert (rows["dark"]["label"], rows["gone"]["labels"]) == (None, None)
    assert set(rows["red"]["probabilities"]) == set(LABELS)


@pytest.mark.parametrize("option", ["--copy-to", "--move-to"])
def test_photos_of_several_labels_are_not_sorted_into_folders(
    option: str, model: Path, photos: Path, tmp_path: Path
) -> None:
    result = petinfer("classify", photos, "--model", model, option, tmp_path / "sorted")
    assert (result.exit_code, result.stdout) == (2, "")
    problem = f"{model} gives a photo several labels or none, so it has no one folder (write the labels with -o FILE)"
    assert f"Error: {option}: {problem}" in result.stderr
    assert not (tmp_path / "sorted").exists()


def test_info_says_how_a_photo_gets_its_labels(model: Path) -> None:
    lines = petinfer("info", model).stdout.splitlines()
    assert "a photo  has every label with a probability over 0.5" in lines
    assert json.loads(petinfer("info", model, "--json").stdout)["threshold"] == 0.5
