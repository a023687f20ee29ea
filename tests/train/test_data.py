"""The photos of the training stage: which are found, how they are labelled and split."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fastai.vision.all import ImageDataLoaders, Resize, get_image_files

from train.data import SUFFIXES, common_folder, dataloaders, find_broken, find_photos, photo_files, require_two_labels
from train.errors import TrainingError
from train.labels import LABELLINGS, breed, has_breed, is_cat
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
    source_of,
    split_by_source,
    with_every_label,
)


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


def test_photos_are_sorted_and_a_limit_is_evenly_spaced(drawn_photos: Path) -> None:
    photos = find_photos(drawn_photos, "species")
    assert photos == sorted(drawn_photos.glob("*.png"))
    assert find_photos(drawn_photos, "species", limit=2) == [photos[0], photos[16]]


def test_what_cannot_be_trained_on_is_an_error(tmp_path: Path, drawn_photos: Path) -> None:
    with pytest.raises(TrainingError, match=r"nowhere: no such folder"):
        find_photos(tmp_path / "nowhere", "species")
    with pytest.raises(TrainingError, match=r"no photos that --labels species can label"):
        find_photos(tmp_path, "species")
    shutil.copy(drawn_photos / "beagle_1.png", tmp_path)
    with pytest.raises(TrainingError, match=r"all 1 photos have one label, 'dog'"):
        require_two_labels(find_photos(tmp_path, "species"), "species", tmp_path)


def test_broken_photos_are_found(drawn_photos: Path, tmp_path: Path) -> None:
    good = drawn_photos / "beagle_1.png"
    (tmp_path / "beagle_2.png").write_bytes(good.read_bytes()[:500])
    assert find_broken([good, tmp_path / "beagle_2.png"]) == [tmp_path / "beagle_2.png"]


def test_dataloaders_equal_the_lessons_from_name_func(drawn_photos: Path) -> None:
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


def test_a_split_is_equal_after_saving_and_its_sides_are_disjoint(drawn_photos: Path, tmp_path: Path) -> None:
    split = random_split(find_photos(drawn_photos, "species"), drawn_photos, Recipe())
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split
    assert Split.load(tmp_path / "split.json").sha256 == split.sha256
    assert not set(split.train) & set(split.valid)
    with pytest.raises(TrainingError, match="not a split"):
        Split.load(drawn_photos / "beagle_1.png")


def test_a_photo_in_the_split_must_exist(drawn_photos: Path) -> None:
    with pytest.raises(TrainingError, match=r"gone.png: in the split but not in the folder"):
        dataloaders(drawn_photos, Split(("beagle_1.png",), ("gone.png",)), Recipe())


def test_near_duplicates_on_both_sides_are_found(tmp_path: Path, cat_photo: Path, drawn_photos: Path) -> None:
    from PIL import Image

    shutil.copy(cat_photo, tmp_path / "first.jpg")
    Image.open(cat_photo).resize((300, 200)).save(tmp_path / "again.png")
    shutil.copy(drawn_photos / "beagle_1.png", tmp_path / "other.png")
    split = Split(("first.jpg", "other.png"), ("again.png",))
    assert near_duplicates(tmp_path, split) == [("first.jpg", "again.png")]


@pytest.fixture
def untidy(tmp_path: Path, drawn_photos: Path) -> Path:
    """A folder as users have them: many suffixes, hidden and system names, linked folders and a loop."""
    photo = (drawn_photos / "beagle_1.png").read_bytes()
    names = ["a.JPG", "b.jfif", "c.jpe", "d.mpo", "e.dib", "f.pnm", "sub/g.webp", ".hidden.jpg", "._a.jpg", "notes.txt"]
    names += [".Trash-1000/h.jpg", ".ipynb_checkpoints/i.jpg", "@eaDir/j.jpg", "__MACOSX/k.jpg", "lost+found/l.jpg"]
    for name in names:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(photo)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "m.png").write_bytes(photo)
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos")
    return tmp_path / "photos"


def test_hidden_and_system_files_are_skipped_and_links_followed_once(untidy: Path) -> None:
    found = [photo.relative_to(untidy).as_posix() for photo in photo_files(untidy)]
    assert found == ["a.JPG", "again/m.png", "b.jfif", "c.jpe", "d.mpo", "e.dib", "f.pnm", "sub/g.webp"]


def test_train_and_petinfer_find_the_same_photos(untidy: Path) -> None:
    image, folder = pytest.importorskip("petinfer.image"), pytest.importorskip("petinfer.folder")
    assert SUFFIXES == image.SUFFIXES
    assert [str(photo) for photo in photo_files(untidy)] == sorted(folder.find_photos(str(untidy)).photos)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can list every folder")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(TrainingError, match="closed: cannot be listed: Permission denied"):
        photo_files(tmp_path)


def test_names_are_relative_to_what_several_folders_have_in_common(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "x", tmp_path / "a" / "y"]
    assert common_folder(folders) == tmp_path / "a"
    assert common_folder(folders[:1]) == tmp_path / "a" / "x"


def test_photos_in_a_list_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# wrong labels\n\nsub/pug_1.jpg\nCat_2.jpg\n")
    photos = [tmp_path / name for name in ("pug_1.jpg", "sub/pug_1.jpg", "sub/Cat_2.jpg")]
    assert leave_out(photos, tmp_path, read_names(tmp_path / "list.txt")) == photos[:1]


def test_a_source_that_is_held_out_validates(tmp_path: Path) -> None:
    (tmp_path / "more.tsv").write_text("name\trepository\npug_1.jpg\tothers/phones\n")
    photos = [tmp_path / name for name in ("web/pug_1.jpg", "web/pug_2.jpg", "web/Cat_3.jpg")]
    source = source_of(read_sources(tmp_path / "more.tsv"))
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
