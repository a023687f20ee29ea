"""A model of several labels: red, green and blue, each of them the label of a photo with much of that colour, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from petinfer.spec import Resize, Spec

SIDE = 4
LABELS = ("red", "green", "blue")


def colours_model(path: Path, threshold: float | None = 0.5, labels: tuple[str, ...] = LABELS) -> Path:
    """Write a model file for photos of 4 x 4 px: a label's logit is its channel's mean less 100, divided by 25."""
    import onnx

    graph = f"""<ir_version: 8, opset_import: ["" : 17]>
    agraph (uint8[batch, {SIDE}, {SIDE}, 3] image) => (float[batch, 3] probabilities, float[batch, 3] logits) {{
        numbers = Cast <to=1> (image)
        mean = ReduceMean <axes=[1, 2], keepdims=0> (numbers)
        middle = Constant <value_float=100.0> ()
        scale = Constant <value_float=25.0> ()
        distance = Sub (mean, middle)
        logits = Div (distance, scale)
        probabilities = {"Softmax <axis=1>" if threshold is None else "Sigmoid"} (logits)
    }}"""
    made = onnx.parser.parse_model(graph)
    entry = made.metadata_props.add()
    entry.key, entry.value = "petinfer", Spec(labels, Resize(SIDE, SIDE), threshold=threshold).to_json()
    onnx.save(made, path)
    return path


def photo(red: int, green: int, blue: int) -> Any:
    """A photo of one colour, uint8 [4, 4, 3]."""
    return np.full((SIDE, SIDE, 3), (red, green, blue), np.uint8)


COLOURS = {"blue and red": (110, 0, 200), "dark": (0, 75, 50), "red": (125, 25, 25)}


def colour_photos(folder: Path) -> Path:
    """Write photos with two labels, none and one; each is called by them."""
    from PIL import Image

    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.fromarray(photo(*colour)).save(folder / f"{name}.png")
    return folder
