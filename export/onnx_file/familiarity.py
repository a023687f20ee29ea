"""Familiarity: how close a photo's features are to those of the training photos, as a few nodes of the graph.

The measure is the distance to the second nearest training photo, of features scaled to length 1 (nearest neighbours:
arXiv 2204.06507). What lies outside the directions of the largest variance is compared with the photos' mean alone, so that
the file keeps a few numbers of each photo. To it is added, with the same standard deviation:

- with photos of other things, a logistic regression of the training photos against them;
- without them, the Mahalanobis distance under a Gaussian with a variance for each direction and one for all others
  (probabilistic PCA; M. E. Tipping and C. M. Bishop, 1999), which is better where training photos are few.

docs/familiarity.md has figures.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

Array = NDArray[np.float64]
Node = tuple[str, tuple[str, ...], str, dict[str, Any]]

FEWEST = 100  # photos to fit on, and as many others to scale on
_DIRECTIONS = 64  # in which photos are compared
_MOST_KNOWN = 2048  # training photos that the file keeps
_NEAREST = 2  # the second: a single photo may be an odd one
_INVERSE_PENALTY = 9.0  # of the regression on unit features; a tenth and ten times this gave the same within noise
_SHORTEST = 1e-6  # length of features: those that are all zero stay so


@dataclass(frozen=True)
class Measure:
    """Closeness of features ``x`` of length 1: minus the squared distance of ``x @ matrix + offset`` to the second nearest
    training photo's, up to a constant, ``x @ linear``, and the squares of the coordinates times ``scales``.
    """

    matrix: Array
    """[features, directions]"""
    offset: Array
    """[directions]"""
    known: Array
    """Of training photos, [photos, directions]."""
    linear: Array
    """[features]"""
    scales: Array | None
    """[directions], or None for zeros."""
    photos: int
    """How many it was fitted on."""
    others: int = 0
    """On how many photos of other things."""

    def __call__(self, features: Array, nearest: int = _NEAREST) -> Array:
        """Closeness, [photos], of features [photos, features] of any length."""
        unit = unit_length(features)
        coordinates = unit @ self.matrix + self.offset
        near = coordinates @ (2 * self.known.T) - np.square(self.known).sum(1)
        closeness: Array = np.partition(near, -nearest, axis=1)[:, -nearest] + unit @ self.linear
        return closeness if self.scales is None else closeness + np.square(coordinates * self.scales).sum(1)


def fit(features: Array, others: Array | None = None) -> Measure:
    """The measure for the features of training photos, [photos, features], and of photos of other things, if there are any.

    With ``c`` the unit features less their mean, ``z`` their coordinates in the directions and ``k`` those of a training photo,
    the squared distance is ``|z - k|² + |c|² - |z|²``, so ``|c|² - 2 z · k + |k|²``; ``|c|²`` is linear in the unit features.
    """
    unit = unit_length(features)
    mean = unit.mean(0)
    _, singular, directions = np.linalg.svd(unit - mean, full_matrices=False)
    variances = np.square(singular) / len(features)
    matrix = directions[: min(_DIRECTIONS, len(features) // 4, len(mean) // 4)].T
    offset = -mean @ matrix
    kept = _kept(features)
    measure = Measure(matrix, offset, unit[kept] @ matrix + offset, 2 * mean, None, len(features))
    deviation = measure(features[kept], _NEAREST + 1).std()  # a photo that is kept is its own nearest
    if others is None:
        return _with_gaussian(measure, features, variances, deviation)
    return _away_from(others, measure, features, deviation)


def _with_gaussian(measure: Measure, features: Array, variances: Array, deviation: float) -> Measure:
    """The measure, and the Mahalanobis distance, with the standard deviation given.

    Of the squared distance, ``|c|² / rest - sum(z² · (1 / rest - 1 / variance))``, all but constants are kept, with the sign
    turned.
    """
    directions = measure.matrix.shape[1]
    rest = variances[directions:].sum() / (len(measure.linear) - directions)
    scales = np.sqrt(1 / rest - 1 / variances[:directions])
    linear = measure.linear / rest
    unit = unit_length(features)
    distances = np.square((unit @ measure.matrix + measure.offset) * scales).sum(1) + unit @ linear
    factor = deviation / max(distances.std(), 1e-12)
    return replace(measure, linear=measure.linear + factor * linear, scales=np.sqrt(factor) * scales)


def _kept(features: Array) -> NDArray[np.intp]:
    """The photos that the file keeps, evenly spaced."""
    number = min(len(features), _MOST_KNOWN)
    return np.arange(number) * len(features) // number


def _away_from(others: Array, measure: Measure, features: Array, deviation: float) -> Measure:
    """The measure, and the logit of a training photo against one of other things, with the standard deviation given.

    The logit is linear in the unit features, as one part of the measure is, so it needs no more nodes.
    """
    direction = direction_from(others, features)
    factor = deviation / max((unit_length(features) @ direction).std(), 1e-12)
    return replace(measure, linear=measure.linear + factor * direction, others=len(others))


def direction_from(others: Array, features: Array) -> Array:
    """[features]: its product with unit features is, up to a constant, the logit of a training photo against another thing."""
    from sklearn.linear_model import LogisticRegression

    labels = np.repeat([1, 0], [len(features), len(others)])
    regression = LogisticRegression(C=_INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    direction: Array = regression.fit(unit_length(np.concatenate([features, others])), labels).coef_[0]
    return direction


def unit_length(features: Array) -> Array:
    """The features, [photos, features], scaled to length 1."""
    unit: Array = features / np.linalg.norm(features, axis=1, keepdims=True).clip(min=_SHORTEST)
    return unit


def features_of(model: onnx.ModelProto, batches: Iterable[NDArray[np.uint8]]) -> Array:
    """The output ``features`` of a model, [photos, features], for batches of pixels."""
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = [session.run(["features"], {"image": batch})[0] for batch in batches]
    return np.concatenate(found).astype(np.float64)


def add_familiarity(model: onnx.ModelProto, measure: Measure) -> onnx.ModelProto:
    """The model with the output ``familiarity``, from its output ``features``; it is the closeness until `set_scale`.

    Add it to a file that is otherwise finished: half precision is too coarse for it. A node takes microseconds, so there are
    few: the product with ``linear`` is one more coordinate, which the second matrix adds to the closeness to every photo.
    """
    model = copy.deepcopy(model)
    values = {
        "familiarity_matrix": np.column_stack([measure.matrix, measure.linear]),
        "familiarity_offset": np.append(measure.offset, 0.0),
        "familiarity_known": np.vstack([2 * measure.known.T, np.ones(len(measure.known))]),
        "familiarity_lengths": -np.square(measure.known).sum(1),
        "familiarity_count": np.array([_NEAREST]),
        "familiarity_axes": np.array([1]),
    }
    nearness = "familiarity"
    squares: tuple[Node, ...] = ()
    if measure.scales is not None:
        values["familiarity_scales"] = np.append(measure.scales, 0.0)
        nearness = "nearness"
        squares = (
            ("Mul", ("coordinates", "scales"), "scaled", {}),
            ("ReduceSumSquare", ("scaled", "axes"), "squares", {"keepdims": 0}),
            ("Add", ("nearness", "squares"), "familiarity", {}),
        )
    for name, value in values.items():
        kind = np.int64 if value.dtype.kind == "i" else np.float32
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(kind), name))
    nodes: tuple[Node, ...] = (
        ("LpNormalization", ("features",), "unit", {"axis": 1, "p": 2}),
        ("Gemm", ("unit", "matrix", "offset"), "coordinates", {}),
        ("Gemm", ("coordinates", "known", "lengths"), "near", {}),
        ("TopK", ("near", "count"), "nearest", {"axis": 1}),
        ("ReduceMin", ("nearest", "axes"), nearness, {"keepdims": 0}),
        *squares,
    )
    for operator, inputs, output, attributes in nodes:
        names = [each if each == "features" else f"familiarity_{each}" for each in inputs]
        results = [output if output == "familiarity" else f"familiarity_{output}"]
        if operator == "TopK":
            results.append("familiarity_places")
        model.graph.node.append(helper.make_node(operator, names, results, f"familiarity_{output}_node", **attributes))
    batch = model.graph.output[0].type.tensor_type.shape.dim[0].dim_param or "batch"
    model.graph.output.append(helper.make_tensor_value_info("familiarity", TensorProto.FLOAT, [batch]))
    return model


def without_familiarity(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model without what `add_familiarity` added."""
    model = copy.deepcopy(model)
    for field in (model.graph.node, model.graph.initializer, model.graph.output):
        kept = [each for each in field if not each.name.startswith("familiarity")]
        del field[:]
        field.extend(kept)
    return model


@dataclass(frozen=True)
class Scale:
    """Familiarity on the scale of the file: ``(closeness - low) * factor``."""

    low: float
    factor: float

    def __call__(self, closeness: Array) -> Array:
        """[photos] of closeness → [photos] of familiarity."""
        return (closeness - self.low) * self.factor


def set_scale(model: onnx.ModelProto, closeness: Array) -> Scale:
    """Let 0 be the 1 % quantile of photos that were held back, and 1 their median.

    Args:
        model: changed in place; once only.
        closeness: of photos of the classes that nothing was fitted on, [photos]: the output ``familiarity`` before this.
    """
    low, middle = np.quantile(closeness, [0.01, 0.5]).tolist()
    scale = Scale(low, 1 / max(middle - low, 1e-9))
    changes: dict[str, Callable[[Array], Array]] = {
        "familiarity_lengths": scale,
        "familiarity_known": lambda value: value * scale.factor,
        "familiarity_scales": lambda value: value * np.sqrt(scale.factor),
    }
    for tensor in model.graph.initializer:
        if tensor.name in changes:
            value = changes[tensor.name](onnx.numpy_helper.to_array(tensor).astype(np.float64))
            tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float32), tensor.name))
    return scale
