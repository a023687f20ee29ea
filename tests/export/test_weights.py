"""A network's weights, read out of its model file: the network answers as before, and can be trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fastai.vision.all import Learner
from safetensors.torch import load_file

from export.source.pickled import load_learner
from export.weights import main
from petinfer import Classifier
from train.learner import _build_from_file

from ..conftest import cli_runner


def logits_of(learn: Learner, photos: list[Path]) -> torch.Tensor:
    with learn.no_bar():
        return learn.get_preds(dl=learn.dls.test_dl(photos), act=lambda logits: logits)[0]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("int8", 0.2)])
def test_the_network_answers_as_the_learner_did(
    precision: str, tolerance: float, exported: Path, tiny_learner: Path, drawn_photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "start.safetensors"
    model = exported / f"model-{precision}.onnx"
    done = cli_runner().invoke(main, [str(model), "--photos", str(drawn_photos), "--limit", "20", "--out", str(out)])
    assert done.exit_code == 0, done.output
    learn, photos = load_learner(tiny_learner), sorted(drawn_photos.iterdir())
    expected = logits_of(learn, photos)
    for parameter in learn.model.parameters():
        parameter.data.zero_()
    learn.model.load_state_dict(load_file(out))
    assert (logits_of(learn, photos) - expected).abs().max() < tolerance


def test_batch_norms_have_the_statistics_of_the_photos(exported: Path, drawn_photos: Path, tmp_path: Path) -> None:
    """In training mode, a batch of all these photos is normalised by the statistics of the photos: nothing changes."""
    out = tmp_path / "start.safetensors"
    model = exported / "model-fp32.onnx"
    assert cli_runner().invoke(main, [str(model), "--photos", str(drawn_photos), "--out", str(out)]).exit_code == 0
    from torchvision.models import resnet18

    body = _build_from_file(resnet18, out)
    scale, shift = (torch.tensor(values) for values in ([0.229, 0.224, 0.225], [0.485, 0.456, 0.406]))
    classifier = Classifier(model)
    pixels = torch.stack([torch.tensor(classifier.pixels(photo)) for photo in sorted(drawn_photos.iterdir())])
    batch = ((pixels / 255 - shift) / scale).permute(0, 3, 1, 2)
    layers = torch.nn.Sequential(*list(body.children())[:-2])
    with torch.no_grad():
        assert torch.allclose(layers.train()(batch), layers.eval()(batch), rtol=1e-2, atol=1e-2)


def test_another_network_is_refused(tmp_path: Path, drawn_photos: Path) -> None:
    from petinfer.session.opening import model_path

    done = cli_runner().invoke(
        main, [str(model_path("lite")), "--photos", str(drawn_photos), "--out", "start.safetensors"]
    )
    assert done.exit_code == 2 and "its network is efficientnet-lite2, not resnet18 or resnet34" in done.stderr
