"""The proof on a device: what passes, and that each thing that can go wrong is caught."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from petinfer import Classifier, ModelError
from petinfer.classifier import BUNDLED_MODEL
from petinfer.cli import main
from petinfer.session.devices import DEVICES
from petinfer.session.model_file import digest, read_spec
from petinfer.verify import GOLDEN_PHOTOS, onnxruntime_wheels, verify

from ..conftest import cli_runner


def test_the_bundled_model_is_verified_here() -> None:
    result = cli_runner().invoke(main, ["verify", "--json"])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["passed"], found["failures"]) == (0, True, [])
    assert {check["photo"] for check in found["checks"]} == {path.name for path in GOLDEN_PHOTOS.iterdir()}
    assert all(check["pixels_equal"] and not check["flipped"] for check in found["checks"])


def test_an_fp32_file_is_as_close_to_the_learner_as_was_promised(exported: Path) -> None:
    verdict = verify(Classifier(exported / "model-fp32.onnx"))
    assert verdict.failures == ()
    assert max(check.from_learner for check in verdict.checks) <= 1e-5


def test_the_table_says_what_ran(exported: Path) -> None:
    result = cli_runner().invoke(main, ["verify", "--model", str(exported / "model-fp32.onnx")])
    assert "fp32 on CPUExecutionProvider" in result.stdout
    assert result.stdout.endswith("15 of 15 photos with identical pixels, 0 decisions flipped: verified\n")


def test_every_provider_at_hand_can_be_verified(exported: Path) -> None:
    result = cli_runner().invoke(
        main, ["verify", "--providers", "--json", "--model", str(exported / "model-fp32.onnx")]
    )
    assert [(found["provider"], found["passed"]) for found in json.loads(result.stdout)] == [
        ("CPUExecutionProvider", True)
    ]


def test_devices_are_listed_with_the_reason_why_one_is_not_ready() -> None:
    lines = cli_runner().invoke(main, ["devices"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(DEVICES)
    assert lines[-1] == "cpu           ready: CPUExecutionProvider"
    assert lines[0].startswith("cuda          no: this onnxruntime has no CUDAExecutionProvider (it has ")
    assert lines[3].endswith(
        "no: this onnxruntime has no OpenVINOExecutionProvider (pip install onnxruntime-ep-openvino)"
    )


def test_one_changed_bit_of_a_weight_is_caught(exported: Path, tmp_path: Path) -> None:
    content = bytearray((exported / "model-fp32.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "changed.onnx").write_bytes(content)
    (failure, *_) = verify(Classifier(tmp_path / "changed.onnx")).failures
    assert failure.endswith("changed.onnx is not the exported file: its sha256 differs (copy it again)")


def test_a_change_anywhere_in_the_bundled_file_is_refused_or_caught(tmp_path: Path) -> None:
    """At both ends and at 20 places between: the file is refused, or `verify` sees that its sha256 differs."""
    whole = BUNDLED_MODEL.read_bytes()
    path = tmp_path / "changed.onnx"
    for place in np.linspace(0, len(whole) - 1, 22).astype(int):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with suppress(ModelError):
            written = read_spec(path).sha256
            assert digest(path, written) != written, place


BREAKS = {
    "bicubic for bilinear": "resize = Image.Image.resize\n"
    "Image.Image.resize = lambda self, size, *more: resize(self, size, Image.Resampling.BICUBIC)",
    "no antialiasing": "import numpy as np\ndef sparse(self, size, *more):\n"
    "    x, y = (np.linspace(0, n - 1, m).round().astype(int) for n, m in zip(self.size, size))\n"
    "    return Image.fromarray(np.asarray(self)[y][:, x])\nImage.Image.resize = sparse",
    "an off-by-one crop": "crop = Image.Image.crop\n"
    "Image.Image.crop = lambda self, b=None: crop(self, (b[0] + 1, b[1], b[2] + 1, b[3]) if b else b)",
    "swapped channels": "import petinfer.verify as v\nread = v.read\n"
    "v.read = lambda *a, **k: Image.merge('RGB', read(*a, **k).split()[::-1])",
    "EXIF turned": "import petinfer.verify as v\nread = v.read\n"
    "v.read = lambda photo, orientation, **mode: read(photo, 'upright', **mode)",
    "a provider that computes wrongly": "from petinfer.classifier import Classifier\nrun = Classifier.outputs\n"
    "Classifier.outputs = lambda self, *asked: [answers * 0.9 + 0.05 for answers in run(self, *asked)]",
}


@pytest.mark.parametrize("what", BREAKS)
def test_each_break_is_caught(what: str, exported: Path) -> None:
    """The break is made in a process of its own, to Pillow where it is Pillow's, else to what stands in its place."""
    run = f"from PIL import Image\n{BREAKS[what]}\nfrom petinfer.cli import main\nmain()"
    command = [sys.executable, "-c", run, "verify", "--json", "--model", exported / "model-fp32.onnx"]
    done = subprocess.run(command, capture_output=True, timeout=120, text=True)
    assert (done.returncode, json.loads(done.stdout)["passed"]) == (1, False), done.stderr


def test_another_jpeg_decoder_is_a_note_and_not_a_failure(exported: Path) -> None:
    """A decoder that rounds otherwise: some pixels of the JPEGs are one off."""
    run = """
from PIL import Image
import petinfer.verify as v
read = v.read
def other(photo, orientation, **mode):
    image = read(photo, orientation, **mode)
    return image.point(lambda level: max(level, 1)) if photo.suffix == ".jpg" else image
v.read = other
from petinfer.cli import main
main()
"""
    command = [sys.executable, "-c", run, "verify", "--json", "--model", exported / "model-fp32.onnx"]
    found = json.loads(subprocess.run(command, capture_output=True, timeout=120, text=True).stdout)
    assert found["passed"] and found["notes"][0].startswith("this machine's JPEG decoder gives other pixels")
    assert all(check["photo"].endswith(".jpg") for check in found["checks"] if not check["pixels_equal"])


OTHER_JPEGS = {
    "swapped channels": "Image.merge('RGB', image.split()[::-1])",
    "inverted": "image.point(lambda level: 255 - level)",
    "mirrored": "image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)",
    "too bright": "image.point(lambda level: level + 6)",
    "a single pixel": "image.resize((1, 1)).resize(image.size) if image.width > 1000 else image.resize((1, 1))",
}


@pytest.mark.parametrize("what", OTHER_JPEGS)
def test_each_break_of_the_jpegs_alone_is_caught(what: str) -> None:
    """Swapping red and blue in all JPEGs used to pass on 4 of 5 golden photos: the decisions stayed the same."""
    run = f"""
from PIL import Image
import petinfer.verify as v
read = v.read
def other(photo, orientation, **mode):
    image = read(photo, orientation, **mode)
    return {OTHER_JPEGS[what]} if photo.suffix == ".jpg" else image
v.read = other
from petinfer.cli import main
main()
"""
    command = [sys.executable, "-c", run, "verify", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, timeout=120, text=True).stdout)
    caught = {failure.split(":")[0] for failure in found["failures"]}
    grey = {"cat-grey.jpg"} if what == "swapped channels" else set()  # whose channels are equal
    assert caught == {path.name for path in GOLDEN_PHOTOS.glob("*.jpg")} - grey


def test_the_colours_of_the_golden_jpegs_are_those_of_this_decoder() -> None:
    assert all(check.colours_moved < 1 for check in verify(Classifier()).checks)


def test_a_model_without_golden_answers_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(BUNDLED_MODEL)
    entry = next(entry for entry in model.metadata_props if entry.key == "petinfer")
    entry.value = json.dumps({**json.loads(entry.value), "golden": {}})
    onnx.save(model, tmp_path / "unproven.onnx")
    with pytest.raises(ModelError, match="contains no golden answers to verify"):
        verify(Classifier(tmp_path / "unproven.onnx"))


def test_one_onnxruntime_is_installed() -> None:
    assert onnxruntime_wheels() == ["onnxruntime"]
