"""What a filter likes: maps that differ, and the patches that excite a filter most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure

from nst_helpers import _validate
from nst_helpers.network.features import Features
from nst_helpers.plots import TITLE, show_images

__all__ = ["best_patches", "draw_patches", "least_alike", "selective_filters"]

PATCH, GAP, APART = 0.56, 0.04, 0.24  # inches: a patch, between patches, between filters


def least_alike(maps: torch.Tensor, count: int) -> list[int]:
    """Return filters whose maps look least alike, the most varied one first.

    Parameters
    ----------
    maps : torch.Tensor
        (1, N, H, W), of values that are 0 or more.
    count : int
        How many, N at most.

    Returns
    -------
    list of int
        After the first, always the filter whose largest correlation with those before is lowest.
        The outermost positions do not count: zeros were added around the picture there.
    """
    maps = _validate.tensor("maps", maps, "feature maps (1, N, H, W)", "BCHW").detach().float()
    count = min(_validate.positive_int("count", count), maps.shape[1])
    inner = maps[0, :, 1:-1, 1:-1] if min(maps.shape[2:]) > 4 else maps[0]
    rows = inner.flatten(1).cpu()
    variation = rows.std(1) / rows.amax(1).clamp(min=1e-6)
    rows = rows - rows.mean(1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-6)
    likeness = (rows @ rows.T).abs()
    likeness[:, variation < 0.5 * variation.median()] = torch.inf  # hardly anything to see
    chosen = [int(variation.argmax())]
    while len(chosen) < count:
        closest = likeness[chosen].amax(0)
        closest[chosen] = torch.inf
        chosen.append(int(closest.argmin()))
    return chosen


def selective_filters(maps: Sequence[torch.Tensor], count: int) -> list[int]:
    """Return the filters that answer to little, and to that strongly.

    Parameters
    ----------
    maps : sequence of torch.Tensor
        (1, N, H, W) of each picture.
    count : int
        How many, N at most.

    Returns
    -------
    list of int
        Those whose ninth largest answer, of a picture's own largest, exceeds their mean the most.
    """
    maps = _validate.listed("maps", maps, "a list of feature maps (1, N, H, W)")
    count = _validate.positive_int("count", count)
    peaks = torch.stack([one[0].flatten(1).amax(1) for one in maps]).sort(0, descending=True).values
    mean = torch.stack([one[0].flatten(1).mean(1) for one in maps]).mean(0)
    ratio = peaks[min(8, len(maps) - 1)] / mean.clamp(min=1e-6)
    return [int(i) for i in ratio.topk(min(count, len(ratio))).indices]


def best_patches(
    images: Sequence[torch.Tensor],
    maps: Sequence[torch.Tensor],
    filter: int,
    side: int,
    count: int = 9,
) -> list[torch.Tensor]:
    """Return the patches of some pictures to which a filter answers most strongly.

    Parameters
    ----------
    images : sequence of torch.Tensor
        (1, 3, H, W) each.
    maps : sequence of torch.Tensor
        (1, N, h, w) of each image, from one layer.
    filter : int
    side : int
        Of a patch, in pixels: the layer's receptive field.
    count : int
        How many, each from another picture.

    Returns
    -------
    list of torch.Tensor
        (1, 3, side, side), the strongest answer first; smaller where a picture is.
    """
    images = _validate.listed("images", images, "a list of images")
    maps = _validate.listed("maps", maps, "a list of feature maps, one for each image")
    if len(images) != len(maps):
        raise _validate.wrong("maps", f"a list of {len(images)}, one for each image", maps)
    side = _validate.positive_int("side", side)
    found = []
    for image, features in zip(images, maps, strict=True):
        answers = features[0, filter]
        row, column = divmod(int(answers.argmax()), answers.shape[1])
        stride = image.shape[2] / answers.shape[0]
        top = _within((row + 0.5) * stride, side, image.shape[2])
        left = _within((column + 0.5) * stride, side, image.shape[3])
        patch = image[..., top : top + side, left : left + side]
        found.append((answers.max().item(), patch))
    found.sort(key=lambda pair: pair[0], reverse=True)
    return [patch for _, patch in found[:count]]


def _within(middle: float, side: int, length: int) -> int:
    """Return where a patch begins that is inside, and as near the middle as can be."""
    return max(0, min(round(middle - side / 2), length - side))


def draw_patches(
    net: Features,
    images: Sequence[torch.Tensor],
    fields: Mapping[str, int],
    filters: int = 2,
) -> Figure:
    """Return a figure of what some filters of each layer like best: nine patches for each.

    Parameters
    ----------
    net : Features
    images : sequence of torch.Tensor
        (1, 3, H, W), the pictures to look for patches in.
    fields : mapping of str to int
        Layer to the side of its receptive field, in pixels.
    filters : int
        How many of each layer: its most selective ones.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with torch.no_grad():
        seen = [net(image.to(net.device), list(fields)) for image in images]
    block = 3 * PATCH + 2 * GAP  # of nine patches, in inches
    width, height = len(fields) * (block + APART), filters * (block + APART) + 0.3
    figure = Figure(figsize=(width, height))
    for column, (layer, side) in enumerate(fields.items()):
        maps = [features[layer].float().cpu() for features in seen]
        left = column * (block + APART) + APART / 2
        middle = (left + block / 2) / width
        figure.text(middle, 1 - 0.2 / height, f"{layer}, {side} px", fontsize=TITLE, ha="center")
        for row, number in enumerate(selective_filters(maps, filters)):
            top = height - 0.3 - row * (block + APART)
            for i, patch in enumerate(best_patches(images, maps, number, side)):
                x = left + (i % 3) * (PATCH + GAP)
                y = top - (i // 3) * (PATCH + GAP) - PATCH
                place = (x / width, y / height, PATCH / width, PATCH / height)
                show_images([patch], axes=[figure.add_axes(place)])
    return figure
