"""Learning from a teacher, here a small network: which layers learn, what the teacher sees, what is saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fastai.vision.all import Learner, Normalize
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from train.artifacts import save
from train.checkpoint import Checkpoint
from train.data import dataloaders, find_photos
from train.distillation import Distillation, Weights, doubtful_labels
from train.fine_tuning import fine_tune, seed_everything
from train.learner import make_learner
from train.recipe import Recipe
from train.split import random_split

RECIPE = Recipe(
    arch="resnet18",
    size=64,
    batch_size=8,
    lr=1e-2,
    average=0.5,
    small_size=32,
    mixup=0.2,
    teacher_labels=1.0,
    keep_early=True,
)


class Stripes:
    """A small teacher: maps at strides 8, 16 and 32 with the channels of EfficientNet-Lite2, and 5 classes."""

    def __init__(self) -> None:
        torch.manual_seed(2)
        self.convs = [nn.Conv2d(3, channels, 8, 2**i) for i, channels in ((3, 48), (4, 120), (5, 1280))]
        self.weight, self.bias = torch.randn(5, 1280), torch.zeros(5)
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps of pixels, float [batch, 3, side, side] in 0 to 1."""
        assert pixels.min() >= 0 and pixels.max() <= 1
        self.seen.append(tuple(pixels.shape[2:]))
        with torch.no_grad():
            return [conv(pixels.as_subclass(Tensor)) for conv in self.convs]


@dataclass
class Taught:
    """A Learner trained with a teacher, and its starting weights."""

    learn: Learner
    before: dict[str, Tensor]
    distillation: Distillation
    teacher: Stripes
    folder: Path


@pytest.fixture(scope="module")
def taught(drawn_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    """Two epochs on the drawn photos, one of them with the body frozen."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("taught")
    state = {name: tensor for name, tensor in resnet18().state_dict().items() if "num_batches" not in name}
    save_file(state, folder / "start.safetensors")
    seed_everything(1)
    split = random_split(find_photos(drawn_photos, "species"), drawn_photos, RECIPE)
    learn = make_learner(dataloaders(drawn_photos, split, RECIPE), RECIPE, folder / "start.safetensors")
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}
    teacher = Stripes()
    distillation = Distillation(teacher, weights=Weights(labels=RECIPE.teacher_labels))
    with learn.no_bar(), learn.no_logging():
        assert fine_tune(learn, RECIPE, Checkpoint(folder / "checkpoint.pth", resume=False), [distillation])
    return Taught(learn, before, distillation, teacher, folder)


def test_keep_early_freezes_the_stem_and_layer1_only(taught: Taught) -> None:
    learnt = {
        name.split(".")[1]
        for name, parameter in taught.learn.model.named_parameters()
        if name.startswith("0.") and not torch.equal(parameter, taught.before[name])
    }
    assert learnt == {"5", "6", "7"}


def test_the_teacher_sees_full_size_crops_and_the_student_small_ones(taught: Taught) -> None:
    assert set(taught.teacher.seen) == {(64, 64)}


def test_the_checkpoint_contains_the_labeller(taught: Taught) -> None:
    state = torch.load(taught.folder / "checkpoint.pth", weights_only=True)
    assert state["labeller"]["weight"].shape == (2, 1280)
    assert torch.equal(state["labeller"]["weight"], taught.distillation.labeller.weight)  # type: ignore[union-attr]


def test_a_run_starts_from_the_weights_and_projections_of_another(taught: Taught, drawn_photos: Path) -> None:
    save(taught.learn, RECIPE, None, {}, taught.folder)
    taught.distillation.save(taught.folder / "projections.safetensors")
    split = random_split(find_photos(drawn_photos, "species"), drawn_photos, RECIPE)
    learn = make_learner(dataloaders(drawn_photos, split, RECIPE), RECIPE, taught.folder / "model.safetensors")
    for name, tensor in learn.model.state_dict().items():
        if name.startswith("0.") and "num_batches" not in name:
            assert torch.equal(tensor, taught.learn.model.state_dict()[name]), name
    start = Distillation(taught.teacher, taught.folder / "projections.safetensors")
    assert torch.equal(start.projections.convs[0].weight, taught.distillation.projections.convs[0].weight)


def test_a_label_that_the_teacher_contradicts_is_listed(taught: Taught, drawn_photos: Path, tmp_path: Path) -> None:
    """With a labeller that always answers "cat", every photo labelled "dog" is doubtful."""
    labeller = taught.distillation.labeller
    assert labeller is not None
    before = {name: tensor.clone() for name, tensor in labeller.state_dict().items()}
    torch.nn.init.zeros_(labeller.weight)
    labeller.bias.data = torch.tensor([0.0, 4.0])
    photos = [drawn_photos / name for name in ("beagle_1.png", "Abyssinian_1.png", "beagle_2.png")]
    found = doubtful_labels(taught.learn, taught.distillation, photos, ["dog", "cat"])
    assert [(it.photo, it.label, it.teacher) for it in found] == [(str(photos[i]), "dog", "cat") for i in (0, 2)]
    assert found[0].probability == pytest.approx(1 / (1 + 2.718281828**-4), rel=1e-5)
    assert doubtful_labels(taught.learn, taught.distillation, photos, ["dog", "cat"], least=0.99) == []
    labeller.load_state_dict(before)


def test_everything_is_on_the_students_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's device "meta" stands for a GPU: operations on tensors of two devices fail. It has no values to measure."""
    monkeypatch.setattr("train.distillation.Projections.standardise_by", lambda self, maps: None)
    teacher = Stripes()
    monkeypatch.setattr(Stripes, "__call__", lambda self, pixels: [conv.to("meta")(pixels) for conv in self.convs])
    learn = fake_learner("meta")
    distillation = Distillation(teacher, weights=Weights(labels=1.0))
    distillation.learn = learn
    distillation.before_fit()
    distillation.before_batch()
    learn.pred = learn.model(learn.xb[0])
    learn.loss_grad = nn.functional.cross_entropy(learn.pred, *learn.yb)
    distillation.after_loss()
    distillation.after_fit()
    assert distillation.labeller is not None
    used = [learn.loss_grad, distillation.labeller.weight, distillation.class_weight]
    assert {tensor.device.type for tensor in [*used, *distillation.projections.parameters()]} == {"meta"}


def fake_learner(device: str) -> SimpleNamespace:
    """What Distillation uses of a Learner, on a device."""
    body = nn.Sequential(
        *[nn.Identity()] * 5, nn.Conv2d(3, 128, 8, 8), nn.Conv2d(128, 256, 2, 2), nn.Conv2d(256, 512, 2, 2)
    )
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 2))
    normalize = Normalize(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    return SimpleNamespace(
        model=nn.Sequential(body, head).to(device),
        dls=SimpleNamespace(device=torch.device(device), c=2, after_batch=SimpleNamespace(fs=[normalize])),
        xb=(torch.zeros(2, 3, 64, 64, device=device),),
        yb=(torch.zeros(2, dtype=torch.long, device=device),),
        training=True,
        loss_func=nn.functional.cross_entropy,
    )


@pytest.mark.parametrize("own_labels", [0.0, 0.5])
def test_the_labels_count_as_much_as_their_weight(own_labels: float) -> None:
    losses = []
    for loss in (0.0, 100.0):
        distillation = Distillation(Stripes(), weights=Weights(own_labels=own_labels))
        torch.manual_seed(0)
        learn = distillation.learn = fake_learner("cpu")
        distillation.projections.load_state_dict(
            {n: t * 0 + 1 for n, t in distillation.projections.state_dict().items()}
        )
        distillation.before_fit()
        distillation.before_batch()
        learn.pred, learn.loss_grad = learn.model(learn.xb[0]), torch.tensor(loss)
        distillation.after_loss()
        distillation.after_fit()
        losses.append(learn.loss_grad.item())
    assert losses[1] - losses[0] == pytest.approx(100 * own_labels, abs=1e-3)
