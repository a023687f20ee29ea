"""Which files are photos, and the DataLoaders of a split."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fastai.vision.all import ImageDataLoaders, Resize, get_image_files

from train.data import SUFFIXES, common_folder, dataloaders, find_broken, find_photos, photo_files, require_two_labels
from train.errors import TrainingError
from train.labels import is_cat
from train.recipe import Recipe
from train.split import (
    Split,
    random_split,
)


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


def test_a_photo_in_the_split_must_exist(drawn_photos: Path) -> None:
    with pytest.raises(TrainingError, match=r"gone.png: in the split but not in the folder"):
        dataloaders(drawn_photos, Split(("beagle_1.png",), ("gone.png",)), Recipe())


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
