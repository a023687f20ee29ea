"""From a photo to the network's input, as fastai does it at validation, bit for bit.

``Image.open`` → ``convert("RGB")`` → crop, squish or pad → ``resize``: fastai's ``PILImage.create`` and ``Resize.encodes``.
A model of grey photos converts to ``L`` instead, as fastai's ``PILImageBW`` does.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import PhotoError
from .spec import Resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

Photo: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]"
)

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "DIB", "HEIF")
"""Pillow's names. AVIF needs a Pillow that supports it (11.3 or newer), HEIF the package pi-heif."""
SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".webp",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".pfm",
        ".avif",
        ".avifs",
    ]
)
MAX_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000
MAX_PADDED_PIXELS = 2**27  # 400 MB; a strip of 65,535 x 1 px would be padded to 4 billion
_PREFIX = 64  # bytes, enough to recognise a format

_ORIENTATION = 0x0112  # the EXIF entry
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_decoders() -> None:
    """Load Pillow's decoders of the common formats now rather than at the first photo."""
    Image.preinit()


def is_photo(value: object) -> bool:
    """Whether a value is one photo rather than an iterable of photos: a file and an image can be iterated over too."""
    if isinstance(value, np.ndarray):
        return value.ndim == 3
    return isinstance(value, str | bytes | bytearray | memoryview | os.PathLike | Image.Image) or hasattr(value, "read")


def name_of(photo: Photo) -> str:
    """The photo's name in messages: its path where it has one, on one line, at most 100 characters."""
    if isinstance(photo, str | os.PathLike):
        name = os.fspath(photo)
    else:
        name = str(getattr(photo, "filename", "") or getattr(photo, "name", ""))
    name = printable(name or "photo")
    return name if len(name) <= 100 else f"{name[:60]}…{name[-39:]}"


def printable(text: str) -> str:
    """The text with every character escaped that would break a line or control a terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def read(
    photo: Photo,
    orientation: str,
    min_decode_size: int | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    mode: str = "RGB",
) -> Image.Image:
    """Decode a photo to RGB, or to grey.

    Args:
        photo: a path, the bytes of a file, an open binary file, a Pillow image, or RGB pixels (uint8 [height, width, 3]).
        orientation: ``upright`` turns it as its EXIF entry asks; ``stored`` does not, as fastai does not.
        min_decode_size: px that each side needs at least: libjpeg then decodes a larger JPEG at 1/2, 1/4 or 1/8 of its
            size, which is faster but gives other pixels. None decodes it whole.
        max_bytes: a larger file is refused before it is read.
        max_pixels: a file with more pixels is refused before it is decoded.
        mode: ``RGB`` or ``L``.

    Raises:
        PhotoError: it is missing, empty, damaged, too large, or not in one of `FORMATS`.
    """
    return convert(decode(photo, min_decode_size, max_bytes, max_pixels), orientation, mode, name_of(photo))


def convert(image: Image.Image, orientation: str, mode: str, name: str) -> Image.Image:
    """The second step of `read`: turned, and in ``mode``. ``name`` is for messages."""
    try:
        if orientation == "upright":
            image = _turned(image)
        return image if image.mode == mode else image.convert(mode)  # convert() would copy it, 38 ms for 12 megapixels
    except Exception as error:
        raise _unreadable(name, error) from error


def note_on(image: Image.Image) -> str | None:
    """What a user should know about how a decoded photo is converted; None for nearly all photos."""
    if image.mode[0] not in "IF":  # I;16 and its relatives, I, F
        return None
    if image.mode != "F" and _is_within_a_byte(image):
        return None
    return "grey of more than 8 bits: values were cut to whole numbers from 0 to 255, as fastai does"


def _is_within_a_byte(image: Image.Image) -> bool:
    try:
        return all(isinstance(value, int) and 0 <= value <= 255 for value in image.getextrema())
    except ValueError:  # of a mode that Pillow cannot measure
        return False


def decode(
    photo: Photo, min_decode_size: int | None = None, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """The first step of `read`: the photo in its own mode, before it is turned. Arguments and errors are those of `read`."""
    try:
        image = _open(photo, max_bytes)
        _check_size(image, name_of(photo), None if image is photo else max_pixels)
        if min_decode_size is not None and image is not photo:  # the caller's own image stays as it is
            image.draft(None, (min_decode_size, min_decode_size))
        image.load()  # which turns a TIFF by itself: its EXIF entry is read after that
    except PhotoError:
        raise
    except FileNotFoundError as error:
        raise PhotoError(f"{name_of(photo)}: no such file (check the path)") from error
    except UnidentifiedImageError as error:
        raise PhotoError(f"{name_of(photo)}: damaged, its header cannot be read (check the file)") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise _unreadable(name_of(photo), error) from error
    if isinstance(photo, str | os.PathLike):
        image.filename = os.fspath(photo)  # type: ignore[attr-defined]  # as Pillow does where it opens the file itself
    return image


def _check_size(image: Image.Image, name: str, max_pixels: int | None) -> None:
    """Refuse a photo by its size, which Pillow knows from the header; None is for one that is decoded already."""
    size = f"{image.width} x {image.height} px"
    if 0 in image.size:
        raise PhotoError(f"{name}: {size}, without a pixel (check the photo)")
    if max_pixels is not None and image.width * image.height > max_pixels:
        raise PhotoError(f"{name}: {size}, over the limit of {max_pixels:,} (raise max_pixels)")


def _unreadable(name: str, error: Exception) -> PhotoError:
    problem = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return PhotoError(f"{name}: cannot be read: {problem} (check the file)")


def _open(photo: Photo, max_bytes: int) -> Image.Image:
    if isinstance(photo, Image.Image):
        return photo
    if isinstance(photo, np.ndarray):
        return _from_array(photo)
    if isinstance(photo, str | os.PathLike):
        content = _read_path(photo, max_bytes)
    elif isinstance(photo, bytes | bytearray | memoryview):
        content = _read_file(io.BytesIO(photo), name_of(photo), max_bytes)
    elif hasattr(photo, "read"):
        content = _read_file(photo, name_of(photo), max_bytes)
    else:
        accepted = "a path, bytes, a binary file, a Pillow image or an array"
        raise PhotoError(f"photo: unsupported type {type(photo).__name__} (expected {accepted})")
    return Image.open(io.BytesIO(content), formats=[each for each in FORMATS if each in Image.OPEN])


def _read_path(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """A file's bytes, all at once: a file left half-read would stay open, and Pillow reads in small pieces."""
    name = name_of(path)
    if not os.fspath(path):
        raise PhotoError("photo: the path is empty (give the path of a photo)")
    if os.fspath(path).startswith("data:"):
        raise PhotoError(f"{name}: a data URI, not a path (decode it and pass the bytes)")
    try:
        found = os.stat(path)
    except ValueError as error:  # a NUL in the path
        raise PhotoError(f"{name}: not a path: {error} (check the path)") from error
    if stat.S_ISDIR(found.st_mode):
        raise PhotoError(f"{name}: a folder without photos, or that cannot be read (give photos)")
    if found.st_size > max_bytes:
        raise _too_large(name, found.st_size, max_bytes)
    with open(path, "rb") as file:  # noqa: PTH123  Path's costs a conversion
        return _read_file(file, name, max_bytes, found.st_size if stat.S_ISREG(found.st_mode) else None)


def _read_file(file: BinaryIO, name: str, max_bytes: int, size: int | None = None) -> bytes:
    """The rest of a file, of ``size`` bytes if known; what is not a photo is refused after its first bytes."""
    prefix = file.read(_PREFIX)
    if not isinstance(prefix, bytes):
        raise PhotoError(f"{name}: opened in text mode (open it in binary mode, 'rb')")
    if not prefix:
        raise PhotoError(f"{name}: empty, 0 bytes (check the file)")
    _require_known_format(prefix, name)
    content = prefix + file.read((max_bytes if size is None else size) + 1 - len(prefix))
    if len(content) > max_bytes:
        raise _too_large(name, len(content), max_bytes)
    return content


def _too_large(name: str, size: int, max_bytes: int) -> PhotoError:
    return PhotoError(
        f"{name}: {size / 1e6:,.0f} MB or more, over the limit of {max_bytes / 1e6:,.0f} MB (raise max_bytes)"
    )


def _require_known_format(prefix: bytes, name: str) -> None:
    """Refuse what does not begin like a photo, by Pillow's own tests of the first bytes."""
    if _is_heif(prefix):
        _register_heif(name)
        return
    Image.preinit()
    if not _accepted(prefix):
        Image.init()  # loads the less common formats
    if not _accepted(prefix):
        if prefix[4:8] == b"ftyp" and b"avi" in prefix:
            raise PhotoError(f"{name}: AVIF, which this Pillow cannot read (install Pillow 11.3 or newer)")
        raise PhotoError(f"{name}: not a photo in a known format (known are {', '.join(FORMATS[:-2])})")


def _accepted(prefix: bytes) -> bool:
    """Whether a loaded format of Pillow accepts the first bytes; a text says that its library is missing."""
    for name in FORMATS:
        test = Image.OPEN[name][1] if name in Image.OPEN else None
        try:
            if test is not None and test(prefix) is True:
                return True
        except (IndexError, struct.error):  # fewer bytes than the format begins with
            continue
    return False


def _is_heif(prefix: bytes) -> bool:
    brands = prefix[8:]
    return prefix[4:8] == b"ftyp" and b"avi" not in brands and any(b in brands for b in (b"heic", b"heix", b"hevc"))


def _register_heif(name: str) -> None:
    try:
        import pi_heif
    except ImportError as error:
        raise PhotoError(f"{name}: HEIC needs the package pi-heif (pip install pi-heif, or convert it)") from error
    pi_heif.register_heif_opener()


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise PhotoError(
            f"array: {array.dtype} {list(array.shape)} is not an RGB photo (give uint8 [height, width, 3])"
        )
    return Image.fromarray(array)


def _turned(image: Image.Image) -> Image.Image:
    """Pillow's ``exif_transpose`` would write the EXIF block anew, and fail on a photo with one odd entry in it."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a block so damaged that nothing in it asks for anything
        turn = None
    return image if turn is None else image.transpose(turn)


def resize(image: Image.Image, to: Resize, threads: int = 1) -> Image.Image:
    """fastai's ``Resize.encodes`` at validation, on an RGB or grey image; ``threads`` share the work on a large one.

    From a photo far narrower than the target's shape, fastai crops an empty window and gets black; so does this.

    Raises:
        ValueError: padding would make more than `MAX_PADDED_PIXELS` of it.
    """
    box = (0, 0, *image.size)
    if to.method != "squish":
        (width, height), (left, top) = _window(image.size, to)
        box = (left, top, left + width, top + height)
        if to.method == "pad":
            if width * height > MAX_PADDED_PIXELS:
                raise ValueError(f"padding would make {width} x {height} px of it")
            image, box = _pad(image, width, height, left, top, to.padding), (0, 0, width, height)
    filter_ = Image.Resampling[to.resample.upper()]
    if filter_ != Image.Resampling.NEAREST and _narrows_first(box[2] - box[0], box[3] - box[1], to):
        return _narrowed(image, box, to.width, filter_, threads).resize((to.width, to.height), filter_)
    return (image if box == (0, 0, *image.size) else image.crop(box)).resize((to.width, to.height), filter_)


_LARGE = 2**20  # px, from which threads are worth starting
_STRIP_PIXELS = 2**18


def _narrows_first(width: int, height: int, to: Resize) -> bool:
    """Whether Pillow resizes a large window's rows before its columns: from 12.2, not if it is far taller than the target."""
    is_tall = height - to.height > 2 * (width - to.width) or height > 100 * width
    return width * height >= _LARGE and not is_tall


def _narrowed(
    image: Image.Image, box: tuple[int, int, int, int], width: int, filter_: Image.Resampling, threads: int
) -> Image.Image:
    """The first of Pillow's two passes, which resizes each row by itself, on one strip of the box after another.

    With the second pass, the pixels are those of cropping and resizing at once. The box is not copied as a whole: 36 MB
    for 12 megapixels.
    """
    left, top, right, bottom = box
    rows = max(_STRIP_PIXELS // (right - left), 1)
    narrowed = Image.new(image.mode, (width, bottom - top))

    def resize_strip(first: int) -> None:
        last = min(first + rows, bottom)
        strip = image.crop((left, first, right, last)).resize((width, last - first), filter_)
        narrowed.paste(strip, (0, first - top))

    strips = range(top, bottom, rows)
    if threads == 1 or not threading.main_thread().is_alive():  # at exit, no thread can be started
        for first in strips:
            resize_strip(first)
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(resize_strip, strips))  # raises what a thread raised
    return narrowed


def _window(size: tuple[int, int], to: Resize) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size and corner of the window that is resized, px: inside the photo to crop, around it to pad.

    The window's sides are fastai's floating-point expression: 115 px wide gives 114, since 115 / 224 * 224 is 114.99….
    """
    w, h = size
    across, down = w / to.width, h / to.height
    scale = max(across, down) if to.method == "pad" else min(across, down)
    width, height = int(scale * to.width), int(scale * to.height)
    return (width, height), (int(0.5 * (w - width)), int(0.5 * (h - height)))


_PAD_ROWS = 256  # at a time
_PAD_MODES = {"border": "edge", "reflection": "reflect"}


def _pad(image: Image.Image, width: int, height: int, left: int, top: int, padding: str) -> Image.Image:
    """fastai's ``_do_crop_pad``, whose padding is torchvision's: numpy's ``pad``."""
    box = (max(left, 0), max(top, 0), min(left + width, image.width), min(top + height, image.height))
    if box != (0, 0, *image.size):
        image = image.crop(box)
    before = (max(-left, 0), max(-top, 0))
    after = (width - image.width - before[0], height - image.height - before[1])
    if before == after == (0, 0):
        return image
    padded = Image.new(image.mode, (width, height))
    if padding == "zeros":
        padded.paste(image, before)
        return padded
    rows, columns = (_numbers(image.size[side], before[side], after[side], padding) for side in (1, 0))
    for top in range(0, height, _PAD_ROWS):  # in one piece, memory would hold the pixels three times
        strip = rows[top : top + _PAD_ROWS]
        first, last = int(strip.min()), int(strip.max())
        source = np.asarray(image.crop((0, first, image.width, last + 1)))
        padded.paste(Image.fromarray(source[strip - first].take(columns, axis=1)), (0, top))
    return padded


def _numbers(count: int, before: int, after: int, padding: str) -> NDArray[np.int64]:
    """The numbers of the rows, or columns, from 0 to ``count``, padded."""
    return np.pad(np.arange(count), (before, after), mode=_PAD_MODES[padding])  # type: ignore[call-overload, no-any-return]


def pixels(photo: Photo, to: Resize, orientation: str, mode: str = "RGB") -> NDArray[np.uint8]:
    """The network's input for a photo: uint8 [height, width, channels]. Raises `PhotoError` as `read` and `fit` do."""
    return fit(read(photo, orientation, mode=mode), to, name_of(photo))


def fit(image: Image.Image, to: Resize, name: str, threads: int = 1) -> NDArray[np.uint8]:
    """The network's input: `resize`, as uint8 [height, width, channels]. ``name`` is for messages.

    Raises:
        PhotoError: it cannot be resized so.
    """
    try:
        return np.asarray(resize(image, to, threads)).reshape(to.height, to.width, -1)
    except (ValueError, MemoryError) as error:
        size = f"{image.width} x {image.height} px to {to.width} x {to.height}"
        raise PhotoError(f"{name}: cannot be resized from {size}: {error} (give another photo)") from error
