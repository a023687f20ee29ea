"""Classifies what a camera or a video shows, and draws the answer into the picture.

python examples/webcam.py            # camera 0; q ends it. Or the path or address of a video in place of the number
"""

import sys
from collections.abc import Iterator
from typing import Any

import cv2

from petinfer import Classifier, Prediction


def predictions(capture: cv2.VideoCapture, clf: Classifier) -> Iterator[tuple[Any, Prediction]]:
    """Each frame (uint8 [height, width, 3], BGR) with its prediction, until the video ends or the camera stops."""
    while True:
        there, frame = capture.read()
        if not there:
            return
        rgb: Any = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)  # which petinfer takes
        yield frame, clf.predict(rgb)


def show(source: str) -> None:
    """Show the frames in a window until q is pressed or the window is closed."""
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not capture.isOpened():
        raise SystemExit(f"{source}: no such camera or video (check the number or the path)")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not the oldest that waits (not every driver obeys)
    for frame, prediction in predictions(capture, Classifier()):
        text = f"{prediction.label} {prediction.probability:.0%}"
        cv2.putText(frame, text, (16, 48), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 255), 3)
        cv2.imshow("petinfer", frame)
        if cv2.waitKey(1) == ord("q") or not cv2.getWindowProperty("petinfer", cv2.WND_PROP_VISIBLE):
            break
    capture.release()


if __name__ == "__main__":
    show(sys.argv[1] if len(sys.argv) > 1 else "0")
