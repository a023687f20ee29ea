"""Labels: from file names and folders, and the words for them."""

from __future__ import annotations

from pathlib import Path

from train.labels import LABELLINGS, breed, has_breed, is_cat


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
