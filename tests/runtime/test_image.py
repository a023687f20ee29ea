"""From a photo to pixels: what is read, what is refused, and how."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from petinfer import PhotoError
from petinfer.image import convert, decode, name_of, note_on, pixels, read, resize
from petinfer.spec import Resize

SQUARE = Resize(224, 224)
HEIC = Path(__file__).parent / "photo.heic"


def gradient(width: int, height: int) -> Image.Image:
    """A picture without two equal columns or rows next to each other."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 7 % 256, y * 5 % 256, (x + y) * 3 % 256], 2).astype(np.uint8))


def test_a_photo_becomes_the_square_that_the_network_sees(cat_photo: Path) -> None:
    found = pixels(cat_photo, SQUARE, "stored")
    assert (found.dtype, found.shape) == (np.uint8, (224, 224, 3))


def test_every_type_of_photo_gives_the_same_pixels(cat_photo: Path) -> None:
    expected = pixels(cat_photo, SQUARE, "stored")
    with Image.open(cat_photo) as image:
        array = np.asarray(image.convert("RGB"))
        doors = [str(cat_photo), cat_photo.read_bytes(), io.BytesIO(cat_photo.read_bytes()), image, array]
        for door in doors:
            assert np.array_equal(pixels(door, SQUARE, "stored"), expected), type(door)


def test_the_crop_follows_fastais_floating_point_expression() -> None:
    """115 / 224 * 224 is 114.99…: fastai crops 115 x 300 to 114 x 114, one column and row less than min(w, h)."""
    image = gradient(115, 300)
    expected = image.crop((0, 93, 114, 93 + 114)).resize((224, 224), Image.Resampling.BILINEAR)
    assert resize(image, SQUARE).tobytes() == expected.tobytes()


def test_squish_ignores_the_shape() -> None:
    image = gradient(300, 100)
    expected = image.resize((64, 32), Image.Resampling.BICUBIC)
    assert resize(image, Resize(32, 64, "squish", resample="bicubic")).tobytes() == expected.tobytes()


@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "box", "hamming", "lanczos", "nearest"])
@pytest.mark.parametrize("size", [(1500, 1201), (1201, 1500), (5000, 300)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_large_photo_is_resized_in_strips_to_the_pixels_of_one_call(
    mode: str, size: tuple[int, int], resample: str
) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).convert(mode)
    filter_ = Image.Resampling[resample.upper()]
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cropped = image.crop((left, top, left + side, top + side)).resize((160, 160), filter_)
    squished = image.resize((97, 160), filter_)
    for threads in (1, 2, 3):
        assert resize(image, Resize(160, 160, "crop", resample=resample), threads).tobytes() == cropped.tobytes()
        assert resize(image, Resize(160, 97, "squish", resample=resample), threads).tobytes() == squished.tobytes()


def test_a_large_photo_is_resized_at_exit_too() -> None:
    code = (
        "import atexit; from PIL import Image; from petinfer.image import resize; from petinfer.spec import Resize\n"
        "photo = Image.new('RGB', (1100, 1000))\n"
        "atexit.register(lambda: print(resize(photo, Resize(8, 8), 2).size))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("(8, 8)\n", "")


def test_padding_with_zeros_centres_the_photo() -> None:
    found = np.asarray(resize(gradient(200, 100), Resize(100, 100, "pad", "zeros")))
    assert not found[:24].any() and not found[-24:].any() and found[26:-26].any()


def test_upright_turns_the_photo_and_stored_does_not(lying_photo: Path) -> None:
    assert read(lying_photo, "stored").size == (300, 451)
    assert read(lying_photo, "upright").size == (451, 300)


def test_a_turned_pillow_image_is_turned_too(lying_photo: Path) -> None:
    with Image.open(lying_photo) as image:
        assert read(image, "upright").size == (451, 300)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_rgb_or_grey(mode: str) -> None:
    image = Image.new(mode, (30, 20))
    assert pixels(image, Resize(8, 8), "stored").shape == (8, 8, 3)
    assert pixels(image, Resize(8, 8), "stored", "L").shape == (8, 8, 1)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grey_is_converted_before_it_is_padded_and_resized(padding: str) -> None:
    photo, to = gradient(97, 40), Resize(64, 64, "pad", padding)
    once = pixels(photo.convert("L").convert("RGB"), to, "stored")[..., :1]
    assert np.array_equal(pixels(photo, to, "stored", "L"), once)


@pytest.mark.parametrize("kind", ["<u2", "<i4", "<f4"])
def test_a_note_says_that_values_over_255_were_clipped(kind: str) -> None:
    note = "grey of more than 8 bits: values were cut to whole numbers from 0 to 255, as fastai does"
    image = Image.fromarray(np.array([[0, 300]], kind))
    assert image.mode in ("I;16", "I", "F") and note_on(image) == note
    assert np.asarray(convert(image, "stored", "RGB", "photo"))[0, :, 0].tolist() == [0, 255]


def test_photos_that_lose_nothing_have_no_note(cat_photo: Path) -> None:
    assert note_on(decode(cat_photo)) is None
    assert note_on(Image.fromarray(np.array([[0, 255]], np.uint16))) is None


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        ("nowhere.jpg", "nowhere.jpg: no such file (check the path)"),
        (b"", "photo: empty, 0 bytes (check the file)"),
        (np.zeros((4, 4)), "array: float64 [4, 4] is not an RGB photo (give uint8 [height, width, 3])"),
        (np.zeros((0, 4, 3), np.uint8), "array: uint8 [0, 4, 3] is not an RGB photo (give uint8 [height, width, 3])"),
        (b"text", "photo: not a photo in a known format (known are JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM, AVIF)"),
        (7, "photo: unsupported type int (expected a path, bytes, a binary file, a Pillow image or an array)"),
        ("", "photo: the path is empty (give the path of a photo)"),
        (io.StringIO("text"), "photo: opened in text mode (open it in binary mode, 'rb')"),
        (Image.new("RGB", (0, 0)), "photo: 0 x 0 px, without a pixel (check the photo)"),
        (Image.new("RGB", (3, 0)), "photo: 3 x 0 px, without a pixel (check the photo)"),
        ("nul\0.jpg", "nul\\x00.jpg: not a path: embedded null byte (check the path)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "photo: damaged, its header cannot be read (check the file)"),
    ],
)
def test_what_is_not_a_photo_is_refused_in_one_line(photo: object, message: str) -> None:
    with pytest.raises(PhotoError) as caught:
        pixels(photo, SQUARE, "stored")  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_a_truncated_photo_is_refused(cat_photo: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.jpg"
    half.write_bytes(cat_photo.read_bytes()[:20000])
    with pytest.raises(PhotoError, match=r"half.jpg: cannot be read: image file is truncated"):
        pixels(half, SQUARE, "stored")


def test_a_folder_is_not_a_photo(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="cannot be read"):
        pixels(tmp_path, SQUARE, "stored")


def test_a_strip_is_not_padded_until_the_memory_is_full() -> None:
    with pytest.raises(
        PhotoError, match="cannot be resized from 60000 x 1 px to 224 x 224: padding would make 59999 x 59999"
    ):
        pixels(Image.new("RGB", (60000, 1)), Resize(224, 224, "pad"), "stored")


def test_a_photo_that_is_decoded_already_keeps_its_name(tmp_path: Path) -> None:
    Image.new("L", (60000, 1)).save(tmp_path / "strip.png")
    with pytest.raises(PhotoError, match=r"strip\.png: cannot be resized from 60000 x 1 px"):
        pixels(decode(tmp_path / "strip.png"), Resize(224, 224, "pad"), "stored")


def test_an_invalid_exif_entry_affects_neither_photo_nor_turn(lying_photo: Path, tmp_path: Path) -> None:
    """A number where EXIF has a text: Pillow's own exif_transpose, which writes the block anew, fails on it."""
    text = {"<": b"\x0f\x01\x02\x00\x04\x00\x00\x00", ">": b"\x01\x0f\x00\x02\x00\x00\x00\x04"}
    number = {"<": b"\x0f\x01\x0b\x00\x01\x00\x00\x00", ">": b"\x01\x0f\x00\x0b\x00\x00\x00\x01"}
    with Image.open(lying_photo) as image:
        exif = image.getexif()
        exif[0x010F] = "abc"  # the maker
        block = exif.tobytes()
        for endian in "<>":
            block = block.replace(text[endian], number[endian])
        image.save(tmp_path / "odd.jpg", exif=block)
    with Image.open(tmp_path / "odd.jpg") as odd, pytest.raises(AttributeError):
        ImageOps.exif_transpose(odd)
    assert read(tmp_path / "odd.jpg", "upright").size == (451, 300)


def test_fast_decoding_leaves_the_callers_image_as_it_is(tmp_path: Path) -> None:
    gradient(1600, 1200).save(tmp_path / "large.jpg")
    with Image.open(tmp_path / "large.jpg") as image:
        read(image, "stored", min_decode_size=400)
        assert image.size == (1600, 1200)
    assert read(tmp_path / "large.jpg", "stored", min_decode_size=400).size == (800, 600)


def test_a_message_is_one_line_whatever_the_file_is_called() -> None:
    with pytest.raises(PhotoError) as caught:
        pixels("two\nlines.jpg", SQUARE, "stored")
    assert str(caught.value) == "two\\nlines.jpg: no such file (check the path)"


def test_a_long_name_is_shortened_in_messages() -> None:
    with pytest.raises(PhotoError) as caught:
        pixels("x" * 5000, SQUARE, "stored")
    assert len(str(caught.value)) < 200 and "…" in str(caught.value)


def test_a_data_uri_is_not_a_path() -> None:
    with pytest.raises(PhotoError, match="a data URI, not a path") as caught:
        pixels("data:image/png;base64," + "A" * 12_000, SQUARE, "stored")
    assert len(str(caught.value)) < 200


def test_a_file_over_the_limit_is_refused_before_it_is_read(cat_photo: Path, tmp_path: Path) -> None:
    """A sparse file of 100 GB: reading it would fill the memory."""
    with (tmp_path / "film.jpg").open("wb") as file:
        file.truncate(10**11)
    with pytest.raises(
        PhotoError, match=r"film\.jpg: 100,000 MB or more, over the limit of 268 MB \(raise max_bytes\)"
    ):
        pixels(tmp_path / "film.jpg", SQUARE, "stored")
    content = cat_photo.read_bytes()
    for form in (bytes, io.BytesIO, lambda _: cat_photo):
        assert read(form(content), "stored", max_bytes=len(content)).size == (451, 300)
        with pytest.raises(PhotoError, match="over the limit"):
            read(form(content), "stored", max_bytes=len(content) - 1)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_an_endless_file_is_refused_after_its_first_bytes() -> None:
    with pytest.raises(PhotoError, match="/dev/zero: not a photo in a known format"):
        pixels("/dev/zero", SQUARE, "stored")


def test_a_large_file_of_another_kind_is_refused_after_its_first_bytes(tmp_path: Path) -> None:
    """Within the limit, but not a photo: 200 MB are not read."""
    with (tmp_path / "film.mp4").open("wb") as file:
        file.write(b"\0\0\0\x18ftypisom")
        file.truncate(2 * 10**8)
    with pytest.raises(PhotoError, match=r"film\.mp4: not a photo in a known format"):
        pixels(tmp_path / "film.mp4", SQUARE, "stored")


@pytest.mark.skipif("avif" not in features.get_supported(), reason="this Pillow has no AVIF")
def test_avif_is_known_by_its_content(tmp_path: Path) -> None:
    gradient(300, 200).save(tmp_path / "photo.avif")
    (tmp_path / "photo.jpg").write_bytes((tmp_path / "photo.avif").read_bytes())
    with Image.open(tmp_path / "photo.avif") as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(read(tmp_path / "photo.jpg", "stored")), expected)


def test_heic_without_pi_heif_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(PhotoError, match=r"photo\.heic: HEIC needs the package pi-heif \(pip install pi-heif"):
        read(HEIC, "stored")


def test_heic_opens_with_pi_heif() -> None:
    """A 64 x 48 px photo in one colour, which pillow-heif wrote; pi-heif only reads."""
    pytest.importorskip("pi_heif")
    assert read(HEIC, "stored").size == (64, 48)


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "mpo", "dib", "pbm", "pnm"])
def test_less_common_suffixes_are_read(suffix: str, tmp_path: Path) -> None:
    forms = {"jfif": "JPEG", "jpe": "JPEG", "mpo": "MPO", "dib": "DIB", "pbm": "PPM", "pnm": "PPM"}
    image = gradient(40, 30).convert("1") if suffix == "pbm" else gradient(40, 30)
    image.save(tmp_path / f"photo.{suffix}", forms[suffix])
    with Image.open(tmp_path / f"photo.{suffix}") as reference:
        expected = np.asarray(reference.convert("RGB"))
    assert np.array_equal(np.asarray(read(tmp_path / f"photo.{suffix}", "stored")), expected)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG", "PPM"])
def test_a_photo_of_too_many_pixels_is_refused_before_it_is_decoded(form: str, tmp_path: Path) -> None:
    """The file ends after its header, so that decoding would fail otherwise."""
    whole = io.BytesIO()
    Image.new("L", (4000, 3000)).save(whole, form)
    for content in (whole.getvalue(), whole.getvalue()[: max(100, len(whole.getvalue()) // 2)]):
        with suppress(OSError):  # UnidentifiedImageError too
            Image.open(io.BytesIO(content))
            with pytest.raises(
                PhotoError, match=r"photo: 4000 x 3000 px, over the limit of 11,999,999 \(raise max_pixels\)"
            ):
                read(content, "stored", max_pixels=11_999_999)
    assert read(whole.getvalue(), "stored", max_pixels=12_000_000).size == (4000, 3000)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_default_limit_refuses_a_small_file_that_decodes_to_a_gigabyte() -> None:
    file = io.BytesIO()
    Image.new("1", (13_300, 13_300)).save(file, "PNG")
    assert len(file.getvalue()) < 30_000
    with pytest.raises(PhotoError, match="photo: 13300 x 13300 px, over the limit of 100,000,000"):
        read(file.getvalue(), "stored")


def test_a_message_names_the_photo_by_path_file_name_or_name(tmp_path: Path) -> None:
    (tmp_path / "file.jpg").write_bytes(b"")
    with (tmp_path / "file.jpg").open("rb") as file:
        assert name_of(file) == str(tmp_path / "file.jpg")[:100]
    image = Image.new("RGB", (1, 1))
    assert (name_of("a.jpg"), name_of(Path("b.jpg")), name_of(b""), name_of(image)) == (
        "a.jpg",
        "b.jpg",
        "photo",
        "photo",
    )
    image.filename = "c\n.jpg"  # type: ignore[attr-defined]
    assert name_of(image) == "c\\n.jpg"
    assert name_of("x" * 100) == "x" * 100
    assert name_of("x" * 60 + "y" + "z" * 40) == "x" * 60 + "…" + "z" * 39


@pytest.mark.parametrize(("brand", "is_heif"), [(b"heic", True), (b"heix", True), (b"hevc", True), (b"isom", False)])
def test_heic_is_known_by_its_brands(brand: bytes, is_heif: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    expected = "photo: HEIC needs the package pi-heif" if is_heif else "photo: not a photo in a known format"
    for prefix in (b"\0\0\0\x18ftyp" + brand, b"\0\0\0\x18ftypmif1\0\0\0\0mif1" + brand):
        if is_heif or b"mif1" not in prefix:  # mif1 alone may be AVIF
            with pytest.raises(PhotoError, match=expected):
                read(prefix + bytes(40), "stored")


def test_padding_repeats_or_mirrors_the_border() -> None:
    """3 x 1 px in a square: one row more above and one below."""
    row = np.array([[[10, 0, 0], [20, 0, 0], [30, 0, 0]]], np.uint8)
    square = np.concatenate([row, 2 * row, 4 * row])
    tall = np.concatenate([square, square])  # 3 wide, 6 high: padded left by 1 and right by 2
    for padding, columns in (("zeros", [None, 0, 1, 2, None, None]), ("border", [0, 0, 1, 2, 2, 2]),
                             ("reflection", [1, 0, 1, 2, 1, 0])):  # fmt: skip
        found = np.asarray(resize(Image.fromarray(tall), Resize(6, 6, "pad", padding, "nearest")))
        black = np.zeros((6, 3), np.uint8)
        expected = np.stack([black if i is None else tall[:, i] for i in columns], 1)
        assert np.array_equal(found, expected), padding
