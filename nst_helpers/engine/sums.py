"""Sums over feature maps, in float32 whatever the maps' dtype."""

from __future__ import annotations

from typing import Any

import torch

from nst_helpers.engine.threads import sum_per_image

__all__ = ["sum_of_products", "sum_of_squares"]


def sum_of_products(features: torch.Tensor) -> torch.Tensor:
    """Return F F^T, the sum over positions of the products of each two filters.

    Parameters
    ----------
    features : torch.Tensor
        (B, N, H, W).

    Returns
    -------
    torch.Tensor
        (B, N, N).
    """
    products: torch.Tensor = _SumOfProducts.apply(features)
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
    def forward(ctx: Any, features: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(features)
        unrolled = _to_float32(features).flatten(2)  # (B, N, M)
        return unrolled @ unrolled.mT

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:
        (features,) = ctx.saved_tensors
        symmetric = (grad_output + grad_output.mT).to(features.dtype)
        # Positions before filters, which is how channels-last maps lie in memory.
        gradient: torch.Tensor = features.flatten(2).mT @ symmetric  # (B, M, N)
        return gradient.mT.view(features.shape)


def _to_float32(values: torch.Tensor) -> torch.Tensor:
    return values.float() if values.dtype.itemsize < 4 else values
