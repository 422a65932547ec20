"""The exercises of notebook 06: a Gram matrix for each region, colours of one picture on another.

They are checked as those of ``exercises`` are: against plain Python loops, in one line, and never
with an error.

References
----------
.. [1] Gatys, Ecker, Bethge, Hertzmann & Shechtman 2017, "Controlling perceptual factors in neural
   style transfer"
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from nst_helpers.language import N_, _
from nst_helpers.lesson.verdict import YOURS, verdict

__all__ = ["check_guided_gram", "check_match_colours"]


def check_guided_gram(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Return in one line whether ``function`` is the guided Gram matrix ([1]_, section 4).

    Parameters
    ----------
    function : callable
        Feature maps F (B, N, H, W) and masks m (1, R, H, W), from 0 to 1, to (B, R, N, N):
        G^r_ij = sum_k m_rk F_ik F_jk / sum_k m_rk.
    """
    features, masks = _random(2, 3, 2, 4, seed=11), _random(1, 2, 2, 4, seed=12).sigmoid()
    expected = _guided_gram(features, masks)
    maps, weights = features.flatten(2).unsqueeze(1), masks.flatten(2).unsqueeze(2)
    summed = (weights * maps) @ maps.mT  # (B, R, N, N)
    squared = (weights * maps) @ (weights * maps).mT
    total, positions = weights.sum(3, keepdim=True), maps.shape[3]
    whole = (maps @ maps.mT / positions).expand_as(expected)
    mistakes = {
        N_(
            "divide by the sum of each region's mask, not by H * W: a small region has few "
            "positions"
        ): (summed / positions),
        N_("unscaled: divide by the sum of each region's mask"): summed,
        N_("the mask is in both factors, so it counts as its square: give each factor its root"): (
            squared / total
        ),
        N_("the mask counts as its square; its squares add up to 1, but m itself is the weight"): (
            squared / weights.square().sum(3, keepdim=True)
        ),
        N_("the mask counts as its square, and the numbers are unscaled"): squared,
        N_("divided twice: by the sum of the mask only, not by the positions as well"): (
            summed / total / positions
        ),
        N_("divided by too much: by the sum of the mask only, not by the filters"): (
            expected / features.shape[1]
        ),
        N_("the regions are added up: one matrix for each"): expected.sum(1),
        N_("the images of the batch are added up: one matrix for each"): expected.sum(0),
        N_("that is the Gram matrix of the whole, for each region: the mask is left out"): whole,
        N_("that is the Gram matrix of the whole: multiply each position by the region's mask"): (
            whole[:, 0]
        ),
    }
    return verdict(function, (features, masks), expected, mistakes)


def check_match_colours(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Return in one line whether ``function`` matches mean and covariance of the colours.

    Every right answer passes, whatever rotation of the colours it contains ([1]_, section 5.2).

    Parameters
    ----------
    function : callable
        Image (1, 3, H, W) and reference (1, 3, H', W') to an image (1, 3, H, W), A x + b of each
        pixel x, whose mean colour and covariance of colours are the reference's.
    """
    image = 0.5 + 0.1 * _mixed(_random(1, 3, 4, 6, seed=13), 0.5)
    reference = 0.3 + 0.2 * _mixed(_random(1, 3, 3, 8, seed=14), -0.8)

    is_image = True

    def moments_of_answer(image: Tensor, reference: Tensor) -> Tensor:
        nonlocal is_image
        answer = function(image, reference)
        is_image = isinstance(answer, Tensor) and answer.shape == image.shape
        # What is only the style before the transfer needs no gradient.
        return _fast_moments(answer) + 0 * image.sum() if is_image else answer

    moments_of_answer.__name__ = getattr(function, "__name__", _(YOURS))
    line = verdict(
        moments_of_answer,
        (image, reference),
        _moments(reference),
        _mistakes_of_colours(image, reference),
    )
    # What is no image at all has no moments, and its own shape is what to talk about.
    return line if is_image else verdict(function, (image, reference), image, {})


def _mistakes_of_colours(image: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """Return a hint to the moments of each answer that deserves it."""
    x, y = (picture.flatten(2)[0] for picture in (image, reference))
    mean, target_mean = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    centred, s, t = x - mean, torch.cov(x), torch.cov(y)
    ratio = (t.diagonal() / s.diagonal()).sqrt().unsqueeze(1)
    root, target_root = _power(s, 0.5), _power(t, 0.5)
    low, target_low = torch.linalg.cholesky(s), torch.linalg.cholesky(t)
    right = target_root @ torch.linalg.inv(root)
    answers = {
        N_("that is the image as it was"): x,
        N_("the mean is the reference's; now the covariance: a 3 x 3 matrix times x"): (
            centred + target_mean
        ),
        N_("the covariance is right; the mean is not: add the reference's mean"): right @ centred,
        N_("the mean stays the image's own: add the reference's"): right @ centred + mean,
        N_("subtract the image's mean before multiplying, or A moves it as well"): (
            right @ x + target_mean
        ),
        N_(
            "each channel has the right mean and spread, but red, green and blue vary together: "
            "scale by a matrix, not by three numbers"
        ): (ratio * centred + target_mean),
        N_("a covariance is quadratic, so take roots: A = T^(1/2) S^(-1/2)"): (
            t @ torch.linalg.inv(s) @ centred + target_mean
        ),
        N_(
            "the order of the two factors: first S^(-1/2), which stands on the right, then T^(1/2)"
        ): (torch.linalg.inv(root) @ target_root @ centred + target_mean),
        N_("the order of the two factors: first L_S^-1, which stands on the right, then L_T"): (
            torch.linalg.inv(low) @ target_low @ centred + target_mean
        ),
        N_("that goes the other way: from the reference's covariance to the image's"): (
            torch.linalg.inv(right) @ centred + target_mean
        ),
        N_("white: the covariance is 1; now multiply by the root of the reference's"): (
            torch.linalg.inv(root) @ centred + target_mean
        ),
    }
    return {hint: _fast_moments(answer.view_as(image)) for hint, answer in answers.items()}


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _mixed(image: Tensor, share: float) -> Tensor:
    """Return an image whose channels vary together."""
    return image + share * image.roll(1, dims=1)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    power: Tensor = (vectors * values.pow(exponent)) @ vectors.mT
    return power


def _guided_gram(features: Tensor, masks: Tensor) -> Tensor:
    """Return the guided Gram matrices (B, R, N, N), one product after the other."""
    batch, filters, height, width = features.shape
    gram = torch.zeros(batch, masks.shape[1], filters, filters)
    for r in range(masks.shape[1]):
        total = sum(masks[0, r].flatten().tolist())
        for b, i, j in product(range(batch), range(filters), range(filters)):
            for y, x in product(range(height), range(width)):
                share = masks[0, r, y, x] / total
                gram[b, r, i, j] += share * features[b, i, y, x] * features[b, j, y, x]
    return gram


def _moments(image: Tensor) -> Tensor:
    """Return mean and covariance of the colours, (3, 4), number by number."""
    pixels = image[0].flatten(1).T.tolist()
    mean = [sum(pixel[c] for pixel in pixels) / len(pixels) for c in range(3)]
    rows = []
    for i in range(3):
        covariance = [
            sum((p[i] - mean[i]) * (p[j] - mean[j]) for p in pixels) / len(pixels) for j in range(3)
        ]
        rows.append([mean[i], *covariance])
    return torch.tensor(rows)


def _fast_moments(image: Tensor) -> Tensor:
    """Return the same as a product of matrices."""
    pixels = image[0].flatten(1)
    return torch.cat([pixels.mean(1, keepdim=True), torch.cov(pixels, correction=0)], 1)
