"""The page's JavaScript, run in node, decodes and resizes photos to petinfer's bytes."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import struct
import subprocess
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petinfer import image as petinfer_image
from petinfer.errors import PhotoError
from petinfer.spec import METHODS, PADDINGS, RESAMPLES, Resize

from ..conftest import REPOSITORY

WEB = REPOSITORY / "docs" / "web"
GOLDEN = sorted((REPOSITORY / "petinfer" / "golden").iterdir())
SQUARE = Resize(224, 224)
Case = tuple[Path, str, Resize]

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not installed: the page's code cannot run"
)
needs_libraries = pytest.mark.skipif(
    not (WEB / "node_modules").is_dir(), reason="docs/web/node_modules is missing: run npm ci in docs/web"
)


def in_node(cases: list[Case], mode: str = "RGB") -> list[dict[str, str]]:
    """What the page's code makes of each case: the sha256 of its pixels, decoded and resized, or an error."""
    lines = [
        json.dumps({"path": str(path), "orientation": orientation, "resize": {**asdict(resize), "mode": mode}})
        for path, orientation, resize in cases
    ]
    command = ["node", REPOSITORY / "tests" / "web" / "pixels.mjs"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def in_petinfer(case: Case, mode: str = "RGB") -> dict[str, str]:
    path, orientation, resize = case
    decoded = petinfer_image.read(path, orientation, mode=mode)
    found = {"decoded": decoded, "pixels": petinfer_image.resize(decoded, resize)}
    return {name: hashlib.sha256(image.tobytes()).hexdigest() for name, image in found.items()}


def differing(cases: list[Case], mode: str = "RGB") -> list[tuple[str, dict[str, str]]]:
    """The cases in which the page and petinfer differ, with what the page has."""
    found = in_node(cases, mode)
    assert len(found) == len(cases)
    return [
        (f"{path.name} {orientation} {resize}", mine)
        for (path, orientation, resize), mine in zip(cases, found, strict=True)
        if mine != in_petinfer((path, orientation, resize), mode)
    ]


def noise(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Noise, with hard edges: the worst case for rounding and clipping."""
    values = random.integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(np.where(random.random((height, width, 1)) < 0.3, values // 128 * 255, values))


def random_side(random: np.random.Generator, longest: int) -> int:
    """As many small sides as large ones."""
    return int(np.exp(random.uniform(0, np.log(longest))))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))])
def test_fifty_pngs_of_random_sizes_give_petinfers_pixels(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    cases: list[Case] = []
    for i in range(50):
        path = tmp_path / f"{i}.png"
        noise(random, random_side(random, 2000), random_side(random, 2000)).save(path, compress_level=1)
        cases.append((path, "stored", SQUARE))
    assert differing(cases) == []


@pytest.mark.parametrize("method", METHODS)
def test_every_resize_that_a_file_may_ask_for_gives_petinfers_pixels(tmp_path: Path, method: str) -> None:
    random = np.random.default_rng(1)
    cases: list[Case] = []
    for i, (padding, resample) in enumerate(itertools.product(PADDINGS, RESAMPLES)):
        path = tmp_path / f"{i}.png"
        noise(random, random_side(random, 300), random_side(random, 300)).save(path)
        height, width = (int(side) for side in random.integers(1, 260, 2))
        cases.append((path, "stored", Resize(height, width, method, padding, resample)))
    assert differing(cases) == []


def test_the_golden_pngs_give_petinfers_pixels() -> None:
    cases: list[Case] = [(path, "stored", SQUARE) for path in GOLDEN if path.suffix == ".png"]
    assert len(cases) == 6
    assert differing(cases) == []


@needs_libraries
def test_all_golden_photos_give_petinfers_pixels() -> None:
    cases: list[Case] = [(path, each, SQUARE) for path in GOLDEN for each in ("stored", "upright")]
    assert differing(cases) == []


@needs_libraries
@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_the_pets_photos_give_petinfers_pixels(pets: Path, part: int) -> None:
    photos = sorted((pets / "test").iterdir())[part::4]
    assert len(photos) == 250
    assert differing([(photo, "upright", SQUARE) for photo in photos]) == []


@needs_libraries
def test_a_grey_model_gets_petinfers_grey_pixels() -> None:
    cases: list[Case] = [(path, "upright", Resize(97, 160)) for path in GOLDEN]
    assert differing(cases, "L") == []


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png_of(random: np.random.Generator, size: tuple[int, int], colour: int, depth: int, interlaced: bool) -> bytes:
    """A PNG of random bytes in which every row has a random filter; Pillow writes neither most kinds nor interlaced ones."""
    width, height = size
    rows = b""
    for x, y, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, lines = -(-(width - x) // across), -(-(height - y) // down)
        stride = -(-columns * _CHANNELS[colour] * depth // 8)
        for _ in range(lines if columns > 0 else 0):
            rows += bytes([random.integers(5)]) + random.bytes(stride)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b"")]
    if colour == 3:  # fewer colours than the depth could name, as files of 256 - n colours have them
        parts.insert(1, _chunk(b"PLTE", random.bytes(3 * (2**depth - depth // 8))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("interlaced", [False, True], ids=["rows", "interlaced"])
def test_every_kind_of_png_gives_petinfers_pixels(tmp_path: Path, interlaced: bool) -> None:
    random = np.random.default_rng(2)
    cases: list[Case] = []
    for colour, depths in _DEPTHS.items():
        for depth in depths:
            for size in ((1, 1), (3, 2), (13, 21)):
                path = tmp_path / f"{colour}-{depth}-{size[0]}.png"
                path.write_bytes(png_of(random, size, colour, depth, interlaced))
                cases.append((path, "stored", Resize(16, 16)))
    assert differing(cases) == []


@pytest.mark.parametrize("suffix", [".png", *(pytest.param(each, marks=needs_libraries) for each in (".jpg", ".webp"))])
def test_a_photo_is_turned_as_petinfer_turns_it(tmp_path: Path, suffix: str) -> None:
    cases: list[Case] = []
    photo = noise(np.random.default_rng(3), 31, 17)
    for value in range(1, 10):
        exif = Image.Exif()
        exif[0x0112] = value
        path = tmp_path / f"{value}{suffix}"
        photo.save(path, exif=exif)
        cases += [(path, orientation, Resize(16, 16)) for orientation in ("stored", "upright")]
    assert differing(cases) == []


@needs_libraries
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_a_jpeg_gives_petinfers_pixels(tmp_path: Path, cat_photo: Path, mode: str, progressive: bool) -> None:
    cases: list[Case] = []
    photo = Image.open(cat_photo).convert(mode)
    sizes, samplings = ((451, 300), (77, 33), (1, 1)), ("4:4:4", "4:2:2", "4:2:0")
    for i, (size, subsampling) in enumerate(itertools.product(sizes, samplings)):
        path = tmp_path / f"{i}.jpg"
        sampled = {} if mode == "L" else {"subsampling": subsampling}
        photo.resize(size).save(path, quality=40 + 4 * i, progressive=progressive, **sampled)
        cases.append((path, "stored", SQUARE))
    assert differing(cases) == []


@pytest.mark.parametrize("suffix", [".png", pytest.param(".jpg", marks=needs_libraries)])
def test_a_photo_cut_short_is_refused_as_in_petinfer(tmp_path: Path, cat_photo: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    Image.open(cat_photo).save(whole)
    content = whole.read_bytes()
    path = tmp_path / f"short{suffix}"
    path.write_bytes(content[: len(content) // 2])
    assert set(in_node([(path, "stored", SQUARE)])[0]) == {"error"}
    with pytest.raises(PhotoError):
        petinfer_image.read(path, "stored")


def test_a_png_with_a_wrong_checksum_is_refused_as_in_petinfer(tmp_path: Path) -> None:
    content = bytearray(png_of(np.random.default_rng(4), (5, 4), 2, 8, False))
    content[20] ^= 1  # in the width
    path = tmp_path / "damaged.png"
    path.write_bytes(content)
    assert in_node([(path, "stored", SQUARE)]) == [{"error": "damaged"}]
    with pytest.raises(PhotoError):
        petinfer_image.read(path, "stored")
