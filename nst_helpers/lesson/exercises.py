"""The notebooks' exercises: each check compares your function with plain Python loops.

A check calls the function that you wrote on tensors so small that loops over single numbers can
compute what is expected. It returns one line for people, which starts with "Right", "Not yet" or
"Not tried yet", and never raises. Common mistakes have a hint of their own.

References
----------
.. [1] Gatys, Ecker & Bethge 2016, "Image style transfer using convolutional neural networks"
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from nst_helpers.language import N_
from nst_helpers.lesson.capstone import check_transfer as check_transfer
from nst_helpers.lesson.verdict import verdict
from nst_helpers.network.features import IMAGENET_MEAN, IMAGENET_STD

__all__ = [
    "check_content_loss",
    "check_gram_matrix",
    "check_im_convert",
    "check_keep_colours",
    "check_ratio_from_paper",
    "check_style_loss",
    "check_total_loss",
    "check_weighted_style",
]


def check_im_convert(function: Callable[[Tensor], Tensor]) -> str:
    """Return in one line whether ``function`` undoes the normalisation, and clips.

    Parameters
    ----------
    function : callable
        Normalised image (1, 3, H, W) to image (1, 3, H, W) in [0, 1]: times ImageNet's standard
        deviation, plus its mean, then clipped.
    """
    values = 3 * _random(1, 3, 2, 4)
    expected = torch.empty_like(values)
    for c, y, x in product(range(3), range(2), range(4)):
        value = values[0, c, y, x].item() * IMAGENET_STD[c] + IMAGENET_MEAN[c]
        expected[0, c, y, x] = min(max(value, 0), 1)
    mean, std = _per_channel(IMAGENET_MEAN), _per_channel(IMAGENET_STD)
    unclipped = values * std + mean
    swapped = ((values + mean) * std).clamp(0, 1)
    forward = ((values - mean) / std).clamp(0, 1)
    mistakes = {
        N_(
            "clip to [0, 1] at the end: no screen shows less than black or more than white"
        ): unclipped,
        N_(
            "the order: normalising subtracted the mean and then divided, so first multiply"
        ): swapped,
        N_("this normalises a second time; multiply by STD and add MEAN to go back"): forward,
        N_("the values were divided by STD as well: multiply by it"): (values + mean).clamp(0, 1),
    }
    return verdict(function, (values,), expected, mistakes)


def check_content_loss(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Return in one line whether ``function`` is the content loss, one number for each image.

    Parameters
    ----------
    function : callable
        Feature maps F and P, (B, N, H, W) each, to the mean of (F - P)^2 of each image, (B,).
    """
    features, target = _random(2, 3, 2, 4, seed=1), _random(2, 3, 2, 4, seed=2)
    expected = _mean_square(features, target)
    difference = features - target
    squares = difference.square()
    mistakes = {
        **_mistakes_of_a_mean_square(difference),
        N_("summed instead of averaged: divide by N * H * W, or use mean"): squares.sum((1, 2, 3)),
        N_("the paper's equation 1 is half a sum; here we average, so that size does not matter"): (
            squares.sum((1, 2, 3)) / 2
        ),
        N_("square the differences rather than take their absolute value"): (
            difference.abs().mean((1, 2, 3))
        ),
        N_("averaged over the filters only: over positions too"): squares.mean(1),
        N_("this is the square root of it; leave the root out"): squares.mean((1, 2, 3)).sqrt(),
    }
    return verdict(function, (features, target), expected, mistakes)


def check_gram_matrix(function: Callable[[Tensor], Tensor]) -> str:
    """Return in one line whether ``function`` is the Gram matrix per position, one for each image.

    Parameters
    ----------
    function : callable
        Feature maps (B, N, H, W) to (B, N, N): G_ij = sum_k F_ik F_jk / M, with M = H W.
    """
    features = _random(2, 3, 2, 4, seed=3)
    unrolled = features.flatten(2)
    batch, filters, positions = unrolled.shape
    summed = unrolled @ unrolled.mT
    mixed = unrolled.reshape(batch * filters, positions)
    centred = unrolled - unrolled.mean(2, keepdim=True)
    mistakes = {
        N_("unscaled: divide by the number of positions M = H * W"): summed,
        N_(
            "transposed: this compares positions (M x M); G compares filters (N x N), F times F^T"
        ): (unrolled.mT @ unrolled / positions),
        N_(
            "transposed: this compares positions (M x M), and is unscaled: F times F^T, divided "
            "by M"
        ): (unrolled.mT @ unrolled),
        N_("the images of the batch are mixed: one N x N matrix for each, so keep dimension 0"): (
            mixed @ mixed.T / positions
        ),
        N_("the images of the batch are mixed, and the numbers are unscaled"): mixed @ mixed.T,
        N_("summed over the batch: one matrix for each image"): (summed / positions).sum(0),
        N_("averaged over the batch: one matrix for each image"): (summed / positions).mean(0),
        N_("divided by too much: by the positions M = H * W only, not by the filters"): (
            summed / (filters * positions)
        ),
        N_("the mean was subtracted: that is the covariance; the Gram matrix keeps the mean"): (
            centred @ centred.mT / positions
        ),
    }
    return verdict(function, (features,), _gram(features), mistakes)


def check_keep_colours(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Return in one line whether ``function`` gives the content image the luminance of the result.

    Parameters
    ----------
    function : callable
        Result and content image, (B, 3, H, W) each, to the image (B, 3, H, W) whose luminance
        0.299 R + 0.587 G + 0.114 B is the result's and whose colour differences are the content's.
    """
    result, content = _random(2, 3, 2, 4, seed=6), _random(2, 3, 2, 4, seed=7)
    shares = (0.299, 0.587, 0.114)
    expected = content.clone()
    for b, y, x in product(range(2), range(2), range(4)):
        pairs = zip(result[b, :, y, x].tolist(), content[b, :, y, x].tolist(), strict=True)
        expected[b, :, y, x] += sum(w * (r - c) for w, (r, c) in zip(shares, pairs, strict=True))
    weights = _per_channel(shares)
    new, old = ((weights * image).sum(1, keepdim=True) for image in (result, content))
    mistakes = {
        N_("exchanged: this keeps the result's colours and takes the content's luminance"): (
            result + old - new
        ),
        N_("subtract the content's own luminance first, or it counts twice"): content + new,
        N_("that is the luminance alone, a grey picture: add the content's colours"): (
            new.expand_as(result)
        ),
        N_("the wrong sign: add the result's luminance and subtract the content's"): (
            content - new + old
        ),
        N_("the mean of R, G and B is not the luminance: green weighs most"): (
            content + (result - content).mean(1, keepdim=True)
        ),
        N_("the channels were weighted, but not added up"): content + weights * (result - content),
    }
    return verdict(function, (result, content), expected, mistakes)


def check_ratio_from_paper(function: Callable[[Tensor, int, int], Tensor]) -> str:
    """Return in one line whether ``function`` converts alpha/beta from the paper's convention.

    Parameters
    ----------
    function : callable
        Ratios alpha/beta (B,) in the paper's convention, the content layer's number of filters N
        and of positions M, to the ratios (B,) that ask for the same image with means.
    """
    ratios, filters, positions = torch.tensor([1e-3, 0.5]), 3, 8
    ones = torch.ones(filters * positions).tolist()  # squared errors of features all wrong by 1
    content = sum(square / 2 for square in ones) / (sum(ones) / len(ones))
    style = sum(positions**2 for _ in range(filters**2)) / (4 * filters**2 * positions**2)
    expected = torch.tensor([ratio * content / style for ratio in ratios.tolist()])
    values = filters * positions
    mistakes = {
        N_("the wrong way round: this goes from the normalised convention to the paper's"): (
            ratios / (2 * values)
        ),
        N_("the style loss has a constant too: the paper's is a quarter of the normalised one"): (
            ratios * values / 2
        ),
        N_("the content loss has a half in front of its sum"): ratios * 4 * values,
        N_("dividing by a quarter makes it larger"): ratios * values / 8,
        N_("a half divided by a quarter is 2"): ratios * values,
        N_("the content loss sums over the N filters, too"): ratios * 2 * positions,
        N_("the content loss sums over the M positions, too"): ratios * 2 * filters,
        N_(
            "the conventions differ, so the ratios do: how many numbers does the sum add up?"
        ): ratios,
    }
    return verdict(function, (ratios, filters, positions), expected, mistakes)


def check_style_loss(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Return in one line whether ``function`` is one layer's style loss, one number for each image.

    Parameters
    ----------
    function : callable
        Feature maps of the image (B, N, H, W) and of the style image (B, N, H', W'), of any size,
        to the mean of (G - A)^2 of each image, (B,).
    """
    features, target = _random(2, 3, 2, 4, seed=4), _random(2, 3, 3, 5, seed=5)
    expected = _mean_square(_gram(features), _gram(target))
    sums = [maps.flatten(2) @ maps.flatten(2).mT for maps in (features, target)]
    difference = sums[0] / 8 - sums[1] / 15
    squares = difference.square()
    mistakes = {
        **_mistakes_of_a_mean_square(difference),
        N_("summed instead of averaged: use the mean over the N x N entries"): squares.sum((1, 2)),
        N_("unscaled: divide each Gram matrix by its own number of positions"): (
            (sums[0] - sums[1]).square().mean((1, 2))
        ),
        N_("the two images differ in size: divide each Gram matrix by its own H * W"): (
            (sums[0] / 8 - sums[1] / 8).square().mean((1, 2))
        ),
        N_("the paper's equation 4 has another quarter; here it is left out"): (
            squares.mean((1, 2)) / 4
        ),
    }
    return verdict(function, (features, target), expected, mistakes)


def check_total_loss(function: Callable[[Tensor, Tensor, float, float], Tensor]) -> str:
    """Return in one line whether ``function`` is alpha content + beta style (equation 7 of [1]_).

    Parameters
    ----------
    function : callable
        Content loss (B,), style loss (B,), alpha and beta to the total (B,).
    """
    content, style = torch.tensor([2.0, 3.0]), torch.tensor([5.0, 7.0])
    alpha, beta = 0.25, 4.0
    pairs = zip(content.tolist(), style.tolist(), strict=True)
    expected = torch.tensor([alpha * c + beta * s for c, s in pairs])
    mistakes = {
        N_("alpha and beta are exchanged: alpha goes with the content"): (
            beta * content + alpha * style
        ),
        N_("the images of the batch are mixed: one number for each"): expected.sum(),
        N_("averaged over the batch: one number for each image"): expected.mean(),
        N_("this takes the ratio alpha / beta and leaves the style as it is; use both weights"): (
            alpha / beta * content + style
        ),
        N_("unscaled: multiply by alpha and beta"): content + style,
    }
    return verdict(function, (content, style, alpha, beta), expected, mistakes)


def check_weighted_style(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Return in one line whether ``function`` is the style loss of all layers (equation 5 of [1]_).

    Parameters
    ----------
    function : callable
        The layers' losses E (L, B) and weights w (L,) to the style loss (B,), sum_l w_l E_l.
    """
    losses, weights = _random(3, 2).abs(), torch.tensor([0.5, 0.25, 2.0])
    expected = torch.zeros(2)
    for layer, image in product(range(3), range(2)):
        expected[image] += weights[layer].item() * losses[layer, image].item()
    each = weights[:, None] * losses
    average = expected / weights.sum()
    mistakes = {
        N_("summed over the batch too: one number for each image"): expected.sum(),
        N_("that is one number for each layer: sum over the layers, not over the images"): (
            each.sum(1)
        ),
        N_("averaged over the layers; the weights say already how much each counts"): expected / 3,
        N_("divided by the sum of the weights: equation 5 takes them as they are"): average,
        N_("the weights are left out"): losses.sum(0),
        N_("weighted, but not summed over the layers yet"): each,
    }
    return verdict(function, (losses, weights), expected, mistakes)


def _mistakes_of_a_mean_square(difference: Tensor) -> dict[str, Tensor]:
    """Return what goes wrong in any mean of squares per image, of a difference (B, ...)."""
    squares = difference.square()
    return {
        N_("the images of the batch are mixed: one number for each, so leave dimension 0 alone"): (
            squares.mean()
        ),
        N_("summed over everything, the batch too: average within each image"): squares.sum(),
        N_("square the differences, so that too much and too little do not cancel"): (
            difference.flatten(1).mean(1)
        ),
    }


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _per_channel(numbers: tuple[float, ...]) -> Tensor:
    return torch.tensor(numbers).view(1, 3, 1, 1)


def _mean_square(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean squared difference of each image, number by number, (B,)."""
    means = []
    for a, b in zip(first, second, strict=True):
        pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
        means.append(sum((x - y) ** 2 for x, y in pairs) / a.numel())
    return torch.tensor(means)


def _gram(features: Tensor) -> Tensor:
    """Return the Gram matrices per position of (B, N, H, W), one product after the other."""
    batch, filters, height, width = features.shape
    gram = torch.zeros(batch, filters, filters)
    for b, i, j in product(range(batch), range(filters), range(filters)):
        for y, x in product(range(height), range(width)):
            gram[b, i, j] += (features[b, i, y, x] * features[b, j, y, x]) / (height * width)
    return gram
