"""What a model file says of itself: there and back, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from petinfer import ModelError
from petinfer.spec import Resize, Spec

SPEC = Spec(
    ("dog", "cat"), Resize(224, 160, "pad", "border", "bicubic"), "upright", "int8", {"architecture": "resnet34"}
)


GOLDEN = {"size": [2, 1], "decoded": "0" * 64, "pixels": "f" * 64, "learner": [0.25, 0.75], "file": [0.5, 0.5]}


def test_golden_answers_survive_the_file() -> None:
    text = json.dumps(json.loads(SPEC.to_json()) | {"golden": {"a.png": GOLDEN}})
    assert json.loads(Spec.from_json(text).to_json())["golden"] == {"a.png": GOLDEN}


def test_a_description_survives_the_file() -> None:
    assert Spec.from_json(SPEC.to_json()) == SPEC


def test_grey_is_of_schema_2_and_survives_the_file() -> None:
    grey = replace(SPEC, mode="L")
    content = json.loads(grey.to_json())
    assert (content["schema"], content["mode"], grey.pixels_shape) == (2, "L", (224, 160, 1))
    assert Spec.from_json(grey.to_json()) == grey


def test_without_a_field_of_schema_2_a_description_is_of_schema_1() -> None:
    content = json.loads(SPEC.to_json())
    assert content["schema"] == 1 and "mode" not in content
    assert Spec.from_json(changed(schema=2)) == SPEC
    assert SPEC.pixels_shape == (224, 160, 3)


def test_size_is_height_then_width() -> None:
    assert json.loads(SPEC.to_json())["resize"]["size"] == [224, 160]


def changed(**entries: object) -> str:
    """The description with some entries replaced; None takes one out."""
    content = json.loads(SPEC.to_json()) | entries
    return json.dumps({key: value for key, value in content.items() if value is not None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "its metadata is not JSON"),
        ("[]", "metadata is [], not a JSON object"),
        (changed(schema=3), "its schema is not 1 to 2"),
        (changed(schema=True), "its schema is not 1 to 2"),
        (changed(schema=[]), "its schema is not 1 to 2"),
        (changed(mode="L"), "its metadata holds an unknown 'mode'"),
        (changed(schema=2, mode="CMYK"), "mode is 'CMYK', not one of RGB, L"),
        (changed(labels=None), "its metadata lacks 'labels'"),
        (changed(extra=1), "its metadata holds an unknown 'extra'"),
        (changed(labels=["cat"]), "labels are ['cat'], not two or more texts"),
        (changed(labels="cat dog"), "labels are 'cat dog', not a list"),
        (changed(labels=["cat", "cat"]), "labels ['cat', 'cat'] contain a class twice"),
        (changed(labels=["cat", "do\x1b[2Jg"]), "label 'do\\x1b[2Jg' contains control characters"),
        (changed(orientation="sideways"), "orientation is 'sideways', not one of stored, upright"),
        (changed(precision="int4"), "precision is 'int4', not one of fp32, fp16, int8"),
        (changed(sha256=""), "sha256 is '', not 64 hex digits"),
        (changed(golden={"a.png": {}}), "its golden.a.png lacks 'decoded'"),
        (changed(golden={"../a.png": GOLDEN}), "golden.../a.png is not a golden answer"),
        (changed(golden={"a.png": {**GOLDEN, "file": [0.5]}}), "golden.a.png is not a golden answer"),
        (changed(golden={"a.png": {**GOLDEN, "learner": ["a", "b"]}}), "golden.a.png is not a golden answer"),
        (changed(golden={"a.png": {**GOLDEN, "size": 7}}), "golden.a.png is not a golden answer"),
        ("[" * 100_000, "its metadata is not JSON"),
        (changed(score=[]), "score is [], not a JSON object"),
        (changed(resize=7), "resize is 7, not a JSON object"),
        (changed(resize={"method": "crop"}), "its resize lacks 'padding'"),
        (
            changed(resize={"method": "crop", "size": 224, "padding": "zeros", "resample": "bilinear"}),
            "resize.size is 224, not [height, width]",
        ),
        (
            changed(resize={"method": "crop", "size": [224, -1], "padding": "zeros", "resample": "bilinear"}),
            "resize.size holds -1, not a number of pixels",
        ),
        (
            changed(resize={"method": "zoom", "size": [2, 2], "padding": "zeros", "resample": "bilinear"}),
            "resize.method is 'zoom', not one of crop, squish, pad",
        ),
    ],
)
def test_a_wrong_description_is_refused_by_its_entry(text: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        Spec.from_json(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("side", [0, -1, 65536, 1.5, True, "224", None])
def test_a_side_must_be_a_number_of_pixels(side: object) -> None:
    for height, width in ((side, 8), (8, side)):
        with pytest.raises(ModelError, match=re.escape(f"resize.size holds {side!r}, not a number of pixels")):
            Resize(height, width)  # type: ignore[arg-type]


def test_a_side_may_be_1_to_65535_pixels() -> None:
    assert (Resize(1, 65535).height, Resize(65535, 1).height) == (1, 65535)


@pytest.mark.parametrize("setting", [{"method": "zoom"}, {"padding": "wrap"}, {"resample": "cubic"}])
def test_an_unknown_setting_of_the_resize_is_refused_by_name(setting: dict[str, str]) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(ModelError, match=rf"model: resize\.{name} is '{value}', not one of "):
        Resize(8, 8, **setting)
