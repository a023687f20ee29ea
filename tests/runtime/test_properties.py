"""Whatever photo and whatever resize: petinfer's pixels are fastai's, or both refuse. Found by hypothesis.

``HYPOTHESIS_EXAMPLES=50000 pytest tests/runtime/test_properties.py`` looks longer.
"""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from petinfer import PhotoError
from petinfer.image import pixels
from petinfer.spec import Resize

fastai = pytest.importorskip("fastai.vision.all")

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "2000"))
TRAPS = [w for w in range(1, 1200) if int((w / 224) * 224) != w]

# The modes that each format can hold, as Pillow writes them.
FORMATS = {
    "PNG": ["1", "L", "LA", "P", "P transparent", "RGB", "RGBA", "I;16"],
    "JPEG": ["L", "RGB", "CMYK", "YCbCr"],
    "WEBP": ["RGB", "RGBA"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"],
    "BMP": ["1", "L", "P", "RGB"],
    "GIF": ["L", "P", "P transparent"],
    "PPM": ["1", "L", "RGB"],
}

sides = st.one_of(st.integers(1, 60), st.sampled_from(TRAPS), st.sampled_from([127, 223, 224, 225, 449, 997]))
long_sides = st.sampled_from([2047, 3001, 4999])
sizes = st.one_of(
    st.tuples(sides, sides),
    st.tuples(long_sides, st.integers(1, 120)),
    st.tuples(st.integers(1, 120), long_sides),
    st.integers(1, 24).flatmap(lambda short: st.sampled_from([(50 * short, short), (short, 50 * short)])),
)
kinds = st.sampled_from([(form, mode) for form, modes in FORMATS.items() for mode in modes])
targets = st.one_of(st.just((224, 224)), st.tuples(st.integers(1, 260), st.integers(1, 260)))
resizes = st.builds(
    lambda size, method, padding, resample: Resize(*size, method, padding, resample),
    targets,
    st.sampled_from(["crop", "squish", "pad"]),
    st.sampled_from(["zeros", "border", "reflection"]),
    st.sampled_from(["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]),
)


def encoded(size: tuple[int, int], form: str, mode: str, orientation: int, seed: int) -> bytes:
    """A file of random pixels."""
    random = np.random.default_rng(seed)
    shape = (size[1], size[0])
    if mode == "I;16":
        image = Image.fromarray(random.integers(0, 65536, shape, np.uint16))
    elif mode == "I":
        image = Image.fromarray(random.integers(-300, 70000, shape, np.int32))
    elif mode == "F":
        image = Image.fromarray(random.normal(100, 100, shape).astype(np.float32))
    else:
        image = Image.fromarray(random.integers(0, 256, (*shape, 4), np.uint8), "RGBA").convert(mode.split()[0])
    options = {"transparency": 3} if mode == "P transparent" else {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, form, **options, **({"exif": exif} if form in ("JPEG", "PNG", "WEBP", "TIFF") else {}))
    return file.getvalue()


def fastai_pixels(photo: bytes, resize: Resize) -> np.ndarray:
    """What fastai makes of the same file."""
    method = {"crop": fastai.ResizeMethod.Crop, "squish": fastai.ResizeMethod.Squish, "pad": fastai.ResizeMethod.Pad}[
        resize.method
    ]
    padding = {name: getattr(fastai.PadMode, name.title()) for name in ("zeros", "border", "reflection")}[
        resize.padding
    ]
    resamples = (Image.Resampling[resize.resample.upper()], Image.Resampling.NEAREST)
    transform = fastai.Resize((resize.height, resize.width), method, padding, resamples)
    return np.asarray(transform(fastai.PILImage.create(photo), split_idx=1))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES == 2000)
@given(size=sizes, kind=kinds, orientation=st.integers(1, 8), resize=resizes, seed=st.integers(0, 2**16))
def test_pixels_equal_fastais(
    size: tuple[int, int], kind: tuple[str, str], orientation: int, resize: Resize, seed: int
) -> None:
    longest = max(size)  # whichever side it is: Pillow turns a TIFF as its orientation asks
    window = (longest / min(resize.width, resize.height)) ** 2 * resize.width * resize.height
    assume(resize.method != "pad" or window < 4e6)  # a strip in a square would take gigabytes, of fastai too
    photo = encoded(size, *kind, orientation, seed)
    try:
        expected = fastai_pixels(photo, resize)
    except (ValueError, ZeroDivisionError):  # a window without a pixel: Pillow cannot resize it
        try:
            pixels(photo, resize, "stored")
        except PhotoError:
            return
        raise
    assert np.array_equal(pixels(photo, resize, "stored"), expected)


@settings(max_examples=max(EXAMPLES // 10, 200), deadline=None, derandomize=EXAMPLES == 2000)
@given(size=sizes, orientation=st.integers(1, 8), seed=st.integers(0, 2**16))
def test_upright_pixels_equal_pillows_exif_transpose(size: tuple[int, int], orientation: int, seed: int) -> None:
    turned = encoded(size, "PNG", "RGB", orientation, seed)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(turned))).convert("RGB")
    square = Resize(64, 64)
    assert np.array_equal(pixels(turned, square, "upright"), pixels(np.asarray(upright), square, "stored"))
