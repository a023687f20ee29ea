"""A network divided at its pooling: features for search and familiarity, and heat maps, besides the logits.

A heat map is Grad-CAM (arXiv 1610.02391) of the last maps for the most probable class: the maps, weighted by the gradient of
the class's logit. The layers after the pooling are linear but for ReLU, so the gradient is a product of their
matrices, which the graph computes without differentiation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_PASSIVE = (nn.Dropout, nn.Identity, nn.Flatten)  # for a vector, at prediction


class ConcatPool(nn.Module):
    """fastai's ``AdaptiveConcatPool2d(1)``, which torch would export as a dozen nodes of arithmetic on shapes."""

    def forward(self, maps: Tensor) -> Tensor:
        """float32 [batch, channels, rows, columns] → [batch, 2 · channels]: the maxima, then the means."""
        return torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], 1)


class MeanPool(nn.Module):
    """The mean of each map."""

    def forward(self, maps: Tensor) -> Tensor:
        """float32 [batch, channels, rows, columns] → [batch, channels]."""
        return maps.mean((2, 3))


class PooledNetwork(nn.Module):
    """A body, a pooling, and layers whose gradient is known: heat maps are possible."""

    def __init__(self, body: nn.Module, pool: nn.Module, layers: list[nn.Module]) -> None:
        super().__init__()
        self.body, self.pool, self.layers = body, pool, nn.ModuleList(layers)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [batch, classes], features [batch, features] and heat [batch, rows, columns], which is 0 to 1."""
        maps = self.body(pixels)
        values = [self.pool(maps)]
        for layer in self.layers:
            values.append(layer(values[-1]))
        return values[-1], values[0], self.heat(maps, values)

    def heat(self, maps: Tensor, values: list[Tensor]) -> Tensor:
        """Each place's weight for the most probable class, divided by the photo's largest; 0 where none is positive."""
        gradient = nn.functional.one_hot(values[-1].argmax(1), values[-1].shape[1]).float()
        for layer, value in zip(reversed(self.layers), reversed(values[1:]), strict=True):
            gradient = _gradient(layer, value, gradient)
        # a maximum's gradient goes to one place and a mean's to all: summed over the places, both are the same
        weights = gradient.unflatten(1, (-1, maps.shape[1])).sum(1)
        heat = (weights.unsqueeze(1) @ maps.flatten(2)).clamp(min=0)
        scaled: Tensor = heat / heat.amax(2, keepdim=True).clamp(min=1e-12)
        return scaled.view(-1, *maps.shape[2:])


class LinearNetwork(nn.Module):
    """Any network that ends in a linear layer, whose input are the features; without heat maps."""

    def __init__(self, before: nn.Module, last: nn.Linear) -> None:
        super().__init__()
        self.before, self.last = before, last

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [batch, classes] and features [batch, features]."""
        features = self.before(pixels)
        return self.last(features), features


def divide(model: nn.Module, pixels: Tensor) -> nn.Module:
    """The network with outputs for features, and for heat where its layers allow; itself if neither is possible.

    Args:
        model: in evaluation mode.
        pixels: an input, float32 [batch, channels, height, width], on which the result is compared with the network.
    """
    with torch.no_grad():
        expected = model(pixels)
        for divided in filter(None, (_at_the_pooling(model), _before_the_last_layer(model))):
            try:
                found = divided.eval()(pixels)[0]
            except RuntimeError:  # the layers are not called in this order
                continue
            if found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-4):
                return divided
    return model


def _at_the_pooling(model: nn.Module) -> PooledNetwork | None:
    layers = list(_in_order(model))
    for at in range(len(layers) - 1, 0, -1):
        pool = _plain_pool(layers[at])
        if pool is not None:
            rest = [layer for layer in layers[at + 1 :] if not isinstance(layer, _PASSIVE)]
            known = all(map(_has_known_gradient, rest))
            return PooledNetwork(nn.Sequential(*layers[:at]), pool, _not_in_place(rest)) if known else None
    return None


def _in_order(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that nested ``Sequential`` modules call one after the other."""
    if type(module).forward is not nn.Sequential.forward:
        yield module
    else:
        for child in module.children():
            yield from _in_order(child)


def _plain_pool(layer: nn.Module) -> nn.Module | None:
    if isinstance(layer, ConcatPool):
        return layer
    if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
        return MeanPool()
    return None


def _has_known_gradient(layer: nn.Module) -> bool:
    if isinstance(layer, nn.BatchNorm1d):
        return layer.affine and layer.track_running_stats
    return isinstance(layer, nn.Linear | nn.ReLU)


def _not_in_place(layers: list[nn.Module]) -> list[nn.Module]:
    """A ReLU in place would change the value before it, which the gradient needs."""
    return [nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in layers]


def _gradient(layer: nn.Module, value: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a layer's input, of that of its output and its output."""
    if isinstance(layer, nn.Linear):
        return gradient @ layer.weight
    if isinstance(layer, nn.BatchNorm1d):
        assert layer.running_var is not None
        return gradient * (layer.weight / (layer.running_var + layer.eps).sqrt())
    return torch.where(value > 0, gradient, 0.0)  # ReLU


def _before_the_last_layer(model: nn.Module) -> LinearNetwork | None:
    named = [(name, each) for name, each in model.named_modules() if isinstance(each, nn.Linear)]
    if not named or not named[-1][0]:
        return None
    name, last = named[-1]
    before = copy.deepcopy(model)
    before.set_submodule(name, nn.Identity())
    return LinearNetwork(before, last)
