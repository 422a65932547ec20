"""Sums over feature maps, whole or by regions, in float32 whatever the maps' dtype."""

from __future__ import annotations

from typing import Any

import torch

from nst_helpers import _validate
from nst_helpers.engine.threads import sum_per_image

__all__ = ["guided_products", "sum_of_products", "sum_of_squares"]


def sum_of_products(features: torch.Tensor, near: torch.Tensor | None = None) -> torch.Tensor:
    """Return F F^T, the sum over positions of the products of each two filters.

    Parameters
    ----------
    features : torch.Tensor
        (B, N, H, W).
    near : torch.Tensor, optional
        (B or 1, N, N), what they are compared with, per position. On a CPU, bfloat16 maps that have
        a gradient are then summed in a fourth of the time, and how far the sums are from it is
        known to 1 in 500.

    Returns
    -------
    torch.Tensor
        (B, N, N).
    """
    # Without a gradient, which is rounded to bfloat16 in any case, a loss is asked for itself.
    if not (torch.is_grad_enabled() and features.requires_grad):
        near = None
    products: torch.Tensor = _SumOfProducts.apply(features, near)
    return products


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


def sum_of_squares(features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the sum of (F - P)^2 over filters and positions.

    Parameters
    ----------
    features, target : torch.Tensor
        (B, N, H, W) and (B or 1, N, H, W).

    Returns
    -------
    torch.Tensor
        (B,).
    """
    return sum_per_image((_to_float32(features) - _to_float32(target)).square())


class _SumOfProducts(torch.autograd.Function):
    """F F^T, with what torch does not know of it: the backward pass is one product, (S + S^T) F.

    Half-precision maps are summed in float32, and no float32 copy of them is held.
    """

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, near: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(features)
        rounds = (features.dtype, features.device.type) == (torch.bfloat16, "cpu")
        if near is not None and rounds:
            return _sums_near(features, near * (features.shape[2] * features.shape[3]))
        unrolled = _to_float32(features).flatten(2)  # (B, N, M)
        return unrolled @ unrolled.mT

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        (features,) = ctx.saved_tensors
        symmetric = (grad_output + grad_output.mT).to(features.dtype)
        # Positions before filters, which is how channels-last maps lie in memory.
        gradient = features.flatten(2).mT @ symmetric  # (B, M, N)
        return gradient.mT.view(features.shape), None


class _GuidedProducts(torch.autograd.Function):
    """F m F^T of each region; as for unguided sums, nothing but the maps is held."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(features, masks)
        maps = _to_float32(features)
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


def _sums_near(features: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Return F F^T in float32, as a known (B or 1, N, N) and a difference in bfloat16.

    Within a product everything is float32, and only what comes out is rounded. The sums must not
    be: known to 1 in 500, they could come no closer to a style.
    """
    known, unrolled = near.to(features.dtype).expand(len(features), -1, -1), features.flatten(2)
    # OneDNN's threads may share a sum over 2,048 positions, 4,096 and so on, which is then rounded
    # otherwise than by one thread: there, the last position is added by itself.
    positions = unrolled.shape[2]
    apart = int(positions >= 2048 and positions.bit_count() == 1)
    most, last = unrolled.split((positions - apart, apart), 2)  # (B, N, M)
    # One by one: in a batch of matrices each is one thread's.
    each = zip(known, most, strict=True)
    differences = torch.stack([torch.addmm(k, maps, maps.mT, beta=-1) for k, maps in each])
    sums: torch.Tensor = known.float() + differences
    return sums + last.float() @ last.float().mT if apart else sums


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


def _to_float32(values: torch.Tensor) -> torch.Tensor:
    return values.float() if values.dtype.itemsize < 4 else values


def _validate_masks(features: torch.Tensor, masks: torch.Tensor) -> None:
    _validate.tensor("features", features, "feature maps (B, N, H, W)", "BNHW")
    height, width = features.shape[2:]
    what = f"(B or 1, R, {height}, {width}), as large as the feature maps"
    _validate.tensor("masks", masks, what, "BRHW")
    if masks.shape[2:] != features.shape[2:]:
        raise _validate.wrong("masks", what, masks)
    _validate.same_batch(features, masks, "masks")
    # A GPU would have to wait.
    if masks.device.type == "cpu" and not ((masks >= 0) & (masks <= 1)).all():
        raise ValueError("masks must be in [0, 1]; there are values outside, or NaN")
    _validate.same_device("masks", masks, features.device)
