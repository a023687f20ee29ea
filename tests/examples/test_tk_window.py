"""The Tk window, on a real or a virtual screen."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from petinfer import Classifier

tkinter = pytest.importorskip("tkinter", reason="this Python was built without tkinter")

if TYPE_CHECKING:
    from examples.tk_window import Window


@pytest.fixture(scope="module")
def screen() -> Iterator[None]:
    """The screen that DISPLAY names, or else a virtual one."""
    if os.environ.get("DISPLAY") or os.name == "nt":
        yield
        return
    if not shutil.which("Xvfb"):
        pytest.skip("needs a screen, or Xvfb for a virtual one (apt-get install xvfb)")
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "800x700x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        os.environ["DISPLAY"] = f":{server.stdout.readline().strip()}"
        yield
        del os.environ["DISPLAY"]
        server.terminate()


@pytest.fixture
def window(screen: None) -> Iterator[Window]:
    from examples.tk_window import Window

    window = Window()
    window.after(60_000, window.destroy)  # a test that waits for an answer in vain then fails
    yield window
    window.destroy()


def answered(window: Window, photo: Path) -> str:
    window.classify(str(photo))
    assert window.answer.get() == "…"  # the window is free while the photo is computed
    window.wait_variable(window.answer)
    window.update()
    return window.answer.get()


def expected(photo: Path) -> str:
    prediction = Classifier().predict(photo)
    return f"{prediction.label}  {prediction.probability:.1%}"


def test_a_photo_and_its_answer_are_shown(window: Window, lying_photo: Path) -> None:
    assert answered(window, lying_photo) == expected(lying_photo)
    assert (window.photo.winfo_width() > window.photo.winfo_height() > 200, window.photo.winfo_ismapped()) == (True, 1)


def test_the_button_asks_for_a_photo(window: Window, cat_photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tkinter.filedialog.askopenfilename", lambda **_: str(cat_photo))
    button = next(child for child in window.winfo_children() if child.winfo_class() == "TButton")
    button.invoke()  # type: ignore[attr-defined]
    window.wait_variable(window.answer)
    assert window.answer.get() == expected(cat_photo)


def test_an_unreadable_photo_is_one_line_and_the_window_goes_on(window: Window, cat_photo: Path) -> None:
    assert "no such file" in answered(window, Path("nowhere.jpg"))
    assert answered(window, cat_photo) == expected(cat_photo)
