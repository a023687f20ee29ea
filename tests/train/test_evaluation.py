"""What is measured of a Learner's answers, and the report that shows it."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.vision.all import Learner, error_rate, vision_learner
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.models import resnet18

from train.data import dataloaders
from train.distillation import DoubtfulLabel
from train.errors import TrainingError
from train.evaluation import (
    Answered,
    ErrorRate,
    answered,
    calibration,
    confusion,
    errors_by_breed,
    errors_by_source,
    evaluate,
    measure,
    wilson_interval,
)
from train.recipe import Recipe
from train.report import RunDetails, write_report
from train.report.page import percent
from train.report.pictures import class_activation_maps
from train.report.plots import _draw_error_rate
from train.split import Split

from ..conftest import draw

SMALL = Recipe(arch="resnet18", size=64, batch_size=4)
BREEDS = ("Abyssinian", "Cat", "Maine_Coon", "beagle", "dog", "pug")
NASTY = "<img src=x onerror=alert(1)>&'_1.jpg"  # a file name that a page must not take for its own


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a dozen photos named like Oxford's: standing stripes for cats, lying ones for dogs."""
    folder = tmp_path_factory.mktemp("photos")
    for i, breed in enumerate(BREEDS):
        for number in (1, 2):
            draw("standing" if breed[0].isupper() else "lying", 10 * i + number).save(folder / f"{breed}_{number}.jpg")
    return folder


@pytest.fixture
def learn(photos: Path) -> Learner:
    """A Learner with random weights; photos number 1 were to train on, number 2 validate."""
    torch.manual_seed(0)
    split = Split(tuple(f"{breed}_1.jpg" for breed in BREEDS), tuple(f"{breed}_2.jpg" for breed in BREEDS))
    return vision_learner(dataloaders(photos, split, SMALL), resnet18, pretrained=False, metrics=error_rate)


def probabilities(*of_the_second_class: float) -> NDArray[np.float64]:
    """Logits of two classes whose softmax gives these."""
    return np.log([[1 - p, p] for p in of_the_second_class])


def array(*values: object) -> NDArray[np.bool_]:
    return np.array(values)


def test_wilson_interval_of_no_errors_in_1000_photos_is_0_to_0_38_percent() -> None:
    low, high = wilson_interval(0, 1000)
    assert low == 0
    assert high == pytest.approx(3.8415 / 1003.8415, rel=1e-4)  # z² / (n + z²)


def test_wilson_interval_of_10_errors_in_100_photos_is_5_5_to_17_4_percent() -> None:
    """The textbook's numbers for 10 of 100."""
    assert wilson_interval(10, 100) == pytest.approx((0.0552, 0.1744), abs=5e-5)


def test_wilson_interval_of_errors_alone_ends_at_1() -> None:
    assert wilson_interval(4, 4)[1] == 1


def test_the_error_rate_of_no_photos_is_unknown() -> None:
    assert ErrorRate.of(0, 0) == ErrorRate(photos=0, errors=0, rate=None, interval=(0.0, 1.0))


def test_confusion_counts_the_truth_by_rows_and_the_answers_by_columns() -> None:
    truth, predicted = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 2, 1, 1])
    assert confusion(truth, predicted, 3) == [[2, 0, 1], [0, 1, 0], [0, 1, 0]]


def test_calibration_error_is_the_gap_of_each_bin_weighted_by_its_photos() -> None:
    """Two answers at 0.95, one right: a gap of 0.45 for two thirds; one at 0.65, right: 0.35 for one third."""
    result = calibration(np.array([0.95, 0.95, 0.65]), array(True, False, True))
    assert result.ece == pytest.approx(0.45 * 2 / 3 + 0.35 / 3)
    assert [(bin.photos, bin.accuracy) for bin in result.bins if bin.photos] == [(1, 1.0), (2, 0.5)]
    assert len(result.bins) == 15


def test_bins_cover_0_to_1_without_gaps_and_the_last_holds_certainty() -> None:
    bins = calibration(np.array([1.0]), array(True)).bins
    assert (bins[0].low, bins[-1].high, bins[-1].photos) == (0, 1, 1)
    assert [bin.high for bin in bins[:-1]] == [bin.low for bin in bins[1:]]
    assert bins[0].confidence is None and bins[0].accuracy is None


def test_confidence_equal_to_accuracy_has_no_calibration_error() -> None:
    assert calibration(np.full(4, 0.75), array(True, True, True, False)).ece == 0


def test_only_answers_at_or_above_the_bar_count() -> None:
    confidence, wrong = np.array([0.99, 0.9, 0.8, 0.6]), array(False, True, False, True)
    assert answered(confidence, wrong, 0.9) == Answered(0.9, 0.5, ErrorRate.of(1, 2))
    assert answered(confidence, wrong, 0.5) == Answered(0.5, 1.0, ErrorRate.of(2, 4))
    assert answered(confidence, wrong, 0.999) == Answered(0.999, 0.0, ErrorRate.of(0, 0))


def test_errors_are_counted_by_breed_where_the_name_contains_one() -> None:
    files = [Path(f"{name}.jpg") for name in ("beagle_1", "Maine_Coon_1", "beagle_2", "Cat_1", "dog_7", "Rex")]
    rows = errors_by_breed(files, array(True, False, False, True, True, True))
    assert {row.breed: (row.error.errors, row.error.photos) for row in rows} == {"Maine_Coon": (0, 1), "beagle": (1, 2)}


def test_errors_are_counted_by_source_if_there_are_several() -> None:
    wrong = array(True, False, False, True)
    rows = errors_by_source(["b", "a", "b", "a/c"], wrong)
    assert [(row.source, row.error.errors, row.error.photos) for row in rows] == [
        ("a", 0, 1),
        ("a/c", 1, 1),
        ("b", 1, 2),
    ]
    assert errors_by_source(["a"] * 4, wrong) == []


def test_a_photos_source_is_its_folder_unless_another_is_given() -> None:
    files = [Path("a/pug_1.jpg"), Path("b/pug_2.jpg"), Path("b/Cat_3.jpg")]
    answers = probabilities(0.1, 0.8, 0.6), np.array([0, 0, 1]), ["dog", "cat"], files
    assert [(row.source, row.error.errors) for row in measure(*answers).sources] == [("a", 0), ("b", 1)]
    by_name = measure(*answers, source=lambda photo: photo.stem.split("_")[0]).sources
    assert [(row.source, row.error.errors) for row in by_name] == [("Cat", 0), ("pug", 1)]


def test_the_loss_is_the_mean_cross_entropy_and_the_highest_comes_first() -> None:
    files = [Path("a/pug_1.jpg"), Path("a/b/pug_2.jpg"), Path("a/Cat_3.jpg")]
    result = measure(probabilities(0.1, 0.8, 0.6), np.array([0, 0, 1]), ["dog", "cat"], files)
    assert result.loss == pytest.approx(-(log(0.9) + log(0.2) + log(0.6)) / 3)
    assert [top.photo for top in result.top_losses] == ["b/pug_2.jpg", "Cat_3.jpg", "pug_1.jpg"]
    worst = result.top_losses[0]
    assert (worst.predicted, worst.truth) == ("cat", "dog")
    assert (worst.probability, worst.loss) == (pytest.approx(0.8), pytest.approx(-log(0.2)))
    assert (result.error.errors, result.error.photos, result.confusion) == (1, 3, [[1, 1], [0, 1]])


def test_an_answer_beyond_single_precision_still_has_a_finite_loss() -> None:
    result = measure(np.array([[400.0, 0.0]]), np.array([1]), ["dog", "cat"], [Path("Cat_1.jpg")])
    assert result.loss == pytest.approx(400)


def test_an_evaluation_counts_as_fastai_does(learn: Learner) -> None:
    with learn.no_bar():
        loss, error = learn.validate()
    result = evaluate(learn, "species")
    assert result.error.rate == pytest.approx(error)
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.labels == ["dog", "cat"]
    assert np.sum(result.confusion) == result.error.photos == len(BREEDS)
    assert [row.breed for row in result.breeds] == ["Abyssinian", "Maine_Coon", "beagle", "pug"]


def test_photos_can_be_given_and_their_order_does_not_matter(learn: Learner, photos: Path) -> None:
    files = sorted(photos.iterdir())
    there, back = evaluate(learn, "species", files), evaluate(learn, "species", files[::-1])
    assert there.error == back.error and there.breeds == back.breeds
    assert {top.photo for top in there.top_losses} == {photo.name for photo in files}
    assert [top.photo for top in there.top_losses] == [top.photo for top in back.top_losses]


def test_an_evaluation_leaves_the_learner_unchanged(learn: Learner) -> None:
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-4)
    values, callbacks = list(learn.recorder.values), {type(cb) for cb in learn.cbs}
    log, record = list(learn.recorder.log), list(learn.final_record)
    evaluate(learn, "species")
    assert list(learn.recorder.values) == values and list(learn.recorder.log) == log
    assert list(learn.final_record) == record
    assert {type(cb) for cb in learn.cbs} == callbacks
    assert (learn.dl, learn.pred, learn.xb, learn.yb) == (None, None, (None,), (None,))


def test_an_evaluation_is_strict_json(learn: Learner) -> None:
    result = evaluate(learn, "species")
    content = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert content["error"]["photos"] == 6
    assert content["error"]["interval"] == list(result.error.interval)
    assert [row["bar"] for row in content["answered"]] == [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999]


def test_an_evaluation_of_no_photos_is_refused(learn: Learner) -> None:
    with pytest.raises(TrainingError, match="no photos to evaluate"):
        evaluate(learn, "species", [])


def test_an_unknown_label_is_an_error(learn: Learner, photos: Path) -> None:
    with pytest.raises(TrainingError, match=r"pug_1\.jpg: the Learner was not trained on its label 'pug'"):
        evaluate(learn, "breed", [photos / "pug_1.jpg"])


class Page(HTMLParser):
    """The elements of a page, with the sources of its pictures and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name == "src"]

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self.text += data


LOG: list[list[float | None]] = [[0.7, 0.6, 0.5], [0.6, None, None]]


def test_the_report_contains_its_pictures_and_no_links(learn: Learner, photos: Path, tmp_path: Path) -> None:
    evaluations = {"validation": evaluate(learn, "species"), "test": evaluate(learn, "species", list(photos.iterdir()))}
    write_report(tmp_path / "report.html", learn, SMALL, evaluations, RunDetails(LOG, facts={"torch": "2"}))
    page = Page(tmp_path / "report.html")
    curves, confusions, probability_plots, worst, maps = 2, 2, 2, 6 + 12, 6 + 8
    assert len(page.sources) == curves + confusions + probability_plots + worst + maps
    assert all(re.match(r"data:image/(png|jpeg);base64,[\w+/]+=*$", source) for source in page.sources)
    written = re.sub(r'"data:[^"]+"', '""', (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not re.search(r"//|url\(|@import", written)
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert (tmp_path / "report.html").stat().st_size < 2e6
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_report_shows_the_numbers_with_their_intervals(learn: Learner, tmp_path: Path) -> None:
    evaluation = evaluate(learn, "species")
    write_report(
        tmp_path / "report.html", learn, SMALL, {"validation": evaluation}, RunDetails([], facts={"date": "2024-02-29"})
    )
    text = Page(tmp_path / "report.html").text
    low, high = evaluation.error.interval
    assert f"{evaluation.error.errors} of 6" in text
    assert f"{100 * low:.2f} to {100 * high:.2f} %" in text
    assert "resnet18: dog and cat" in text
    assert "2024-02-29" in text
    assert "Training curves" not in text, "no epochs, no curve"


def test_names_of_files_breeds_and_facts_are_escaped(learn: Learner, tmp_path: Path) -> None:
    draw("lying", 1).save(tmp_path / NASTY)
    evaluation = evaluate(learn, "species", [tmp_path / NASTY])
    assert evaluation.breeds[0].breed == NASTY.removesuffix("_1.jpg")
    facts = {"<i>who</i>": "<script>alert(1)</script>"}
    write_report(tmp_path / "report.html", learn, SMALL, {"<u>": evaluation}, RunDetails(LOG, facts=facts))
    page = Page(tmp_path / "report.html")
    assert not page.tags & {"script", "u"} and "x" not in page.sources
    for name in (NASTY, NASTY.removesuffix("_1.jpg"), *facts, *facts.values()):
        assert name in page.text


def test_a_label_with_a_dollar_sign_is_drawn_literally(learn: Learner, photos: Path, tmp_path: Path) -> None:
    """matplotlib would take the text between two for a formula, and raise where it is none."""
    logits = probabilities(0.2, 0.8)
    evaluation = measure(logits, np.array([0, 1]), [r"$\dog$", r"$\cat$"], [photos / "pug_1.jpg", photos / "Cat_1.jpg"])
    write_report(tmp_path / "report.html", learn, SMALL, {"validation": evaluation}, RunDetails(LOG, facts={}))
    assert r"$\dog$ and $\cat$" in Page(tmp_path / "report.html").text


def test_many_labels_fit_the_report(photos: Path, tmp_path: Path) -> None:
    """Labels by breed: a confusion matrix of 20 classes, and a title that does not list them."""
    recipe = Recipe(arch="resnet18", size=64, batch_size=4, labels="breed")
    names = [f"breed{i}_{number}.jpg" for i in range(20) for number in (1, 2)]
    for i, name in enumerate(names):
        draw("lying", i).save(tmp_path / name)
    dls = dataloaders(tmp_path, Split(tuple(names[::2]), tuple(names[1::2])), recipe)
    learn = vision_learner(dls, resnet18, pretrained=False, metrics=error_rate)
    write_report(
        tmp_path / "report.html", learn, recipe, {"validation": evaluate(learn, "breed")}, RunDetails(LOG, facts={})
    )
    assert "resnet18: 20 labels" in Page(tmp_path / "report.html").text


def network_of_means(learn: Learner, *head: nn.Module) -> Learner:
    """A Learner whose body is the mean colour of each sixteenth of the picture; bright pictures are of class 1."""
    linear = nn.Linear(3, 2, bias=False)
    linear.weight.data = torch.tensor([[-1.0] * 3, [1.0] * 3])
    return Learner(learn.dls, nn.Sequential(nn.Sequential(nn.AvgPool2d(16), *head), nn.Sequential(*POOL, linear)))


POOL = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_the_map_is_highest_where_the_photo_raises_the_answer(learn: Learner) -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, :16, 48:] = 1
    image[:, :, 32:48, :16] = 0.5
    maps = class_activation_maps(network_of_means(learn), image)
    expected = np.zeros((1, 4, 4))
    expected[0, 0, 3], expected[0, 2, 0] = 1, 0.5
    assert maps == pytest.approx(expected)


def test_a_frozen_body_has_maps_and_no_gradients_are_kept(learn: Learner) -> None:
    learn.freeze()
    maps = class_activation_maps(learn, learn.dls.valid.one_batch()[0])
    assert maps is not None and maps.shape == (4, 2, 2)
    assert maps.min() >= 0 and maps.max() <= 1
    assert all(parameter.grad is None for parameter in learn.model.parameters())


def test_a_body_without_rows_and_columns_has_no_maps(learn: Learner, tmp_path: Path) -> None:
    flat = network_of_means(learn, *POOL, nn.Unflatten(1, (3, 1, 1)))
    write_report(
        tmp_path / "report.html", flat, SMALL, {"validation": evaluate(flat, "species")}, RunDetails(LOG, facts={})
    )
    page = Page(tmp_path / "report.html")
    assert "No Grad-CAM maps" in page.text
    assert len(page.sources) == 2 + 1 + 2 + 6


def test_a_photo_in_the_report_is_what_the_network_saw(learn: Learner, tmp_path: Path) -> None:
    """The centre of a wide photo: green, between ends that are red."""
    picture = np.zeros((64, 192, 3), dtype=np.uint8)
    picture[:, :64, 0] = picture[:, 128:, 0] = picture[:, 64:128, 1] = 200
    Image.fromarray(picture).save(tmp_path / "pug_1.png")
    write_report(
        tmp_path / "report.html",
        learn,
        SMALL,
        {"x": evaluate(learn, "species", [tmp_path / "pug_1.png"])},
        RunDetails([], facts={}),
    )
    jpeg = next(source for source in Page(tmp_path / "report.html").sources if source.startswith("data:image/jpeg"))
    (tmp_path / "shown.jpg").write_bytes(base64.b64decode(jpeg.split(",")[1]))
    shown = np.asarray(Image.open(tmp_path / "shown.jpg"))
    assert shown.shape == (64, 64, 3)
    assert np.abs(shown.mean((0, 1)) - [0, 200, 0]).max() < 4


def test_percent_rounds_only_certainty_to_100() -> None:
    assert percent(0.999999) == "over 99.99 %"
    assert percent(0.9999, 1) == "over 99.9 %"
    assert (percent(1.0), percent(0.01352), percent(None)) == ("100.00 %", "1.35 %", "–")


def test_a_report_without_errors_says_so_and_its_axis_is_not_a_rounding(
    learn: Learner, tmp_path: Path, photos: Path
) -> None:
    files = [photos / "pug_1.jpg", photos / "Cat_1.jpg"]
    evaluation = measure(probabilities(0.1, 0.8), np.array([0, 1]), ["dog", "cat"], files)
    write_report(tmp_path / "report.html", learn, SMALL, {"validation": evaluation}, RunDetails([[0.7, 0.6, 0.0]]))
    text = Page(tmp_path / "report.html").text
    assert "No answer is wrong." in text and "Labels to check" not in text
    axes = Figure().add_subplot()
    _draw_error_rate(axes, [[0.7, 0.6, 0.0], [0.6, 0.5, 0.0]], 1)
    assert axes.get_ylim()[1] > 1


def test_labels_that_the_teacher_contradicts_are_in_the_report(learn: Learner, tmp_path: Path) -> None:
    details = RunDetails([], [DoubtfulLabel("pug_1.jpg", "dog", "cat", 0.987)])
    write_report(tmp_path / "report.html", learn, SMALL, {"validation": evaluate(learn, "species")}, details)
    text = Page(tmp_path / "report.html").text
    assert "Labels to check" in text and "pug_1.jpg" in text and "98.70 %" in text
