"""Learners of other versions, Pythons and systems: what moved is found, and what is missing is refused where it matters."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import types
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from fastai.callback.tracker import SaveModelCallback
from torch import nn

from export.errors import ExportError
from export.parity.compare import softmax
from export.source import unpickling
from export.source.pickled import load_learner, load_pickled
from export.source.source_model import learner_logits
from export.source.unpickling import Stub, portable_path

DATA = Path(__file__).parent / "data"
OLD_LEARNER = DATA / "fastai27.pkl"


def unpickle(content: bytes) -> object:
    return unpickling.Unpickler(io.BytesIO(content)).load()


def called(name: str, *arguments: object) -> bytes:
    """The pickle of a call, without the final stop; bytes among the arguments are such calls themselves."""
    parts = [each if isinstance(each, bytes) else pickle.dumps(each, 0)[:-1] for each in arguments]
    return b"c" + name.replace(".", "\n", 1).encode() + b"\n(" + b"".join(parts) + b"tR"


def test_a_learner_of_fastai_27_answers_as_it_did_there(cat_photo: Path) -> None:
    expected = json.loads((DATA / "fastai27.json").read_text())
    source = load_pickled(OLD_LEARNER)
    (answer,) = softmax(learner_logits(source.learn, [cat_photo]))
    assert expected["versions"]["fastai"].startswith("2.7.")
    assert source.labels[answer.argmax()] == expected["label"]
    assert answer == pytest.approx(expected["probabilities"], abs=1e-6)


def test_only_the_core_callbacks_are_kept() -> None:
    assert any(isinstance(each, SaveModelCallback) for each in load_learner(OLD_LEARNER).cbs)
    names = [type(each).__name__ for each in load_pickled(OLD_LEARNER).learn.cbs]
    assert names == ["TrainEvalCallback", "Recorder", "CastToTensor", "ProgressCallback"]


class Head(nn.Module):
    """A head whose module is missing where the Learner is loaded."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input."""
        return x


class Noisy:
    """A callback whose module is missing where the Learner is loaded."""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that tests import, and remove before they load."""
    module = types.ModuleType("my_notebook")
    monkeypatch.setitem(sys.modules, "my_notebook", module)
    for cls in (Head, Noisy):
        monkeypatch.setattr(cls, "__module__", "my_notebook")
        setattr(module, cls.__name__, cls)
    return module


@pytest.mark.parametrize("nested", [True, False])
def test_a_missing_network_module_is_refused_by_name(
    notebook: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nested: bool
) -> None:
    learn = load_learner(OLD_LEARNER)
    learn.model = nn.Sequential(learn.model, nn.Sequential(Head())) if nested else Head()
    torch.save(learn, tmp_path / "head.pkl", pickle_module=cloudpickle)
    monkeypatch.delitem(sys.modules, "my_notebook")
    with pytest.raises(ExportError, match=r"its network contains my_notebook\.Head, .* put my_notebook\.py into the"):
        load_pickled(tmp_path / "head.pkl")


def test_a_missing_callback_does_not_matter(
    notebook: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cat_photo: Path
) -> None:
    learn = load_learner(OLD_LEARNER)
    learn.cbs.append(Noisy())
    torch.save(learn, tmp_path / "noisy.pkl", pickle_module=cloudpickle)
    monkeypatch.delitem(sys.modules, "my_notebook")
    assert learner_logits(load_pickled(tmp_path / "noisy.pkl").learn, [cat_photo]).shape == (1, 2)


def test_an_import_error_inside_a_package_is_given_as_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "halfway.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(unpickling, "packages_distributions", lambda: {"halfway": ["halfway"]})
    stub = unpickle(b"chalfway\nCallback\n.")
    assert isinstance(stub, Stub)
    assert (
        "(ModuleNotFoundError No module named 'no_such_package_at_all'); replaced by a stub" in capsys.readouterr().err
    )


def test_a_function_of_another_python_is_replaced_by_a_stub(capsys: pytest.CaptureFixture[str]) -> None:
    """Python 3.7 had 15 arguments of a code object, 3.8 to 3.10 have 16, 3.11 has 18."""
    python37 = (1, 0, 1, 1, 67, "d", (None,), (), ("x",), "cell.py", "is_cat", 1, "", (), ())
    code = called("types.CodeType", *python37)
    function = unpickle(b"ccloudpickle.cloudpickle\n_make_function\n(" + code + b"}Vis_cat\n))tR.")
    assert isinstance(function, Stub)
    assert "is_cat is not importable (pickled by value under another Python)" in capsys.readouterr().err


def test_a_function_of_this_python_is_loaded() -> None:
    double = unpickle(cloudpickle.dumps(lambda x: 2 * x))
    assert double(21) == 42  # type: ignore[operator]


@pytest.mark.parametrize(
    ("system", "name", "expected"),
    [
        ("nt", "PosixPath", "PurePosixPath"),
        ("nt", "WindowsPath", "WindowsPath"),
        ("posix", "WindowsPath", "PureWindowsPath"),
        ("posix", "PosixPath", "PosixPath"),
        ("nt", "Path", "Path"),
    ],
)
def test_paths_of_both_systems_can_be_made_on_both(system: str, name: str, expected: str) -> None:
    assert portable_path(name, system) == expected


def test_old_dispatch_gives_every_function_once() -> None:
    old = unpickling._Dispatch()
    inner, types_ = unpickling._Dispatch(), unpickling._Dispatch()
    inner.__dict__ |= {"d": {object: np.abs}, "cache": {}}
    types_.__dict__ |= {"d": {object: inner}, "cache": {}}
    old.__dict__ |= {"funcs": types_, "bases": [], "inst": None}
    assert old.functions() == [np.abs]


def test_the_old_learner_is_exported_by_the_command(tmp_path: Path, drawn_photos: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "export", OLD_LEARNER, "--out", out, "--photos", drawn_photos]
    options = ["--precision", "fp32", "--labels", "dog, cat"]
    done = subprocess.run([*map(str, command), *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "False → dog, True → cat" in done.stderr.splitlines()
    assert sorted(path.name for path in out.iterdir()) == [
        "card-fp32.md",
        "model-fp32.cdx.json",
        "model-fp32.onnx",
        "parity.html",
        "parity.json",
    ]
    assert "int8" not in done.stderr  # nothing is calibrated
