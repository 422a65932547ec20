"""The teacher, whose features are the targets, and the student, which is shipped."""

from __future__ import annotations

import math
import random
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from nst_helpers.network.features import Features, block_of, stride
from nst_helpers.network.weights import layer_names, load_weights

Targets = dict[str, list[torch.Tensor]]  # {"relu1_1": [(B, C, H, W), ...], ...}


def mobilenet_features(
    weights: dict[str, torch.Tensor], images: torch.Tensor
) -> dict[int, torch.Tensor]:
    """Return MobileNetV2's expanded features, {8: 1/8 of the size, 16: 1/16}; batch norm folded."""

    def conv(x: torch.Tensor, name: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        weight, bias = weights[f"{name}.weight"].to(x), weights[f"{name}.bias"].to(x)
        if stride == 2:  # TensorFlow's "same" padding, which the published weights expect
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, bias, stride=2, groups=groups)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=groups)

    x, features = conv(images * 2 - 1, "stem", stride=2).clamp(0, 6), {}
    for block in range(14):
        inner = conv(x, f"block{block}.expand").clamp(0, 6) if block else x
        if block in (6, 13):  # before their stride: the last features at 1/8 and 1/16
            features[8 if block == 6 else 16] = inner
        if block == 13:
            break
        step = 2 if block in (1, 3, 6) else 1
        inner = conv(inner, f"block{block}.depthwise", step, groups=inner.shape[1]).clamp(0, 6)
        inner = conv(inner, f"block{block}.project")
        x = x + inner if x.shape == inner.shape else inner
    return features


class Teacher:
    """What each of the student's layers should be able to predict."""

    def __init__(self, name: str, deep: Path | None, device: torch.device) -> None:
        weights, self.metadata = load_weights(name)
        net = Features(weights, pooling="max", name=name)  # as it was trained
        self.net = net.to(device, memory_format=torch.channels_last)
        self.layers = [n.replace("conv", "relu") for n in self.net.convolutions]
        self.deep_weights = safetensors.torch.load_file(str(deep)) if deep else None

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> Targets:
        """Return the targets of all sixteen layers."""
        maps = self.net(images, self.layers)
        deep = mobilenet_features(self.deep_weights, images) if self.deep_weights else {}
        last, targets = maps[self.layers[-1]], {}
        for name in layer_names():
            layer = name.replace("conv", "relu")
            if layer in maps:
                targets[layer] = [maps[layer]]
            else:
                pixels = stride(layer)
                targets[layer] = [F.avg_pool2d(last, last.shape[-1] * pixels // images.shape[-1])]
                targets[layer] += [deep[pixels]] if pixels in deep else []
        return targets


class Student(nn.Module):
    """The network to ship, and one linear map per target to predict the teacher."""

    def __init__(self, widths: list[int], targets: Targets) -> None:
        super().__init__()
        weights, channels = {}, 3
        for name in layer_names():
            conv = nn.Conv2d(channels, widths[block_of(name) - 1], 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
            weights |= {f"{name}.weight": conv.weight, f"{name}.bias": conv.bias}
            channels = conv.out_channels
        self.net = Features(weights, pooling="avg", name="student").requires_grad_(True)
        # Batch normalisation makes the first part of the training several times shorter; hooks,
        # so that the network itself stays what is shipped.
        self.norms = nn.ModuleDict()
        self.hooks = []
        for name, conv in self.net.convolutions.items():
            norm = self.norms[name] = nn.BatchNorm2d(conv.out_channels)
            self.hooks.append(conv.register_forward_hook(lambda m, i, o, norm=norm: norm(o)))
        self.maps = nn.ModuleDict()
        for layer, predicted in targets.items():
            inputs = widths[block_of(layer) - 1]
            self.maps[layer] = nn.ModuleList(nn.Conv2d(inputs, t.shape[1], 1) for t in predicted)
            for i, target in enumerate(predicted):
                # The maps predict targets of mean 0 and variance 1, whatever the teacher's units.
                mean = target.mean((0, 2, 3), keepdim=True)
                self.register_buffer(f"{layer}_mean_{i}", mean)
                self.register_buffer(f"{layer}_std_{i}", (target - mean).square().mean().sqrt())

    def fold_batch_norm(self) -> None:
        """Work the batch normalisation into the convolutions, for good."""
        for hook in self.hooks:
            hook.remove()
        with torch.no_grad():
            for name, norm in self.norms.items():
                conv = self.net.convolutions[name]
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                conv.weight.mul_(scale.view(-1, 1, 1, 1))
                conv.bias.copy_((conv.bias - norm.running_mean) * scale + norm.bias)
        self.norms.clear()
        self.hooks.clear()

    def errors(
        self, images: torch.Tensor, targets: Targets
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return {"relu1_1": (B,) error relative to the target's variance, ...}, sparseness."""
        features = self.net(images, self.maps)
        sparse = sum(sparseness(maps) for maps in features.values())
        errors = {}
        for layer, linear_maps in self.maps.items():
            maps, predicted = features[layer], targets[layer]
            if self.training and block_of(layer) <= 2:
                # Every fourth position is enough where there are thousands, and saves time.
                y, x = random.randrange(2), random.randrange(2)
                maps, *predicted = (t[..., y::2, x::2] for t in [maps, *predicted])
            each = []
            for i, (linear_map, target) in enumerate(zip(linear_maps, predicted, strict=True)):
                mean = self.get_buffer(f"{layer}_mean_{i}")
                target = (target.float() - mean) / self.get_buffer(f"{layer}_std_{i}")
                each.append((linear_map(maps).float() - target).square().mean((1, 2, 3)))
            errors[layer] = torch.stack(each).mean(0)
        return errors, sparse


def sparseness(maps: torch.Tensor, most: float = 3.0) -> torch.Tensor:
    """Return how far the filters' root mean squares are over ``most`` times their means.

    A filter that fires at a few places only is so strong there, once it is scaled to a mean of 1,
    that the optimiser serves it alone: without this term on-policy training made such filters in
    block 5, and the real network's Gram matrices were missed by ten times as much.
    """
    mean, square = maps.float().mean((0, 2, 3)), maps.float().square().mean((0, 2, 3))
    ratio = (square + 1e-8) / (mean.square() + 1e-8)
    return (ratio.log() - 2 * math.log(most)).clamp_min(0).sum()
