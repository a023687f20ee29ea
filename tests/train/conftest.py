"""Fixtures of the training tests: a small recipe, and starting weights for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from train.recipe import Recipe

SMALL = Recipe(arch="resnet18", size=64, batch_size=8)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Starting weights of resnet18 without its last layer, half precision."""
    torch.manual_seed(0)
    state = {name: tensor.half() for name, tensor in resnet18().state_dict().items() if not name.startswith("fc.")}
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file({name: tensor for name, tensor in state.items() if "num_batches" not in name}, path)
    return path
