"""Several styles in one target: a weighted mean of Gram matrices.

References
----------
.. [1] Gatys, Ecker, Bethge, Hertzmann & Shechtman 2017, "Controlling perceptual factors in neural
   style transfer"
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nst_helpers import _validate

__all__ = ["blend_grams", "validate_style_weights"]


def blend_grams(grams: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Return the weighted mean of several styles' Gram matrices.

    Matching it is the same as matching each style with its weight: the weighted sum of the styles'
    losses is the loss of their weighted mean, but for a constant.

    Parameters
    ----------
    grams : torch.Tensor
        (K, ...), one for each style: (K, N, N), or (K, R, N, N) with regions.
    weights : sequence of float
        K numbers >= 0, not all 0; only their ratios matter.

    Returns
    -------
    torch.Tensor
        (1, ...). Where all the weight is on one style, exactly its matrix, and of one matrix K
        times exactly that one.
    """
    shares = validate_style_weights(weights, grams.shape[0])
    # From the heaviest on, so that what is equal or has no weight adds exactly nothing.
    base = max(range(len(shares)), key=shares.__getitem__)
    blend = grams[base]
    for gram, share in zip(grams, shares, strict=True):
        if share and gram is not blend:
            blend = blend + share * (gram - grams[base])
    return blend.unsqueeze(0)


def validate_style_weights(
    weights: Sequence[float], count: int, name: str = "style_weights"
) -> tuple[float, ...]:
    """Return ``count`` numbers >= 0 divided by their sum.

    Parameters
    ----------
    weights : sequence of float
        One for each style, not all 0.
    count : int
        How many styles there are.
    name : str
        What to call them in messages.
    """
    values = _validate.number_of_each(name, weights, count, "style")
    largest = max(values)  # first, so that no sum can overflow
    ratios = [value / largest for value in values]
    return tuple(ratio / sum(ratios) for ratio in ratios)
