"""Photos and labels of the training stage: which are found, how they are labelled and split."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fastai.vision.all import ImageDataLoaders, Resize, get_image_files

from train.data import (
    LABELLINGS,
    Split,
    breed,
    dataloaders,
    find_broken,
    find_photos,
    has_breed,
    is_cat,
    near_duplicates,
    random_split,
    require_two_labels,
)
from train.errors import TrainingError
from train.recipe import Recipe


def test_a_cats_name_begins_with_a_capital_letter() -> None:
    assert [is_cat(name) for name in ("Maine_Coon_1.jpg", "pug_1.jpg", "Cat_00017.jpg")] == [True, False, True]


def test_a_breed_is_the_name_without_its_number() -> None:
    assert breed("Maine_Coon_12.jpg") == "Maine_Coon"
    assert [has_breed(Path(name)) for name in ("pug_1.jpg", "Cat_00017.jpg", "dog_1.jpg", "holiday.jpg")] == [
        True,
        False,
        False,
        False,
    ]


def test_a_folder_can_be_the_label(drawn_photos: Path) -> None:
    assert LABELLINGS["folder"].label(Path("animals/horse/1.jpg")) == "horse"


def test_the_device_prints_words_for_the_lessons_true_and_false() -> None:
    assert [LABELLINGS["species"].word(category) for category in (False, True)] == ["dog", "cat"]


def test_photos_are_found_sorted_and_a_limit_spreads_over_them(drawn_photos: Path) -> None:
    photos = find_photos(drawn_photos, "species")
    assert photos == sorted(drawn_photos.glob("*.png"))
    assert find_photos(drawn_photos, "species", limit=2) == [photos[0], photos[16]]


def test_what_cannot_be_trained_on_is_told_in_one_line(tmp_path: Path, drawn_photos: Path) -> None:
    with pytest.raises(TrainingError, match=r"nowhere: no such folder"):
        find_photos(tmp_path / "nowhere", "species")
    with pytest.raises(TrainingError, match=r"no photos that --labels species can label"):
        find_photos(tmp_path, "species")
    shutil.copy(drawn_photos / "beagle_1.png", tmp_path)
    with pytest.raises(TrainingError, match=r"all 1 photos have one label, 'dog'"):
        require_two_labels(find_photos(tmp_path, "species"), "species", tmp_path)


def test_broken_photos_are_found_before_an_epoch_trips_over_them(drawn_photos: Path, tmp_path: Path) -> None:
    good = drawn_photos / "beagle_1.png"
    (tmp_path / "beagle_2.png").write_bytes(good.read_bytes()[:500])
    assert find_broken([good, tmp_path / "beagle_2.png"]) == [tmp_path / "beagle_2.png"]


def test_photos_split_and_load_as_the_lessons_from_name_func_does(drawn_photos: Path) -> None:
    recipe, photos = Recipe(), find_photos(drawn_photos, "species")
    split = random_split(photos, drawn_photos, recipe)
    ours = dataloaders(drawn_photos, split, recipe)
    lesson = ImageDataLoaders.from_name_func(
        drawn_photos,
        get_image_files(drawn_photos).sorted(),
        valid_pct=0.2,
        seed=42,
        label_func=is_cat,
        item_tfms=Resize(224),
    )
    for mine, theirs in ((ours.train, lesson.train), (ours.valid, lesson.valid)):
        assert list(mine.items) == list(theirs.items)
        assert str(mine.after_item) == str(theirs.after_item)
        assert str(mine.after_batch) == str(theirs.after_batch)
        assert [int(y) for _, y in mine.dataset] == [int(y) for _, y in theirs.dataset]
    assert list(ours.vocab) == list(lesson.vocab) == [False, True]


def test_a_split_is_the_same_whatever_order_the_files_came_in_and_survives_its_file(
    drawn_photos: Path, tmp_path: Path
) -> None:
    split = random_split(find_photos(drawn_photos, "species"), drawn_photos, Recipe())
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split
    assert Split.load(tmp_path / "split.json").sha256 == split.sha256
    assert not set(split.train) & set(split.valid)
    with pytest.raises(TrainingError, match="not a split"):
        Split.load(drawn_photos / "beagle_1.png")


def test_a_photo_that_the_split_names_must_be_there(drawn_photos: Path) -> None:
    with pytest.raises(TrainingError, match=r"gone.png: in the split but not in the folder"):
        dataloaders(drawn_photos, Split(("beagle_1.png",), ("gone.png",)), Recipe())


def test_near_duplicates_on_both_sides_are_found(tmp_path: Path, cat_photo: Path, drawn_photos: Path) -> None:
    from PIL import Image

    shutil.copy(cat_photo, tmp_path / "first.jpg")
    Image.open(cat_photo).resize((300, 200)).save(tmp_path / "again.png")
    shutil.copy(drawn_photos / "beagle_1.png", tmp_path / "other.png")
    split = Split(("first.jpg", "other.png"), ("again.png",))
    assert near_duplicates(tmp_path, split) == [("first.jpg", "again.png")]
