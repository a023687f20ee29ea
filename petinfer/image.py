"""From a photo to the pixels that the network sees, as fastai does it at validation, bit for bit.

``Image.open`` → ``convert("RGB")`` → crop, squish or pad → ``resize``: fastai's ``PILImage.create`` and ``Resize.encodes``.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import PhotoError
from .spec import Resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Photo: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PADDED_PIXELS = 2**27  # 400 MB; a strip of 65,535 x 1 px would be padded to 4 billion
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


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
    """Load Pillow's decoders of the common formats now, rather than at the first photo."""
    Image.preinit()


def name_of(photo: Photo) -> str:
    """What a message calls the photo: its path where it has one, on one line."""
    if isinstance(photo, str | os.PathLike):
        return printable(os.fspath(photo))
    return printable(str(getattr(photo, "filename", "") or getattr(photo, "name", "") or "photo"))


def printable(text: str) -> str:
    """The text with what would break a line, or a terminal, escaped."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def read(photo: Photo, orientation: str, at_least: int | None = None) -> Image.Image:
    """Decode a photo to RGB.

    Args:
        photo: a path, the bytes of a file, an open binary file, a Pillow image, or RGB pixels (uint8 [height, width, 3]).
        orientation: ``upright`` turns it as its EXIF entry asks; ``stored`` does not, as fastai does not.
        at_least: px that are enough for each side: libjpeg decodes a larger JPEG at 1/2, 1/4 or 1/8 of its size, which is
            faster and not equal to decoding it whole. None decodes it whole.

    Raises:
        PhotoError: it is missing, damaged, too large for Pillow, or of a format not in `FORMATS`.
    """
    image = decode(photo, at_least)
    try:
        return _to_rgb(image, orientation)
    except Exception as error:
        raise _unreadable(photo, error) from error


def decode(photo: Photo, at_least: int | None = None) -> Image.Image:
    """The first step of `read`: a photo, of whatever mode, before it is turned. Arguments and errors are `read`'s."""
    try:
        image = _open(photo)
        if at_least is not None and image is not photo:  # an image of the caller's stays as it is
            image.draft(None, (at_least, at_least))
        image.load()  # which turns a TIFF by itself: its EXIF entry is read after that
        if isinstance(photo, str | os.PathLike):
            image.filename = os.fspath(photo)  # type: ignore[attr-defined]  # as Pillow does where it opens the file itself
        return image
    except PhotoError:
        raise
    except FileNotFoundError as error:
        raise PhotoError(f"{name_of(photo)}: no such file (check the path)") from error
    except UnidentifiedImageError as error:
        raise PhotoError(f"{name_of(photo)}: not a photo of a known format (known are {', '.join(FORMATS)})") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise _unreadable(photo, error) from error


def _unreadable(photo: Photo, error: Exception) -> PhotoError:
    problem = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return PhotoError(f"{name_of(photo)}: cannot be read: {problem} (check the file)")


def _open(photo: Photo) -> Image.Image:
    if isinstance(photo, Image.Image):
        return photo
    if isinstance(photo, np.ndarray):
        return _from_array(photo)
    if isinstance(photo, bytes | bytearray | memoryview):
        return Image.open(io.BytesIO(photo), formats=FORMATS)
    if isinstance(photo, str | os.PathLike):
        if os.path.isdir(photo):
            raise PhotoError(f"{name_of(photo)}: a folder without photos, or that cannot be read (give photos)")
        # Read at once: a file left half-read would stay open, and Pillow reads in small pieces.
        return Image.open(io.BytesIO(Path(photo).read_bytes()), formats=FORMATS)
    if hasattr(photo, "read"):
        return Image.open(io.BytesIO(photo.read()), formats=FORMATS)
    raise PhotoError(
        f"photo: a {type(photo).__name__} is none (give a path, bytes, a binary file, a Pillow image or an array)"
    )


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise PhotoError(
            f"array: {array.dtype} {list(array.shape)} is not an RGB photo (give uint8 [height, width, 3])"
        )
    return Image.fromarray(array)


def _to_rgb(image: Image.Image, orientation: str) -> Image.Image:
    if orientation == "upright":
        image = _turned(image)
    if image.mode == "RGB":  # convert() would copy it, 38 ms for 12 megapixels
        return image
    return image.convert("RGB")


def _turned(image: Image.Image) -> Image.Image:
    """Pillow's ``exif_transpose`` would write the EXIF block anew, and fail on a photo with one odd entry in it."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a block so damaged that nothing in it asks for anything
        turn = None
    return image if turn is None else image.transpose(turn)


def resize(image: Image.Image, to: Resize) -> Image.Image:
    """fastai's ``Resize.encodes`` at validation, on an RGB image.

    Raises:
        ValueError: padding would make more than `MAX_PADDED_PIXELS` of it.

    Of a photo far narrower than the target's shape, fastai crops nothing at all, and sees black; so does this.
    """
    filter_ = Image.Resampling[to.resample.upper()]
    if to.method == "squish":
        return image.resize((to.width, to.height), filter_)
    (width, height), (left, top) = _window(image.size, to)
    if to.method == "pad":
        if width * height > MAX_PADDED_PIXELS:
            raise ValueError(f"padding would make {width} x {height} px of it")
        image = _pad(image, width, height, left, top, to.padding)
    else:
        image = image.crop((left, top, left + width, top + height))
    return image.resize((to.width, to.height), filter_)


def _window(size: tuple[int, int], to: Resize) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size and corner of the window that is resized, px: inside the photo to crop, around it to pad.

    The window's sides are fastai's floating-point expression: 115 px wide gives 114, since 115 / 224 * 224 is 114.99….
    """
    w, h = size
    across, down = w / to.width, h / to.height
    scale = max(across, down) if to.method == "pad" else min(across, down)
    width, height = int(scale * to.width), int(scale * to.height)
    return (width, height), (int(0.5 * (w - width)), int(0.5 * (h - height)))


_PAD_MODES = {"zeros": "constant", "border": "edge", "reflection": "reflect"}


def _pad(image: Image.Image, width: int, height: int, left: int, top: int, padding: str) -> Image.Image:
    """fastai's ``_do_crop_pad``, whose padding is torchvision's: numpy's ``pad``."""
    box = (max(left, 0), max(top, 0), min(left + width, image.width), min(top + height, image.height))
    image = image.crop(box)
    before, after = (
        (max(-left, 0), max(-top, 0)),
        (width - image.width - max(-left, 0), height - image.height - max(-top, 0)),
    )
    if before == after == (0, 0):
        return image
    sides = ((before[1], after[1]), (before[0], after[0]), (0, 0))
    return Image.fromarray(np.pad(np.asarray(image), sides, mode=_PAD_MODES[padding]))  # type: ignore[call-overload]


def pixels(photo: Photo, to: Resize, orientation: str, at_least: int | None = None) -> NDArray[np.uint8]:
    """The uint8 [height, width, 3] that the network sees of a photo. Raises `PhotoError` as `read` and `resize` do."""
    image = read(photo, orientation, at_least)
    try:
        return np.asarray(resize(image, to))
    except (ValueError, MemoryError) as error:
        size = f"{image.width} x {image.height} px to {to.width} x {to.height}"
        raise PhotoError(f"{name_of(photo)}: cannot be resized from {size}: {error} (give another photo)") from error
