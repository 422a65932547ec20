"""The plain loop that everyone starts from, written from the settings Gatys et al. published.

float32, all sixteen convolutions of VGG-19, ReLU and average pooling one after the other, Gram
matrices over H * W, style weights 1000 / N^2, torch.optim.LBFGS with its defaults. Nothing here is
from the package but names and weights.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F

import nst_helpers as nst
from nst_helpers.network.features import block_of

STYLE_WEIGHTS = [1e3 / n**2 for n in (64, 128, 256, 512, 512)]  # as published
CONTENT_WEIGHT = 1.0


class Reference:
    """The plain loop, for one content and one style."""

    def __init__(self, net: nst.Features, content: torch.Tensor, style: torch.Tensor) -> None:
        self.weights = {
            name: (conv.weight.detach().clone().contiguous(), conv.bias.detach().clone())
            for name, conv in net.convolutions.items()
        }
        self.mean, self.std = net.mean, net.std
        with torch.no_grad():
            self.content = self.features(content)["relu4_2"]
            self.grams = [self.gram(self.features(style)[name]) for name in nst.STYLE_LAYERS]

    def features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return all rectified feature maps, {"relu1_1": (B, C, H, W), ...}."""
        maps, block, x = {}, 1, (x - self.mean) / self.std
        for name, (weight, bias) in self.weights.items():
            if block_of(name) != block:
                x, block = F.avg_pool2d(x, 2), block_of(name)
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
            maps[name.replace("conv", "relu")] = x
        return maps

    @staticmethod
    def gram(maps: torch.Tensor) -> torch.Tensor:
        """Return the Gram matrices (B, C, C) over the number of positions."""
        b, n, h, w = maps.shape
        unrolled = maps.reshape(b, n, h * w)
        return torch.bmm(unrolled, unrolled.transpose(1, 2)) / (h * w)

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of content and style loss."""
        maps = self.features(x)
        total = CONTENT_WEIGHT * F.mse_loss(maps["relu4_2"], self.content)
        for weight, name, gram in zip(STYLE_WEIGHTS, nst.STYLE_LAYERS, self.grams, strict=True):
            total = total + weight * F.mse_loss(self.gram(maps[name]), gram)
        return total

    def run(self, start: torch.Tensor, evaluations: int) -> tuple[torch.Tensor, list[float]]:
        """Return the image of the lowest loss, and when each evaluation ended."""
        x = start.clone().requires_grad_()
        optimizer, ends = torch.optim.LBFGS([x]), []
        best, lowest, started_at = start, float("inf"), time.perf_counter()

        class Enough(Exception):
            pass

        def closure() -> torch.Tensor:
            nonlocal best, lowest
            if len(ends) == evaluations:
                raise Enough
            optimizer.zero_grad()
            loss = self.loss(x)
            loss.backward()
            if loss.item() < lowest:
                best, lowest = x.detach().clone(), loss.item()
            ends.append(time.perf_counter() - started_at)
            return loss

        try:
            while True:
                optimizer.step(closure)
        except Enough:
            return best, ends
