"""The webcam loop, on a video file and on the images that OpenCV would show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from petinfer import Classifier

# ImportError: opencv-python needs libGL
cv2 = pytest.importorskip("cv2", reason="pip install -r examples/requirements.txt", exc_type=ImportError)

from examples import webcam  # noqa: E402


@pytest.fixture
def video(cat_photo: Path, tmp_path: Path) -> Path:
    """Three frames: the cat, its mirror image, and the cat with red and blue exchanged."""
    cat = cv2.imread(str(cat_photo))
    writer = cv2.VideoWriter(str(tmp_path / "cat.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, cat.shape[1::-1])
    assert writer.isOpened()
    for frame in (cat, cat[:, ::-1], cat[:, :, ::-1]):
        writer.write(np.ascontiguousarray(frame))
    writer.release()
    return tmp_path / "cat.avi"


def test_each_frame_is_answered_in_its_true_colours(video: Path) -> None:
    clf = Classifier()
    answers = list(webcam.predictions(cv2.VideoCapture(str(video)), clf))
    assert [answer.label for _, answer in answers[:2]] == ["cat", "cat"]
    for frame, answer in answers:
        assert answer == clf.predict(np.ascontiguousarray(frame[:, :, ::-1]))
        assert answer.probabilities != clf.predict(frame).probabilities
    assert len(answers) == 3


def test_the_loop_shows_the_answer_until_q_is_pressed(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window is OpenCV's; a build without windows cannot open one, so its three functions are replaced."""
    shown: list[NDArray[np.uint8]] = []
    keys = iter([-1, ord("q")])
    monkeypatch.setattr(cv2, "imshow", lambda _, frame: shown.append(frame))
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    webcam.show(str(video))
    original = cv2.VideoCapture(str(video)).read()[1]
    assert len(shown) == 2
    assert (shown[0] != original).any()  # the text


def test_a_missing_video_is_one_line() -> None:
    with pytest.raises(SystemExit, match=r"nowhere\.avi: no such camera or video"):
        webcam.show("nowhere.avi")
