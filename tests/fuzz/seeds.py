"""Photos to mutate: small files of every format and mode that petinfer reads, made by Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from ..conftest import REPOSITORY

_LARGEST = 65_500  # px; libjpeg's limit for a side


def seeds() -> dict[str, bytes]:
    """Files by name, at most a few kB each; of a format that this Pillow cannot write, none."""
    made = {**dict(_of_modes()), **dict(_of_jpeg()), **dict(_animated()), **dict(_of_shapes())}
    made["heic"] = (REPOSITORY / "tests" / "runtime" / "photo.heic").read_bytes()
    return made


def _picture(mode: str = "RGB", size: tuple[int, int] = (24, 17)) -> Image.Image:
    """A gradient with noise in it, so that no encoder can shorten it to nothing."""
    random = np.random.default_rng(0)
    across, down = np.linspace(0, 200, size[0]), np.linspace(0, 50, size[1])
    levels = (across[None, :] + down[:, None])[..., None] + random.uniform(0, 5, (size[1], size[0], 4))
    if mode in ("I;16", "I", "F"):
        return Image.fromarray((levels[..., 0] * 250).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    picture = Image.fromarray(levels.astype(np.uint8)).convert(mode)
    picture.info.clear()  # a profile, of LAB, with the time in it
    return picture


def _file(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


_MODES = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "bmp": ("1", "L", "P", "RGB", "RGBA"),
    "dib": ("L", "RGB"),
    "gif": ("L", "P", "RGB"),
    "tiff": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"),
    "ppm": ("1", "L", "RGB", "I;16", "F"),
    "webp": ("RGB", "RGBA"),
    "avif": ("RGB", "RGBA"),
}


def _of_modes() -> Iterator[tuple[str, bytes]]:
    Image.init()
    for form, modes in _MODES.items():
        if form in ("webp", "avif") and form.upper() not in Image.SAVE:
            continue
        for mode in modes:
            with suppress(OSError):  # an older Pillow writes fewer modes
                yield f"{form}-{mode}", _file(_picture(mode), form)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"tiff-{compression}", _file(_picture(), "tiff", compression=compression)
    yield "tiff-group4", _file(_picture("1"), "tiff", compression="group4")
    yield "png-transparent-palette", _file(_picture("P"), "png", transparency=bytes(range(256)))


def _of_jpeg() -> Iterator[tuple[str, bytes]]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:24] + bytes(12) + profile[36:]  # without the time
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a description", 6
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    for mode in ("L", "RGB", "CMYK"):
        yield f"jpeg-{mode}", _file(_picture(mode), "jpeg")
        yield f"jpeg-progressive-{mode}", _file(_picture(mode), "jpeg", progressive=True)
    for sampling in (0, 1):
        yield f"jpeg-subsampling-{sampling}", _file(_picture(), "jpeg", subsampling=sampling, restart_marker_rows=1)
    for form in ("jpeg", "png", "tiff", *(["webp"] if "WEBP" in Image.SAVE else [])):
        yield f"{form}-exif-icc", _file(_picture(), form, exif=exif, icc_profile=profile)
    yield "jpeg-mpo", _file(_picture(), "mpo", save_all=True, append_images=[_picture("L")])


def _animated() -> Iterator[tuple[str, bytes]]:
    frames = [_picture("RGBA"), _picture("RGBA").rotate(90), _picture("RGBA").rotate(180)]
    for form in ("gif", "png", "tiff", *(["webp"] if "WEBP" in Image.SAVE else [])):
        yield f"{form}-animated", _file(frames[0], form, save_all=True, append_images=frames[1:])


def _of_shapes() -> Iterator[tuple[str, bytes]]:
    for form in ("jpeg", "png", "gif", "bmp"):
        yield f"{form}-one-pixel", _file(_picture(size=(1, 1)), form)
    for size in ((_LARGEST, 1), (1, _LARGEST)):
        for form in ("jpeg", "png"):
            yield f"{form}-{size[0]}x{size[1]}", _file(Image.new("RGB", size, "green"), form)
