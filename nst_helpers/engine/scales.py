"""Sums over feature maps to losses: the conventions' constants, and what a region counts.

A region weighs in the style loss what its share of the positions is, and with it every position
weighs what it weighs without masks: alpha means the same in a small region as in a large one.
Positions in no region (transparent pixels) have no style loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nst_helpers import _validate
from nst_helpers.engine.threads import sum_per_image

__all__ = ["per_position", "region_numbers", "scale_content", "scale_style"]


def scale_content(error: torch.Tensor, values: int, convention: str) -> torch.Tensor:
    """Return the content loss of squared errors, (B,).

    Parameters
    ----------
    error : torch.Tensor
        (B,), as ``sum_of_squares`` gives it.
    values : int
        How many values it is a sum over: N M.
    convention : {"normalised", "paper", "lecture"}
        See ``nst_helpers.layer_losses``.
    """
    return error / 2 if convention == "paper" else error / values


def scale_style(
    products: torch.Tensor,
    target: torch.Tensor,
    positions: int,
    convention: str,
    masks: torch.Tensor | None = None,
    region_weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Return the style loss of sums of products, (B,).

    Parameters
    ----------
    products : torch.Tensor
        (B, N, N), as ``sum_of_products`` gives them, or (B, R, N, N), as ``guided_products`` does;
        also if added up over strips.
    target : torch.Tensor
        The style's, per position: (B or 1, N, N) or (B or 1, R, N, N).
    positions : int
        M, all of the layer.
    convention : {"normalised", "paper", "lecture"}
        See ``nst_helpers.layer_losses``.
    masks : torch.Tensor, optional
        (B or 1, R, H, W), those of the products.
    region_weights : sequence of float, optional
        A factor for each region; 1 by default.
    """
    if masks is None:
        if region_weights is not None:
            raise ValueError("region_weights need masks: the regions that they are for")
        return _scaled(products / positions - target, positions, convention)
    batch, regions, filters, _ = products.shape
    if target.shape[1:] != products.shape[1:]:
        raise ValueError(
            f"{regions} regions of {filters} filters cannot match Gram matrices of shape "
            f"{tuple(target.shape)}; expected (B or 1, {regions}, {filters}, {filters})"
        )
    factors = region_numbers(region_weights, regions)
    differences = per_position(products, masks) - target
    errors = _scaled(differences.flatten(0, 1), positions, convention).view(batch, regions)
    shares, loss = _shares(masks), products.new_zeros(batch)
    for region, factor in enumerate(factors):
        loss = loss + factor * shares[:, region] * errors[:, region]
    return loss


def region_numbers(weights: Sequence[float] | None, regions: int) -> tuple[float, ...]:
    """Return a number >= 0 for each region, not all 0; 1 each by default.

    Parameters
    ----------
    weights : sequence of float, optional
    regions : int
        How many.
    """
    if weights is None:
        return (1.0,) * regions
    return _validate.number_of_each("region_weights", weights, regions, "region")


def per_position(products: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Return each region's Gram matrix: of its sums, divided by the sum of its mask.

    Parameters
    ----------
    products : torch.Tensor
        (B, R, N, N), as ``guided_products`` gives them.
    masks : torch.Tensor
        (B or 1, R, H, W).
    """
    # First as without masks, so that a whole one changes no bit.
    shares = _shares(masks).clamp_min(torch.finfo(masks.dtype).tiny)
    return products / (masks.shape[2] * masks.shape[3]) / shares[:, :, None, None]


def _scaled(difference: torch.Tensor, positions: int, convention: str) -> torch.Tensor:
    """Return the loss of G - A per position, (B, N, N)."""
    error = sum_per_image(difference.square()) / difference[0].numel()
    if convention == "paper":
        return error / 4  # (M^2 N^2 mean) / (4 N^2 M^2)
    if convention == "lecture":
        return error * positions / difference.shape[1]  # (M^2 mean) / (N M)
    return error


def _shares(masks: torch.Tensor) -> torch.Tensor:
    """Return which share of the positions each region has, (B or 1, R): 1 for ones exactly."""
    sums = masks.sum((2, 3))
    # By a tensor: GPUs multiply by the rounded reciprocal of a number.
    return sums / torch.full_like(sums, masks.shape[2] * masks.shape[3])
