"""The gates, the photos and the options: what passes, what is refused, and with which words."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import numpy as np
import onnx
import pytest
import torch
from fastai.vision.all import (
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Learner,
)
from fastai.vision.all import Resize as FastaiResize
from PIL import Image
from torch import nn

from export import pipeline
from export.errors import ExportError
from export.onnx_file.graph import export_graph
from export.onnx_file.int8 import has_int8_sums
from export.options import Options, parse_labels
from export.parity.compare import Reference, compare, softmax
from export.parity.gates import GATES, Gate
from export.parity.report import page, table
from export.parity.turned import _is_turned
from export.photos import choose_photos
from export.source.source_model import SourceModel, learner_logits
from petinfer.spec import Resize

from ..conftest import obeys_ctrl_c

LABELS = ("dog", "cat")
LOGITS = np.array([[2.0, -2.0], [-1.0, 1.0]])
SMALL_LEARNER = Path(__file__).parent / "data" / "fastai27.pkl"


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 20), "red").save(tmp_path / name)
    return [tmp_path / "a.png", tmp_path / "b.png"]


@pytest.fixture
def reference(photos: list[Path]) -> Reference:
    return Reference(photos, LABELS, LOGITS)


def test_fp32_passes_where_float32_itself_is_the_limit(reference: Reference) -> None:
    logits = np.add(LOGITS, [[0.0, 1e-3]])
    parity = compare(reference, softmax(logits), logits)
    assert GATES["fp32"].failures(parity) != []
    assert GATES["fp32"].failures(replace(parity, file_error=4e-5, torch_error=1e-5)) == []
    assert GATES["fp32"].failures(replace(parity, file_error=4.1e-5, torch_error=1e-5)) != []


def amplified_learner(folder: Path, photos: Path) -> Path:
    """Six untrained convolutions, and a last layer that brings their nearly constant answers to a deviation of 1."""
    torch.manual_seed(0)
    files = sorted(photos.glob("*.png"))
    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_y=lambda photo: photo.name[0].isupper(),
        splitter=IndexSplitter(range(8)),
        item_tfms=FastaiResize(64),
    )
    layers = [(3, 2), (16, 2), (16, 2), (16, 1), (16, 1), (16, 1)]
    body = [each for given, step in layers for each in (nn.Conv2d(given, 16, 3, step, 1), nn.ReLU())]
    last = nn.Linear(16, 2)
    network = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    learn = Learner(block.dataloaders(files, bs=8, num_workers=0), network, CrossEntropyLossFlat(), path=folder)
    logits = torch.from_numpy(learner_logits(learn, files))
    with torch.no_grad():
        scale, mean = (1 / logits.std(0)).float(), logits.mean(0).float()
        last.bias.copy_((last.bias - mean) * scale)
        last.weight *= scale[:, None]
    learn.export("export.pkl", pickle_module=cloudpickle)
    return folder / "export.pkl"


def test_a_learner_at_float32s_limit_is_exported(tmp_path: Path, drawn_photos: Path) -> None:
    """Its file is over 1e-5 away, because torch's own answers are as far from float64 as the file's."""
    learner, out = amplified_learner(tmp_path, drawn_photos), tmp_path / "out"
    pipeline.export(Options(learner, out, photos=drawn_photos, precisions=("fp32",)))
    parity = json.loads((out / "parity.json").read_text())["fp32"]
    assert 1e-5 < parity["probability_max"] < 2e-4
    assert parity["file_error"] <= 4 * parity["torch_error"] and parity["torch_error"] > 2e-6
    both = f"{parity['file_error']:.1e} for the fp32 file, {parity['torch_error']:.1e} for torch"
    assert both in (out / "parity.html").read_text(encoding="utf-8")


def test_a_flip_fails_fp32_even_where_float32_is_the_limit(reference: Reference) -> None:
    parity = compare(reference, softmax(-LOGITS), -LOGITS)
    assert [GATES["fp32"].failures(replace(parity, file_error=0.0, torch_error=1e-5))[0][:27]] == [
        "share of decisions flipped "
    ]


def test_int8_with_less_than_half_of_its_work_in_int8_is_refused(reference: Reference) -> None:
    parity = compare(reference, softmax(LOGITS), LOGITS)
    assert GATES["int8"].failures(replace(parity, int8_share=0.5)) == []
    (failure,) = GATES["int8"].failures(replace(parity, int8_share=0.07))
    assert failure == "share of multiplications in int8 is 0.07, under 0.5"


def test_a_value_just_over_its_limit_is_given_with_enough_digits(reference: Reference) -> None:
    parity = replace(compare(reference, softmax(LOGITS), LOGITS), probability_p99=0.020004)
    assert Gate(1, 0.02, 1).failures(parity) == ["99th percentile of |Δ probability| is 0.020004, over 0.02"]


@pytest.mark.parametrize("truth", [None, [0, 1]])
def test_the_report_has_columns_for_errors_only_where_labels_are_known(
    photos: list[Path], truth: list[int | None] | None
) -> None:
    reference = Reference(photos, LABELS, LOGITS, truth)
    parities = {"int8": compare(reference, softmax(LOGITS), LOGITS)}
    html, heading = page(parities, reference, "2 photos"), next(table(parities))
    assert ("<th>errors" in html) == ("errors" in heading) == (truth is not None)
    assert "1.0e+00" not in html and " inf" not in html and "<td>–" not in html


def test_the_report_shows_float64_turned_photos_and_the_share(reference: Reference) -> None:
    parity = compare(reference, softmax(LOGITS), LOGITS)
    fp32 = replace(parity, file_error=2e-5, torch_error=1e-5, turned={"photos": 3, "changed": 1})
    html = page({"fp32": fp32, "int8": replace(parity, int8_share=0.98, calibrated_on=7)}, reference, "2 photos")
    assert "2.0e-05 for the fp32 file, 1.0e-05 for torch" in html
    assert "3 of the photos have an EXIF turn" in html and "1 of them gets another label" in html
    assert "98.0 % of the multiplications are in int8, calibrated on 7 other photos" in html


def test_a_turned_photo_is_recognised(lying_photo: Path, cat_photo: Path) -> None:
    assert _is_turned(lying_photo) and not _is_turned(cat_photo)


def test_no_photo_both_calibrates_and_is_compared(drawn_photos: Path) -> None:
    chosen = choose_photos(Options(SMALL_LEARNER, photos=drawn_photos))
    assert len(chosen.calibration) == len(chosen.comparison) == 16
    assert set(chosen.calibration) & set(chosen.comparison) == set()
    same = choose_photos(Options(SMALL_LEARNER, photos=drawn_photos, calibrate=drawn_photos, limit=4))
    assert set(same.calibration) & set(same.comparison) == set() and len(same.comparison) == 4


def test_fp32_alone_is_compared_on_all_photos_and_calibrates_on_none(drawn_photos: Path) -> None:
    chosen = choose_photos(Options(SMALL_LEARNER, photos=drawn_photos, precisions=("fp32",)))
    assert (len(chosen.calibration), len(chosen.comparison)) == (0, 32)


def test_one_photo_is_too_few_for_int8(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "one.png")
    with pytest.raises(ExportError, match="one photo cannot both calibrate int8 and be compared"):
        choose_photos(Options(SMALL_LEARNER, photos=tmp_path))
    assert len(choose_photos(Options(SMALL_LEARNER, photos=tmp_path, precisions=("fp32",))).comparison) == 1


def test_photos_of_other_things_are_not_both_fitted_on_and_measured(drawn_photos: Path) -> None:
    same = Options(SMALL_LEARNER, photos=drawn_photos, unfamiliar=drawn_photos, others=drawn_photos)
    with pytest.raises(ExportError, match="--unfamiliar and --others: 32 photos are in both"):
        choose_photos(same)


def test_labels_are_stripped_and_checked() -> None:
    assert parse_labels("kitten, hound") == ("kitten", "hound")
    assert parse_labels(None) is None
    for text, problem in (("dog,", "an empty label"), ("kitten, kitten", "'kitten' is given twice")):
        with pytest.raises(ExportError, match=problem):
            parse_labels(text)


def test_help_and_bad_labels_need_no_torch(tmp_path: Path) -> None:
    code = """
import sys
from export.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit as done:
    assert not {"torch", "fastai", "onnx"} & set(sys.modules)
    raise
"""
    for arguments, expected in ((["--help"], 0), (["x.pkl", "--out", "y", "--labels", "a,a"], 2)):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == expected, done.stderr


def test_ctrl_c_exits_with_130(tmp_path: Path, drawn_photos: Path) -> None:
    command = [sys.executable, "-m", "export", SMALL_LEARNER, "--out", tmp_path / "out", "--photos", drawn_photos]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=obeys_ctrl_c) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("loading")
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(120) == 130
        assert "Traceback" not in process.stderr.read()
    assert not (tmp_path / "out").exists()


class Undecided(nn.Module):
    """A network that looks at its data, which torch's exporter refuses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two numbers for each photo."""
        return x.mean((2, 3))[:, :2] if x.sum() > 0 else x.amax((2, 3))[:, :2]


def test_what_torch_cannot_export_is_one_line() -> None:
    learn = SimpleNamespace(model=Undecided())
    with pytest.raises(ExportError, match=r"^network: torch cannot export it to ONNX: .*[^\n]*$"):
        export_graph(SourceModel(learn, LABELS, Resize(16, 16), None))


def test_a_full_disk_is_one_line(tmp_path: Path, drawn_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "model-fp32.onnx")

    monkeypatch.setattr(pipeline, "_compare_and_write", full)
    with pytest.raises(ExportError, match=r"model-fp32\.onnx: No space left on device \(free some space"):
        pipeline.export(Options(SMALL_LEARNER, tmp_path / "out", photos=drawn_photos, limit=2))


def test_no_limit_is_infinite() -> None:
    assert math.isinf(GATES["int8"].largest)


def test_a_file_that_fails_gets_its_sums_in_float(
    tiny_learner: Path,
    drawn_photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(GATES, "int8", replace(GATES["int8"], p99=0.0))
    options = Options(tiny_learner, tmp_path, photos=drawn_photos, limit=4, precisions=("int8",), allow_worse=True)
    pipeline.export(options)
    again = "int8 is too far from the Learner: again, with the sums of residual blocks in float, which is slower"
    assert again in capsys.readouterr().err
    assert not has_int8_sums(onnx.load(tmp_path / "model-int8.onnx"))
