"""The same int8 network, computed in onnxruntime's other way."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime import InferenceSession

from benchmarks.matrix_product import with_shifted_weights
from petinfer import Classifier
from petinfer.session.opening import BUNDLED_MODEL
from petinfer.verify import GOLDEN_PHOTOS


def test_shifted_weights_have_other_zero_points_and_the_same_values() -> None:
    before, after = onnx.load(BUNDLED_MODEL), with_shifted_weights(onnx.load(BUNDLED_MODEL))
    changed = {
        each.name
        for each, other in zip(before.graph.initializer, after.graph.initializer, strict=True)
        if each != other
    }
    convolutions = sum(node.op_type == "Conv" for node in before.graph.node)
    assert len(changed) == 2 * convolutions
    weights, shifted = (
        {each.name: numpy_helper.to_array(each).astype(int) for each in model.graph.initializer if each.name in changed}
        for model in (before, after)
    )
    for name, values in weights.items():
        np.testing.assert_array_equal(shifted[name], np.minimum(values, 126) + 1, name)


def test_the_answer_is_the_same() -> None:
    image = Classifier().pixels(min(GOLDEN_PHOTOS.glob("*.jpg")))[np.newaxis]
    shifted = with_shifted_weights(onnx.load(BUNDLED_MODEL)).SerializeToString()
    found = [
        InferenceSession(model, providers=["CPUExecutionProvider"]).run(["probabilities"], {"image": image})[0]
        for model in (BUNDLED_MODEL, shifted)
    ]
    np.testing.assert_allclose(found[1], found[0], atol=0.02)
