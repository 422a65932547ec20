"""The flat colours of a picture, and how much of each pixel is of which."""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F

__all__ = ["MAX_REGIONS", "are_same", "flat_colors", "shares_of_colors"]

MAX_REGIONS = 8
LEVELS = 255  # all that follows in levels is a distance in RGB
APART = 32.0  # levels between two regions' colours
NOISE = 8.0  # levels by which flat areas of one colour vary, in a JPEG too
FLAT = 24.0  # levels by which neighbouring pixels of a flat area differ at most
REACH = 7  # pixels: the side of the least area of a region; an edge has its two colours that near
LEAST_SHARE = 1e-4  # of a picture's pixels that are inside each region; fewer are specks
LEAST_PLAIN, MAX_STRAYS = 0.25, 0.05  # of the pixels of a mask: of a flat colour, of no colour
ADVICE = "paint each region in one flat colour, without shading, and save it as PNG"


def flat_colors(image: torch.Tensor) -> torch.Tensor:
    """Return the colours of the flat areas of an image, dark before bright.

    Parameters
    ----------
    image : torch.Tensor
        (1, 3, H, W) in [0, 1].

    Returns
    -------
    torch.Tensor
        (R, 3) RGB in [0, 1], at most 8.

    Raises
    ------
    ValueError
        If there is none, or there are more.
    """
    pixels = (image * LEVELS).round().to(torch.int64)
    total = pixels.shape[2] * pixels.shape[3]
    flat = pixels[0].flatten(1)[:, _is_flat(pixels.float(), REACH).flatten()]  # (3, number)
    packed, counts = ((flat[0] * 256 + flat[1]) * 256 + flat[2]).unique(return_counts=True)
    colors = torch.stack([packed // 65536, packed // 256 % 256, packed % 256], 1).float()
    found: list[torch.Tensor] = []
    left = counts.clone()
    while len(packed) and left.max() > 0 and len(found) <= 4 * MAX_REGIONS:
        center = colors[left.argmax()]
        distance = (colors - center).norm(dim=1)
        core = counts[distance <= NOISE].sum().item()
        # A region is at one colour; a gradient between two is spread out evenly.
        if core >= max(LEAST_SHARE * total, 0.7 * counts[distance <= 2 * NOISE].sum().item()):
            found.append(center)
        left[distance < APART] = 0
    if len(found) > MAX_REGIONS:
        raise ValueError(
            f"a mask of {len(found)} colours, and there may be {MAX_REGIONS} regions; {ADVICE}"
        )
    if not found:
        raise ValueError(f"no mask: the picture has no area of one flat colour; {ADVICE}")
    palette = torch.stack(found) / LEVELS
    order = sorted(range(len(found)), key=lambda i: (_luma(palette[i]), palette[i].tolist()))
    return palette[order]


def shares_of_colors(image: torch.Tensor, colors: torch.Tensor) -> torch.Tensor:
    """Return how much of each pixel is of each colour.

    Parameters
    ----------
    image : torch.Tensor
        (1, 3, H, W) in [0, 1].
    colors : torch.Tensor
        (R, 3) RGB in [0, 1], what ``flat_colors`` returns.

    Returns
    -------
    torch.Tensor
        (1, R, H, W) in [0, 1], which add up to 1.

    Raises
    ------
    ValueError
        If most pixels are of none of the colours, or many not even between two.
    """
    levels, palette = image * LEVELS, colors * LEVELS
    count, (height, width) = len(palette), levels.shape[2:]
    pixels = levels[0].flatten(1).mT  # (M, 3)
    distances = _distances(pixels, palette)
    nearest = distances.argmin(1)
    core = _is_flat(levels, 3).flatten() & (distances.amin(1) <= NOISE)
    weights = F.one_hot(nearest, count).float()
    present = (weights * core[:, None]).mT.view(1, count, height, width)
    # An edge is a mixture of regions beside it: its grey may be a third region's colour.
    around = _most(present, REACH)[0].flatten(1).mT > 0  # (M, R)
    edges = ~core & around.any(1)
    weights[edges] = _nearest_mixture(pixels[edges], palette, around[edges])[0]
    rest = ~core & ~edges
    weights[rest], off = _nearest_mixture(pixels[rest], palette, around[rest] | True)
    strays, plain = (off > APART).sum().item() / len(pixels), core.float().mean().item()
    if strays > MAX_STRAYS or plain < LEAST_PLAIN:
        raise ValueError(
            f"no mask: {plain:.0%} of the pixels are of flat colours, and {strays:.0%} neither "
            f"that nor between two of them; {ADVICE}"
        )
    return weights.mT.reshape(1, count, height, width)


def _nearest_mixture(
    pixels: torch.Tensor, palette: torch.Tensor, allowed: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return shares (M, R) of the two allowed colours that each pixel is between, and how far off.

    ``allowed`` is (M, R) bool.
    """
    count = len(palette)
    distance = _distances(pixels, palette).masked_fill(~allowed, torch.inf)
    best, nearest = distance.min(1)
    shares = F.one_hot(nearest, count).float()
    for i, j in combinations(range(count), 2):
        line = palette[j] - palette[i]
        along = ((pixels - palette[i]) @ line / line.square().sum()).clamp(0, 1)
        off = (pixels - palette[i] - along[:, None] * line).norm(dim=1)
        # By a little: a pixel of one colour, but for noise, is not taken for a mixture.
        nearer = (off < best - NOISE) & allowed[:, i] & allowed[:, j]
        mixture = torch.zeros(len(pixels), count)
        mixture[:, i], mixture[:, j] = 1 - along, along
        shares = torch.where(nearer[:, None], mixture, shares)
        best = torch.where(nearer, off, best)
    return shares, best


def are_same(colors: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return which of the colours (R, 3) and (R', 3) are those of one region, (R, R') bool."""
    return _distances(colors, others) * LEVELS < APART


def _distances(pixels: torch.Tensor, palette: torch.Tensor) -> torch.Tensor:
    return torch.stack([(pixels - color).norm(dim=1) for color in palette], 1)


def _is_flat(levels: torch.Tensor, side: int) -> torch.Tensor:
    """Return where pixels hardly differ in the square around one, (H, W) bool."""
    return ((_most(levels, side) + _most(-levels, side)).amax(1) <= FLAT)[0]


def _most(values: torch.Tensor, side: int) -> torch.Tensor:
    """Return the largest value in the square around each pixel of (1, C, H, W)."""
    rows = F.max_pool2d(values, (side, 1), 1, (side // 2, 0))
    return F.max_pool2d(rows, (1, side), 1, (0, side // 2))


def _luma(color: torch.Tensor) -> float:
    return (color * color.new_tensor([0.299, 0.587, 0.114])).sum().item()
