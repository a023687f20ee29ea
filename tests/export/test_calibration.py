"""Calibration a few photos at a time: the ranges are those of onnxruntime's own calibrator, which keeps everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

from export.onnx_file import calibration
from export.onnx_file.calibration import in_batches, measure_ranges

SEEN = 12  # photos


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A convolution and a ReLU over an image's pixels."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "weight"], ["sums"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["sums"], ["lit"]),
    ]
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 20, 20, 3])
    lit = helper.make_tensor_value_info("lit", TensorProto.FLOAT, ["batch", 4, 18, 18])
    graph = helper.make_graph(nodes, "small", [image], [lit], [onnx.numpy_helper.from_array(weight, "weight")])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "m")
    return tmp_path / "m"


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (SEEN, 20, 20, 3), np.uint8)


class _AllAtOnce:
    """What onnxruntime's calibrators read from: every photo in one batch."""

    def __init__(self, images: np.ndarray) -> None:
        self.batches = [{"image": images}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The photos, then nothing."""
        return self.batches.pop() if self.batches else None


def ends(limits: tuple[np.ndarray, np.ndarray]) -> list[float]:
    return [np.asarray(limit).item() for limit in limits]


@pytest.mark.parametrize(("method", "percentile"), [("Percentile", 99.0), ("Entropy", 99.0), ("MinMax", 99.0)])
def test_ranges_equal_those_of_onnxruntimes_calibrator(
    model: Path, images: np.ndarray, method: str, percentile: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"percentile": percentile} if method == "Percentile" else {}
    calibrator = create_calibrator(
        model, ["Conv", "Relu"], str(model.with_suffix(".all")), CalibrationMethod[method], extra_options=options
    )
    calibrator.collect_data(_AllAtOnce(images))
    expected = calibrator.compute_data()
    monkeypatch.setattr(calibration, "_MEMORY", 40_000)  # of activations: batches of two
    found = measure_ranges(model, ["Conv", "Relu"], images, (method, percentile), calibration.quietly)
    assert set(found.keys()) == set(expected.keys()) == {"pixels", "sums", "lit"}
    for name in found.keys():  # noqa: SIM118  not a dict
        assert ends(found[name].range_value) == ends(expected[name].range_value)


def test_batches_hold_every_photo_once_and_stay_small(model: Path, images: np.ndarray) -> None:
    class Session:
        def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.zeros((len(feed["image"]), 100), np.float32)]

    for memory, sizes in ((10**9, [12]), (5 * 400, [5, 5, 2]), (1, [1] * 12)):
        batches = in_batches(images, Session(), ["x"], memory)  # type: ignore[arg-type]
        assert [len(batch) for batch in batches] == sizes
        assert np.array_equal(np.concatenate(batches), images)


def test_what_the_calibrator_prints_goes_to_the_log(
    model: Path, images: np.ndarray, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="export"):
        measure_ranges(model, ["Conv"], images, ("Percentile", 99.0), calibration.quietly)
    assert capsys.readouterr().out == "" and "Number of tensors : 2" in caplog.text


def test_progress_is_shown_for_each_pass(model: Path, images: np.ndarray) -> None:
    titles = []

    def progress(items: list[np.ndarray], title: str) -> list[np.ndarray]:
        titles.append((title, len(items)))
        return items

    measure_ranges(model, ["Conv"], images, ("Percentile", 99.0), progress)  # type: ignore[arg-type]
    assert titles == [("calibrating int8: ranges", 1), ("calibrating int8: histograms", 1)]
