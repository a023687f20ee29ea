"""Features, heat maps and familiarity in the graph, against torch and autograd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.vision.all import resnet18, resnet34
from numpy.typing import NDArray
from torch import nn

from export.errors import ExportError
from export.onnx_file.familiarity import Measure, add_familiarity, features_of, fit, set_scale
from export.onnx_file.graph import export_graph
from export.onnx_file.parts import LinearNetwork, PooledNetwork, divide
from export.onnx_file.seal import seal
from export.options import Options
from export.parity.answered import Measured, coverage, describe
from export.photos import evenly_spaced
from export.pipeline import export
from export.source.source_model import SourceModel
from export.weights import read_weights
from petinfer import Classifier
from petinfer.classifier import BUNDLED_MODEL
from petinfer.spec import PRECISIONS, Familiarity, Spec
from petinfer.verify import verify

from ..conftest import draw
from .test_architectures import learner


@pytest.fixture(scope="module")
def source(drawn_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> SourceModel:
    return learner(tmp_path_factory.mktemp("learner"), drawn_photos, resnet18)


@pytest.fixture(scope="module")
def file(source: SourceModel, drawn_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fp32 file with familiarity, fitted on 16 of the drawn photos and scaled on the 16 others."""
    path = tmp_path_factory.mktemp("file") / "model.onnx"
    model = export_graph(source)
    photos = np.stack([source.pixels(photo) for photo in sorted(drawn_photos.iterdir())])
    measure = fit(features_of(model, [photos[::2]]))
    closeness = measure(features_of(model, [photos[1::2]]))
    model = add_familiarity(model, measure)
    scale = set_scale(model, closeness)
    seal(model, Spec(source.labels, source.resize, familiarity=describe(Measured(scale(closeness)), measure)), path)
    return path


def forward(source: SourceModel, photo: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The last maps (with their gradient's graph), the pooled features and the logits, as torch computes them."""
    (pixels,) = source.learn.dls.test_dl([photo], bs=1, num_workers=0).one_batch()
    body, head = source.learn.model
    maps = body(pixels.as_subclass(torch.Tensor))
    return maps, head[1](head[0](maps)), head(maps)


def grad_cam(maps: torch.Tensor, logits: torch.Tensor) -> NDArray[np.float32]:
    """Grad-CAM of the most probable class by autograd, 0 to 1."""
    (gradient,) = torch.autograd.grad(logits.max(), maps)
    cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1)[0].clamp(min=0)
    return np.asarray((cam / cam.max().clamp(min=1e-12)).detach())


def test_features_are_fastais_pooled_features(source: SourceModel, file: Path, cat_photo: Path) -> None:
    _, features, _ = forward(source, cat_photo)
    assert np.abs(Classifier(file).features(cat_photo) - features[0].detach().numpy()).max() <= 1e-5


def test_a_heat_map_is_grad_cam_of_the_most_probable_class(source: SourceModel, file: Path, drawn_photos: Path) -> None:
    classifier = Classifier(file)
    for photo in sorted(drawn_photos.iterdir())[::4]:
        maps, _, logits = forward(source, photo)
        heat = classifier.heat_map(photo)
        assert heat.shape == (7, 7) and heat.max() == 1
        assert np.abs(heat - grad_cam(maps, logits)).max() <= 1e-4


@pytest.mark.slow
def test_heat_maps_of_200_photos_are_grad_cam(pets: Path, drawn_photos: Path, tmp_path: Path) -> None:
    """The bundled network, with a last layer that nobody trained."""
    photos = evenly_spaced(sorted((pets / "test").iterdir()), 200)
    source = learner(tmp_path, drawn_photos, resnet34)
    weights = read_weights(BUNDLED_MODEL, photos[:64])
    source.learn.model.load_state_dict(
        {name: value for name, value in weights.items() if name != "1.8.weight"}, strict=False
    )
    seal(export_graph(source), Spec(source.labels, source.resize), tmp_path / "model.onnx")
    classifier = Classifier(tmp_path / "model.onnx")
    for photo in photos:
        maps, _, logits = forward(source, photo)
        assert np.abs(classifier.heat_map(photo) - grad_cam(maps, logits)).max() <= 1e-4, photo


def test_familiarity_is_the_measure_of_torchs_features(source: SourceModel, file: Path, drawn_photos: Path) -> None:
    photos = sorted(drawn_photos.iterdir())
    features = np.stack([forward(source, photo)[1][0].detach().numpy() for photo in photos]).astype(np.float64)
    closeness = fit(features[::2])(features)
    low, middle = np.quantile(closeness[1::2], [0.01, 0.5])
    expected = (closeness - low) / (middle - low)
    found = [prediction.familiarity for prediction in Classifier(file).predict_batch(photos)]
    assert np.abs(np.array(found) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_photo_below_the_limit_gets_no_label(file: Path, drawn_photos: Path) -> None:
    """16 photos were held back, and the least familiar of them is below their 1 % quantile."""
    held_back = sorted(drawn_photos.iterdir())[1::2]
    predictions = Classifier(file, min_familiarity=0).predict_batch(held_back)
    familiarity = [each.familiarity for each in predictions if each.familiarity is not None]
    assert [each.label is None for each in predictions] == [value < 0 for value in familiarity]
    assert sum(each.sure for each in predictions) == 15
    assert all(len(each.probabilities) == 4 for each in predictions)


def test_the_stream_of_heat_gives_the_predictions_too(file: Path, drawn_photos: Path) -> None:
    photos = sorted(drawn_photos.iterdir())[:9]
    classifier = Classifier(file)
    predictions = classifier.predict_batch(photos)
    for photo, found, expected in zip(photos, classifier.heat_stream(photos), predictions, strict=True):
        assert found.prediction.label == expected.label
        assert np.array_equal(found.pixels, classifier.pixels(photo))
        assert np.abs(found.heat - classifier.heat_map(photo)).max() <= 1e-4


def test_any_network_that_ends_in_a_linear_layer_has_features() -> None:
    torch.manual_seed(0)
    network = Backwards()
    pixels = torch.randn(2, 3, 8, 8)
    divided = divide(network.eval(), pixels)
    assert isinstance(divided, LinearNetwork)
    logits, features = divided(pixels)
    assert torch.equal(logits, network(pixels)) and features.shape == (2, 5)


def test_a_network_without_a_last_linear_layer_is_not_divided() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(128, 4), nn.Tanh()).eval()
    assert divide(network, torch.randn(2, 3, 8, 8)) is network


def test_a_negative_gradient_gives_no_heat() -> None:
    network = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2)).eval()
    with torch.no_grad():
        network[3].weight.copy_(torch.tensor([[-1.0], [-2.0]]))
    divided = divide(network, torch.randn(2, 1, 4, 4))
    assert isinstance(divided, PooledNetwork)
    assert divided(torch.rand(1, 1, 4, 4))[2].abs().max() == 0


class Backwards(nn.Module):
    """Its modules are not made in the order in which it calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.body = nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 5, 3)
        self.last = nn.Linear(5, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits [batch, 4]."""
        out: torch.Tensor = self.last(self.pool(self.body(pixels)).flatten(1))
        return out


def test_coverage_is_that_of_split_conformal_prediction() -> None:
    """Of 199 photos, the second-smallest has 1 - 2 / 200 = 99 % of new ones at or above it; no value has 99.9 %."""
    found = dict(coverage(np.arange(199.0)))
    assert found[0.99] == 1 and found[0.995] == 0 and found[0.5] == 99
    assert 0.999 not in found


def test_a_limit_of_coverage_is_rounded_down() -> None:
    """A photo at the limit stays above it when another processor rounds otherwise."""
    assert dict(coverage(np.arange(199.0) + 0.12349))[0.99] == 1.1234


def test_the_table_counts_who_is_answered_and_who_is_wrong() -> None:
    familiarity, wrong = np.arange(100.0), np.arange(100) < 10
    measure = Measure(np.zeros((4, 1)), np.zeros(1), np.zeros((7, 1)), np.zeros(4), None, photos=7, others=3)
    described = describe(Measured(familiarity, wrong, np.array([0.0, 5.0, 9.0, 50.0])), measure)
    assert (described.photos, described.held_back, described.others) == (7, 100, 3)
    row = described.table[0]
    assert row["min_familiarity"] == 9 and row["answered"]["count"] == 91
    assert row["errors_among_answered"] == {
        "count": 1,
        "photos": 91,
        "share": 0.010989,
        "interval": [0.001942, 0.059649],
    }
    assert row["others_answered"]["share"] == 0.5


def test_the_measure_is_the_distance_to_the_second_nearest_training_photo_and_to_the_gaussian() -> None:
    """Of unit features, in the ten largest of 40 directions; what is outside them is the distance to the mean."""
    random = np.random.default_rng(0)
    training, photos = (random.normal(np.arange(40), 3, (number, 40)) for number in (200, 30))
    unit, known = (each / np.linalg.norm(each, axis=1)[:, None] for each in (photos, training))
    mean = known.mean(0)
    variances, directions = np.linalg.eigh(np.cov(known.T, bias=True))
    largest = directions[:, -10:]

    def distances(features: NDArray[np.float64], nearest: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        places = (features - mean) @ largest
        outside = np.square(features - mean).sum(1) - np.square(places).sum(1)
        squares = np.square(places[:, None] - (known - mean) @ largest).sum(2) + outside[:, None]
        gaussian = (np.square(places) / variances[-10:]).sum(1) + outside / variances[:-10].mean()
        return np.sort(squares, axis=1)[:, nearest - 1], gaussian

    nearest, gaussian = distances(unit, 2)
    of_training = distances(known, 3)  # each is its own nearest
    ratio = of_training[0].std() / of_training[1].std()
    expected = -nearest - ratio * gaussian
    found = fit(training)(photos)
    assert found - found.mean() == pytest.approx(expected - expected.mean())


def test_a_file_keeps_at_most_2048_photos_evenly_spaced() -> None:
    features = np.random.default_rng(0).normal(1, 1, (4096, 8))
    measure = fit(features)
    unit = features / np.linalg.norm(features, axis=1)[:, None]
    assert measure.photos == 4096
    assert measure.known == pytest.approx(unit[::2] @ measure.matrix + measure.offset)


def test_photos_of_other_things_move_the_measure_away_from_them() -> None:
    """They lie where the training photos vary most, so the training photos alone cannot exclude them all."""
    random = np.random.default_rng(0)

    def features(photos: int, first: float) -> NDArray[np.float64]:
        found = random.normal(5, 0.1, (photos, 40))
        found[:, 0] = 5 + random.normal(first, 1, photos)
        return found

    training, held_back, unfamiliar, others = (features(400, first) for first in (0, 0, 2.5, 2.5))
    accepted = []
    for measure in (fit(training), fit(training, unfamiliar)):
        accepted.append(np.mean(measure(others) >= np.quantile(measure(held_back), 0.1)))
    assert accepted[0] > 0.4 and accepted[1] < accepted[0] / 2
    unfamiliar, others = features(400, 4), features(400, 4)
    measure = fit(training, unfamiliar)
    assert np.mean(measure(others) >= np.quantile(measure(held_back), 0.1)) < 0.05
    assert (measure.photos, measure.others) == (400, 400)


def test_the_limit_for_a_coverage_is_looked_up_in_the_file() -> None:
    familiarity = Familiarity(5, 5, ((0.9, -0.5), (0.99, -2.0)))
    assert (familiarity.least(0.9), familiarity.least(0.95), familiarity.least(0.99)) == (-0.5, -2.0, -2.0)
    with pytest.raises(ValueError, match=r"min_coverage: 0.995, over 0.99, the most that the model file knows"):
        familiarity.least(0.995)


@pytest.fixture(scope="module")
def familiar_files(
    tiny_learner: Path, drawn_photos: Path, cat_photo: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Files of each precision with familiarity: 100 photos to fit on, 100 to scale on, and one of another thing."""
    folder = tmp_path_factory.mktemp("familiar")
    for part, first in (("train", 1000), ("compare", 2000)):
        (folder / part).mkdir()
        for i in range(50):
            draw("standing", first + i).save(folder / part / f"Abyssinian_{i}.png")
            draw("lying", first + 100 + i).save(folder / part / f"beagle_{i}.png")
    (folder / "others").mkdir()
    (folder / "others" / "cat.jpg").write_bytes(cat_photo.read_bytes())
    photos, calibrate, others = folder / "compare", folder / "train", folder / "others"
    options = Options(tiny_learner, folder / "out", photos=photos, calibrate=calibrate, others=others, allow_worse=True)
    export(options)
    return folder


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_precision_has_familiarity_on_the_scale_of_its_file(familiar_files: Path, precision: str) -> None:
    """Of 100 photos, 0 is between the first and the second, and 1 between the middle two."""
    classifier = Classifier(familiar_files / "out" / f"model-{precision}.onnx")
    photos = sorted((familiar_files / "compare").iterdir())
    predictions = classifier.predict_batch(photos)
    familiarity = np.array([each.familiarity for each in predictions], np.float64)
    assert sum(familiarity < -1e-3) == 1 and abs(np.median(familiarity) - 1) <= 1e-3
    described = classifier.spec.familiarity
    assert described is not None and described.photos == described.held_back == 100
    assert sum(familiarity >= described.least(0.9)) == 91
    assert all(row["others_answered"]["photos"] == 1 for row in described.table)
    # the network hardly trained: a decision of its int8 file may differ from the Learner's
    assert [failure for failure in verify(classifier).failures if "the decision" not in failure] == []
    assert classifier.spec.sha256 in (familiar_files / "out" / f"card-{precision}.md").read_text(encoding="utf-8")


def test_an_empty_folder_of_others_is_refused(tiny_learner: Path, drawn_photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no photos"):
        export(Options(tiny_learner, tmp_path / "out", photos=drawn_photos, others=tmp_path))
