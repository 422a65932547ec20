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
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F

from nst_helpers import _validate

__all__ = [
    "guide",
    "guided_gram",
    "guided_products",
    "guided_style_loss",
    "layer_masks",
    "scale_guided",
]

LayerMasks: TypeAlias = dict[str, torch.Tensor]  # (B or 1, R, H', W') for each layer

# A Gram matrix of fewer positions has hardly any rank: it is a handful of responses, no texture.
LEAST_POSITIONS = 4.0
LEAST_SIDE = 6  # of maps whose border is left out


def guide(
    content: torch.Tensor,
    styles: Sequence[torch.Tensor],
    sizes: Mapping[str, Sequence[int]],
    style_sizes: Sequence[Mapping[str, Sequence[int]]],
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
    if coarse:
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


def guided_products(features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Return the sum over positions of m F F^T for each region, in float32.

    Parameters
    ----------
    features : torch.Tensor
        (B, N, H, W).
    masks : torch.Tensor
        (B or 1, R, H, W) in [0, 1], without a gradient.

    Returns
    -------
    torch.Tensor
        (B, R, N, N).
    """
    _validate_masks(features, masks)
    products: torch.Tensor = _GuidedProducts.apply(features, masks)
    return products


def guided_gram(
    features: torch.Tensor, masks: torch.Tensor, normalise: bool = True
) -> torch.Tensor:
    """Return one Gram matrix for each region ([1]_, section 4).

    Parameters
    ----------
    features : torch.Tensor
        (B, N, H, W).
    masks : torch.Tensor
        (B or 1, R, H, W) in [0, 1]: one of ``layer_masks``.
    normalise : bool
        Divide by the sum of the region's mask.

    Returns
    -------
    torch.Tensor
        (B, R, N, N). With one mask of ones exactly ``gram_matrix``; 0 for a mask of zeros.
    """
    products = guided_products(features, masks)
    return _per_position(products, masks) if normalise else products


def guided_style_loss(
    features: torch.Tensor,
    target: torch.Tensor,
    masks: torch.Tensor,
    convention: Literal["normalised", "paper", "lecture"] = "normalised",
    region_weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Return one layer's style loss, of all regions.

    Parameters
    ----------
    features : torch.Tensor
        (B, N, H, W).
    target : torch.Tensor
        The style's ``guided_gram``, (B or 1, R, N, N): its region r is for region r of the masks.
    masks : torch.Tensor
        (B or 1, R, H, W) in [0, 1]: one of ``layer_masks``.
    convention : {"normalised", "paper", "lecture"}
        As for ``style_loss``.
    region_weights : sequence of float, optional
        A factor for the style of each region, lambda_r of [1]_; 1 by default.

    Returns
    -------
    torch.Tensor
        (B,): the squared errors of the regions' Gram matrices, each times the region's share of
        the positions. With one mask of ones exactly ``style_loss``.
    """
    _validate.one_of("convention", convention, ("normalised", "paper", "lecture"))
    return scale_guided(guided_products(features, masks), target, masks, convention, region_weights)


def scale_guided(
    products: torch.Tensor,
    target: torch.Tensor,
    masks: torch.Tensor,
    convention: str,
    region_weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Return the same of the sums that ``guided_products`` returns, also if added up over strips.

    Parameters
    ----------
    products : torch.Tensor
        (B, R, N, N).
    target, masks, convention, region_weights
        As for ``guided_style_loss``.
    """
    batch, regions, filters, _ = products.shape
    _validate.same_batch(products, target)
    if target.shape[1:] != products.shape[1:]:
        raise ValueError(
            f"{regions} regions of {filters} filters cannot match Gram matrices of shape "
            f"{tuple(target.shape)}; expected (B or 1, {regions}, {filters}, {filters})"
        )
    if region_weights is not None and len(region_weights) != regions:
        raise ValueError(
            f"region_weights must be {regions} numbers, one per region; got {len(region_weights)}"
        )
    positions = masks.shape[2] * masks.shape[3]
    errors = (_per_position(products, masks) - target).square()
    errors = errors.flatten(0, 1).mean((1, 2)).view(batch, regions)
    if convention == "paper":
        errors = errors / 4
    if convention == "lecture":
        errors = errors * positions / filters
    shares, loss = _shares(masks), products.new_zeros(batch)
    for region in range(regions):
        weight = 1.0 if region_weights is None else region_weights[region]
        loss = loss + weight * shares[:, region] * errors[:, region]
    return loss


class _GuidedProducts(torch.autograd.Function):
    """F m F^T of each region; as for unguided sums, nothing but the maps is held."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(features, masks)
        maps = features.float() if features.dtype.itemsize < 4 else features
        sums = []
        for channel in masks.to(maps.dtype).sqrt().split(1, 1):
            rows, columns = _extent(channel)
            guided = maps[:, :, rows, columns] * channel[:, :, rows, columns]
            guided = guided.flatten(2)  # (B, N, M)
            sums.append(guided @ guided.mT)
        return torch.stack(sums, 1)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        features, masks = ctx.saved_tensors
        symmetric = (grad_output + grad_output.mT).to(features.dtype)
        # Positions before filters, which is how channels-last maps lie in memory.
        positions = features.permute(0, 2, 3, 1)  # (B, H, W, N)
        gradient = torch.zeros_like(positions)
        for region, channel in enumerate(masks.to(features.dtype).split(1, 1)):
            rows, columns = _extent(channel)
            part = positions[:, rows, columns]
            product = (part.flatten(1, 2) @ symmetric[:, region]).view(part.shape)
            gradient[:, rows, columns].addcmul_(product, channel[:, 0, rows, columns, None])
        return gradient.permute(0, 3, 1, 2), None


def _extent(channel: torch.Tensor) -> tuple[slice, slice]:
    """Return the rows and columns of (B or 1, 1, H, W) beyond which there is no region."""
    if channel.device.type != "cpu":
        return slice(None), slice(None)  # what is looked up on a GPU makes it wait
    height, width = (channel.amax(over).flatten().nonzero() for over in ((0, 1, 3), (0, 1, 2)))
    if not len(height):
        return slice(0, 0), slice(0, 0)
    first, last = (int(side) for side in (height[0], height[-1]))
    left, right = (int(side) for side in (width[0], width[-1]))
    return slice(first, last + 1), slice(left, right + 1)


def _per_position(products: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    # First as without masks, so that a whole one changes no bit.
    shares = _shares(masks).clamp_min(torch.finfo(masks.dtype).tiny)
    return products / (masks.shape[2] * masks.shape[3]) / shares[:, :, None, None]


def _shares(masks: torch.Tensor) -> torch.Tensor:
    """Return which share of the positions each region has, (B or 1, R): 1 for ones exactly."""
    sums = masks.sum((2, 3))
    # By a tensor: GPUs multiply by the rounded reciprocal of a number.
    return sums / torch.full_like(sums, masks.shape[2] * masks.shape[3])


def _too_coarse(coarse: Sequence[tuple[int, str]]) -> str:
    regions = dict[int, list[str]]()
    for region, layer in coarse:
        regions.setdefault(region, []).append(layer)
    each = [f"region {region} at {', '.join(layers)}" for region, layers in regions.items()]
    return (
        f"layers too coarse for regions (counted from 0) are left out: {'; '.join(each)} has fewer "
        f"than {LEAST_POSITIONS:g} positions in content or style. A larger image has more"
    )


def _validate_masks(features: torch.Tensor, masks: torch.Tensor) -> None:
    _validate.tensor("features", features, "feature maps (B, N, H, W)", "BNHW")
    height, width = features.shape[2:]
    what = f"(B or 1, R, {height}, {width}), as large as the feature maps"
    _validate.tensor("masks", masks, what, "BRHW")
    if masks.shape[2:] != features.shape[2:]:
        raise _validate.wrong("masks", what, masks)
    _validate.same_batch(features, masks, "masks")
