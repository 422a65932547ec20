"""What several test files need: small pictures, small seeded networks."""

import math

import torch

LAYOUT = (2, 2, 4, 4, 4)
NAMES = [f"conv{block}_{i}" for block, n in enumerate(LAYOUT, 1) for i in range(1, n + 1)]


def make_weights(channels=(4, 6, 8, 8, 8), names=NAMES, seed=0):
    """Seeded weights in VGG-19's layout, with biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    weights, before = {}, 3
    for name in names:
        out = channels[int(name[4]) - 1]
        scale = math.sqrt(2 / (9 * before))
        weights[f"{name}.weight"] = torch.randn(out, before, 3, 3, generator=generator) * scale
        weights[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1
        before = out
    return weights


def torchvision_keys(weights):
    """The same state dict under the keys of ``torchvision.models.vgg19().features``."""
    keys, index, block = {}, 0, "1"
    for key in weights:
        name, kind = key.split(".")
        if kind == "weight":
            if name[4] != block:
                index, block = index + 1, name[4]  # the pooling layer
            keys[f"features.{index}.weight"] = weights[key]
            keys[f"features.{index}.bias"] = weights[f"{name}.bias"]
            index += 2  # the convolution and its ReLU
    return keys


def make_picture(height, width, seed=0, batch=1):
    """Coloured waves with a little noise: neither flat nor white noise."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.linspace(0, 1, height).view(1, 1, -1, 1)
    x = torch.linspace(0, 1, width).view(1, 1, 1, -1)
    pace = 2 + 14 * torch.rand(2, batch, 3, 1, 1, generator=generator)
    waves = 0.5 + 0.2 * torch.sin(pace[0] * y) + 0.2 * torch.cos(pace[1] * x)
    noise = 0.05 * torch.randn(batch, 3, height, width, generator=generator)
    return (waves + noise).clamp(0, 1)


def is_same_run(result, other):
    """Whether two results are those of the same run, but for rounding."""
    names = ("total", "content", "style", "tv")
    rows, others = ([[e[n] for n in names] for e in r.history] for r in (result, other))
    return (
        len(rows) == len(others)
        and torch.allclose(torch.tensor(rows), torch.tensor(others), rtol=1e-3)
        and torch.allclose(result.image, other.image, atol=1e-3)
    )
