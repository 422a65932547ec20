"""Where each style goes: one Gram matrix for each region ([1]_, section 4).

A *mask* m says how much of a pixel, or of a position of a layer's maps, is in a region, from 0 to
1. The guidance channel T of [1]_ is its root, T^2 = m / sum m: the channels' squares add up to 1,
so that a region's Gram matrix does not depend on how large it is, and where masks add up to 1, the
regions' sums of products add up to those of the whole.

A region weighs in the loss what its share of the positions is, and with it every position weighs
what it weighs without masks: alpha means the same in a small region as in a large one. Positions
in no region (transparent pixels) have no style loss.

References
----------
.. [1] Gatys, Ecker, Bethge, Hertzmann & Shechtman 2017, "Controlling perceptual factors in neural
   style transfer"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F

from nst_helpers import _validate

__all__ = ["guide", "layer_masks"]

LayerMasks: TypeAlias = dict[str, torch.Tensor]  # (B or 1, R, H', W') for each layer

# A Gram matrix of fewer positions has hardly any rank: it is a handful of responses, no texture.
LEAST_POSITIONS = 4.0
LEAST_SIDE = 6  # of maps whose border is left out


def guide(
    content: torch.Tensor,
    styles: Sequence[torch.Tensor],
    sizes: Mapping[str, Sequence[int]],
    style_sizes: Sequence[Mapping[str, Sequence[int]]],
    quiet: bool = False,
) -> tuple[LayerMasks, list[LayerMasks]]:
    """Return the masks of content and styles at each layer, fit for each other.

    Unless all masks are whole, the positions along the border of all maps are left out. What the
    convolutions' padding does to them is part of a style's Gram matrix, and in a region that
    touches the border of the content only here and there it would all be painted there.

    A region that has fewer than four positions at a layer, in content or style, is left out there,
    with a warning.

    Parameters
    ----------
    content : torch.Tensor
        (B or 1, R, H, W) in [0, 1], as large as the content image: see ``validate_masks``.
    styles : sequence of torch.Tensor
        (1, R, H, W), one for each style, as large as it; or R of them, (1, 1, H, W) each: region r
        is painted in style r.
    sizes, style_sizes : mapping of str to sequence of int
        Each layer's (H', W') for the content and for each style: see ``layer_masks``.
    quiet : bool
        Leave regions out without a warning.

    Returns
    -------
    content : dict of str to torch.Tensor
        (B or 1, R, H', W') for each layer; 0 where a region is left out.
    styles : list of dict of str to torch.Tensor
        The same for each style.
    """
    border = all(bool((masks == 1).all()) for masks in (content, *styles))
    guides = layer_masks(content, sizes, border)
    style_guides = [
        layer_masks(masks, each, border) for masks, each in zip(styles, style_sizes, strict=True)
    ]
    coarse = []
    for layer, masks in guides.items():
        counts = [guide[layer].sum((2, 3)) for guide in style_guides]  # (1, R or 1) each
        by_style = len({masks.shape[1], *(len(count[0]) for count in counts)}) > 1
        least = torch.cat(counts, 1) if by_style else torch.cat(counts).amin(0, keepdim=True)
        few = torch.minimum(masks.sum((2, 3)), least.to(masks.device)) < LEAST_POSITIONS
        guides[layer] = masks.masked_fill(few[:, :, None, None], 0)
        coarse += [(region, layer) for region in few.any(0).nonzero().flatten().tolist()]
    if coarse and not quiet:
        _validate.warn(_too_coarse(coarse))
    return guides, style_guides


def layer_masks(
    masks: torch.Tensor, sizes: Mapping[str, Sequence[int]], border: bool = True
) -> LayerMasks:
    """Return the masks at the size of each layer's maps.

    They pass the network's own pools, so that a position is in a region as far as its pixels are.

    Parameters
    ----------
    masks : torch.Tensor
        (B or 1, R, H, W) in [0, 1], as large as the image.
    sizes : mapping of str to sequence of int
        Each layer's (H', W'), as ``map_size`` gives them: sides halved, rounding up, some times.
    border : bool
        False: the positions along the border of the maps are in no region, if there are 6 rows and
        columns at least.

    Returns
    -------
    dict of str to torch.Tensor
        (B or 1, R, H', W') in [0, 1] for each layer.

    Raises
    ------
    ValueError
        If masks of that size do not come down to a layer's.
    """
    pooled, result = [masks], {}
    for layer, size in sizes.items():
        while pooled[-1].shape[2:] != tuple(size) and max(pooled[-1].shape[2:]) > 1:
            pooled.append(F.avg_pool2d(pooled[-1], 2, ceil_mode=True))
        found = [values for values in pooled if values.shape[2:] == tuple(size)]
        if not found:
            raise ValueError(
                f"masks of {masks.shape[2]} x {masks.shape[3]} (height x width) cannot be brought "
                f"to the {size[0]} x {size[1]} positions of {layer} by halving"
            )
        inner = border or min(size) < LEAST_SIDE
        result[layer] = found[0] if inner else F.pad(found[0][:, :, 1:-1, 1:-1], (1, 1, 1, 1))
    return result


def _too_coarse(coarse: Sequence[tuple[int, str]]) -> str:
    regions = dict[int, list[str]]()
    for region, layer in coarse:
        regions.setdefault(region, []).append(layer)
    each = [f"region {region} at {', '.join(layers)}" for region, layers in regions.items()]
    return (
        f"layers too coarse for regions (counted from 0) are left out: {'; '.join(each)} has fewer "
        f"than {LEAST_POSITIONS:g} positions in content or style. A larger image has more"
    )
