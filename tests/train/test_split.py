"""Which photos train and which validate."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from train.data import find_photos
from train.errors import TrainingError
from train.recipe import Recipe
from train.split import (
    Split,
    bit_count,
    labels_without_training,
    leave_out,
    near_duplicates,
    random_split,
    read_names,
    read_sources,
    source_in,
    split_by_source,
    with_every_label,
)


def test_a_split_is_equal_after_saving_and_its_sides_are_disjoint(drawn_photos: Path, tmp_path: Path) -> None:
    split = random_split(find_photos(drawn_photos, "species"), drawn_photos, Recipe())
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split
    assert Split.load(tmp_path / "split.json").sha256 == split.sha256
    assert not set(split.train) & set(split.valid)
    with pytest.raises(TrainingError, match="not a split"):
        Split.load(drawn_photos / "beagle_1.png")


def test_near_duplicates_on_both_sides_are_found(tmp_path: Path, cat_photo: Path, drawn_photos: Path) -> None:
    from PIL import Image

    shutil.copy(cat_photo, tmp_path / "first.jpg")
    Image.open(cat_photo).resize((300, 200)).save(tmp_path / "again.png")
    shutil.copy(drawn_photos / "beagle_1.png", tmp_path / "other.png")
    split = Split(("first.jpg", "other.png"), ("again.png",))
    assert near_duplicates(tmp_path, split) == [("first.jpg", "again.png")]


def test_photos_in_a_list_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# wrong labels\n\nsub/pug_1.jpg\nCat_2.jpg\n")
    photos = [tmp_path / name for name in ("pug_1.jpg", "sub/pug_1.jpg", "sub/Cat_2.jpg")]
    assert leave_out(photos, tmp_path, read_names(tmp_path / "list.txt")) == photos[:1]


def test_a_source_that_is_held_out_validates(tmp_path: Path) -> None:
    (tmp_path / "more.tsv").write_text("name\trepository\npug_1.jpg\tothers/phones\n")
    photos = [tmp_path / name for name in ("web/pug_1.jpg", "web/pug_2.jpg", "web/Cat_3.jpg")]
    source = source_in(tmp_path / "more.tsv")
    split = split_by_source(photos, tmp_path, source, ["others/phones"])
    assert split == Split(("web/pug_2.jpg", "web/Cat_3.jpg"), ("web/pug_1.jpg",))
    with pytest.raises(TrainingError, match=r"phone: no photos of this source \(sources: others/phones, web\)"):
        split_by_source(photos, tmp_path, source, ["phone"])
    with pytest.raises(TrainingError, match="no photos are left to train on"):
        split_by_source(photos, tmp_path, source, ["web", "others/phones"])


def test_a_table_without_sources_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "more.tsv").write_text("name\tlabel\npug_1.jpg\tdog\n")
    with pytest.raises(TrainingError, match="not a table of sources"):
        read_sources(tmp_path / "more.tsv")


def test_a_label_that_only_validation_has_gets_one_training_photo() -> None:
    split = Split(("pug_1.jpg",), ("pug_2.jpg", "beagle_1.jpg", "beagle_2.jpg"))
    assert labels_without_training(split, "breed") == {"beagle": ["beagle_1.jpg", "beagle_2.jpg"]}
    assert with_every_label(split, "breed") == Split(("pug_1.jpg", "beagle_1.jpg"), ("pug_2.jpg", "beagle_2.jpg"))


def test_bits_are_counted_as_numpy_2_does() -> None:
    numbers = np.array([0, 1, 255, 2**63, 2**64 - 1], dtype=np.uint64)
    assert bit_count(numbers).tolist() == [0, 1, 8, 1, 64]
