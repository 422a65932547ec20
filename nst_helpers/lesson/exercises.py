"""The walkthrough's exercises, checked against slow loops.

A check takes the function that you wrote, tries it on tensors so small that plain Python loops can
say what is right, and returns one line for people: it starts with "Right", "Not yet" or "Not tried
yet", and never raises. Wrong answers that are easily given have a hint of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

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


def check_im_convert(function: Callable[[torch.Tensor], torch.Tensor]) -> str:
    """Say whether ``function`` undoes the normalisation, and clips.

    Parameters
    ----------
    function : callable
        Normalised image (1, 3, H, W) to image (1, 3, H, W) in [0, 1]: times ImageNet's standard
        deviation, plus its mean, then clipped.

    Returns
    -------
    str
        One line: "Right: ...", "Not yet: ..." or "Not tried yet: ...".
    """
    values = 3 * _small(1, 3, 2, 4)
    right = torch.empty(values.shape)
    for c in range(3):
        for y in range(2):
            for x in range(4):
                value = values[0, c, y, x].item() * IMAGENET_STD[c] + IMAGENET_MEAN[c]
                right[0, c, y, x] = min(max(value, 0), 1)
    mean, std = (
        torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (IMAGENET_MEAN, IMAGENET_STD)
    )
    wrong = {
        "clip to [0, 1] at the end: no screen shows less than black or more than white": (
            values * std + mean
        ),
        "the order: normalising subtracted the mean and then divided, so first multiply": (
            ((values + mean) * std).clamp(0, 1)
        ),
        "this normalises a second time; multiply by STD and add MEAN to go back": (
            ((values - mean) / std).clamp(0, 1)
        ),
        "the values were divided by STD as well: multiply by it": (values + mean).clamp(0, 1),
    }
    return _verdict(function, (values,), right, wrong)


def check_content_loss(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> str:
    """Say whether ``function`` is the content loss, one number for each image.

    Parameters
    ----------
    function : callable
        Feature maps F and P, (B, N, H, W) each, to the mean of (F - P)^2 of each image, (B,).

    Returns
    -------
    str
        One line: "Right: ...", "Not yet: ..." or "Not tried yet: ...".
    """
    features, target = _small(2, 3, 2, 4, seed=1), _small(2, 3, 2, 4, seed=2)
    right = torch.tensor([_slow_mean_square(f, p) for f, p in zip(features, target, strict=True)])
    difference = features - target
    squares = difference.square()
    wrong = {
        "the images of the batch are mixed: one number for each, so leave dimension 0 alone": (
            squares.mean()
        ),
        "summed instead of averaged: divide by N * H * W, or use mean": squares.sum((1, 2, 3)),
        "summed over everything, the batch too: average within each image": squares.sum(),
        "the paper's equation 1 is half a sum; here we average, so that size does not matter": (
            squares.sum((1, 2, 3)) / 2
        ),
        "square the differences, so that too much and too little do not cancel": (
            difference.mean((1, 2, 3))
        ),
        "square the differences rather than take their absolute value": (
            difference.abs().mean((1, 2, 3))
        ),
        "averaged over the filters only: over positions too": squares.mean(1),
        "this is the square root of it; leave the root out": squares.mean((1, 2, 3)).sqrt(),
    }
    return _verdict(function, (features, target), right, wrong)


def check_gram_matrix(function: Callable[[torch.Tensor], torch.Tensor]) -> str:
    """Say whether ``function`` is the Gram matrix per position, one for each image.

    Parameters
    ----------
    function : callable
        Feature maps (B, N, H, W) to (B, N, N): G_ij = sum_k F_ik F_jk / M, with M = H W.

    Returns
    -------
    str
        One line: "Right: ...", "Not yet: ..." or "Not tried yet: ...".
    """
    features = _small(2, 3, 2, 4, seed=3)
    right = torch.tensor([_slow_gram(image) for image in features])
    unrolled = features.flatten(2)
    batch, filters, positions = unrolled.shape
    summed = unrolled @ unrolled.mT
    mixed = unrolled.reshape(batch * filters, positions)
    centred = unrolled - unrolled.mean(2, keepdim=True)
    wrong = {
        "unscaled: divide by the number of positions M = H * W": summed,
        "transposed: this compares positions (M x M); G compares filters (N x N), F times F^T": (
            unrolled.mT @ unrolled / positions
        ),
        "transposed: this compares positions (M x M), and is unscaled: F times F^T, divided by M": (
            unrolled.mT @ unrolled
        ),
        "the images of the batch are mixed: one N x N matrix for each, so keep dimension 0": (
            mixed @ mixed.T / positions
        ),
        "the images of the batch are mixed, and the numbers are unscaled": mixed @ mixed.T,
        "summed over the batch: one matrix for each image": (summed / positions).sum(0),
        "averaged over the batch: one matrix for each image": (summed / positions).mean(0),
        "divided by too much: by the positions M = H * W only, not by the filters": (
            summed / (filters * positions)
        ),
        "the mean was subtracted: that is the covariance; the Gram matrix keeps the mean": (
            centred @ centred.mT / positions
        ),
    }
    return _verdict(function, (features,), right, wrong)


def check_keep_colours(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> str:
    """Say whether ``function`` gives the content image the luminance of the result.

    Parameters
    ----------
    function : callable
        Result and content image, (B, 3, H, W) each, to the picture (B, 3, H, W) whose luminance
        0.299 R + 0.587 G + 0.114 B is the result's and whose colour differences are the content's.

    Returns
    -------
    str
        One line: "Right: ...", "Not yet: ..." or "Not tried yet: ...".
    """
    result, content = _small(2, 3, 2, 4, seed=6), _small(2, 3, 2, 4, seed=7)
    shares = (0.299, 0.587, 0.114)
    right = content.clone()
    for b, y, x in ((b, y, x) for b in range(2) for y in range(2) for x in range(4)):
        pairs = zip(result[b, :, y, x].tolist(), content[b, :, y, x].tolist(), strict=True)
        grey = sum(w * (r - c) for w, (r, c) in zip(shares, pairs, strict=True))
        for channel in range(3):
            right[b, channel, y, x] += grey
    weights = torch.tensor(shares).view(1, 3, 1, 1)
    light, old = ((weights * image).sum(1, keepdim=True) for image in (result, content))
    wrong = {
        "exchanged: this keeps the result's colours and takes the content's luminance": (
            result + old - light
        ),
        "subtract the content's own luminance first, or it counts twice": content + light,
        "that is the luminance alone, a grey picture: add the content's colours": (
            light.expand_as(result)
        ),
        "the wrong sign: add the result's luminance and subtract the content's": (
            content - light + old
        ),
        "the mean of R, G and B is not the luminance: green weighs most": (
            content + (result - content).mean(1, keepdim=True)
        ),
        "the channels were weighted, but not added up": content + weights * (result - content),
    }
    return _verdict(function, (result, content), right, wrong)


def check_ratio_from_paper(
    function: Callable[[torch.Tensor, int, int], torch.Tensor],
) -> str:
    """Say whether ``function`` converts alpha/beta from the paper's convention to the normalised.

    Parameters
    ----------
    function : callable
        Ratios alpha/beta (B,) in the paper's convention, the content layer's number of filters N
        and of positions M, to the ratios (B,) that ask for the same picture with means.

    Returns
    -------
    str
        One line: "Right: ...", "Not yet: ..." or "Not tried yet: ...".
    """
    ratios, filters, positions = torch.tensor([1e-3, 0.5]), 3, 8
    one = torch.ones(filters * positions).tolist()  # features that are all wrong by 1
    content = sum(square / 2 for square in one) / (sum(one) / len(one))
    style = sum(positions**2 for _ in range(filters**2)) / (4 * filters**2 * positions**2)
    slow = torch.tensor([ratio * content / style for ratio in ratios.tolist()])
    values = filters * positions
    wrong = {
        "the wrong way round: this goes from the normalised convention to the paper's": (
            ratios / (2 * values)
        ),
        "the style loss has a constant too: the paper's is a quarter of the normalised one": (
            ratios * values / 2
        ),
        "the content loss has a half in front of its sum": ratios * 4 * values,
        "dividing by a quarter makes it larger": ratios * values / 8,
        "a half divided by a quarter is 2": ratios * values,
        "the content loss sums over the N filters, too": ratios * 2 * positions,
        "the content loss sums over the M positions, too": ratios * 2 * filters,
        "the conventions differ, so the ratios do: how many numbers does the sum add up?": ratios,
    }
    return _verdict(function, (ratios, filters, positions), slow, wrong)


def check_style_loss(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> str:
    """Say whether ``function`` is one layer's style loss, one number for each image.

    Parameters
    ----------
    function : callable
        Feature maps of the picture (B, N, H, W) and of the style image (B, N, H', W'), of any
        size, to the mean of (G - A)^2 of each image, (B,).

    Returns
    -------
    str
        One line: "Right: ...", "Not yet: ..." or "Not tried yet: ...".
    """
    features, target = _small(2, 3, 2, 4, seed=4), _small(2, 3, 3, 5, seed=5)
    slow = [(_slow_gram(f), _slow_gram(p)) for f, p in zip(features, target, strict=True)]
    right = torch.tensor([_slow_mean_square(torch.tensor(g), torch.tensor(a)) for g, a in slow])
    sums = [maps.flatten(2) @ maps.flatten(2).mT for maps in (features, target)]
    squares = (sums[0] / 8 - sums[1] / 15).square()
    wrong = {
        "the images of the batch are mixed: one number for each, so leave dimension 0 alone": (
            squares.mean()
        ),
        "summed instead of averaged: use the mean over the N x N entries": squares.sum((1, 2)),
        "summed over everything, the batch too: average within each image": squares.sum(),
        "unscaled: divide each Gram matrix by its own number of positions": (
            (sums[0] - sums[1]).square().mean((1, 2))
        ),
        "the two pictures differ in size: divide each Gram matrix by its own H * W": (
            (sums[0] / 8 - sums[1] / 8).square().mean((1, 2))
        ),
        "square the differences, so that too much and too little do not cancel": (
            (sums[0] / 8 - sums[1] / 15).mean((1, 2))
        ),
        "the paper's equation 4 has another quarter; here it is left out": (
            squares.mean((1, 2)) / 4
        ),
    }
    return _verdict(function, (features, target), right, wrong)


def check_total_loss(
    function: Callable[[torch.Tensor, torch.Tensor, float, float], torch.Tensor],
) -> str:
    """Say whether ``function`` is alpha content + beta style (Gatys et al. 2016, equation 7).

    Parameters
    ----------
    function : callable
        Content loss (B,), style loss (B,), alpha and beta to the total (B,).

    Returns
    -------
    str
        One line: "Right: ...", "Not yet: ..." or "Not tried yet: ...".
    """
    content, style = torch.tensor([2.0, 3.0]), torch.tensor([5.0, 7.0])
    alpha, beta = 0.25, 4.0
    slow = [alpha * c + beta * s for c, s in zip(content.tolist(), style.tolist(), strict=True)]
    wrong = {
        "alpha and beta are exchanged: alpha goes with the content": beta * content + alpha * style,
        "the images of the batch are mixed: one number for each": torch.tensor(sum(slow)),
        "averaged over the batch: one number for each image": torch.tensor(sum(slow) / 2),
        "this takes the ratio alpha / beta and leaves the style as it is; use both weights": (
            alpha / beta * content + style
        ),
        "unscaled: multiply by alpha and beta": content + style,
    }
    return _verdict(function, (content, style, alpha, beta), torch.tensor(slow), wrong)


def check_weighted_style(
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> str:
    """Say whether ``function`` is the style loss of all layers (Gatys et al. 2016, equation 5).

    Parameters
    ----------
    function : callable
        The layers' losses E (L, B) and weights w (L,) to the style loss (B,), sum_l w_l E_l.

    Returns
    -------
    str
        One line: "Right: ...", "Not yet: ..." or "Not tried yet: ...".
    """
    losses, weights = _small(3, 2).abs(), torch.tensor([0.5, 0.25, 2.0])
    right = torch.zeros(2)
    for layer in range(3):
        for picture in range(2):
            right[picture] += weights[layer].item() * losses[layer, picture].item()
    each = weights[:, None] * losses
    wrong = {
        "summed over the batch too: one number for each picture": right.sum(),
        "that is one number for each layer: sum over the layers, not over the pictures": each.sum(
            1
        ),
        "averaged over the layers; the weights say already how much each counts": right / 3,
        "divided by the sum of the weights: equation 5 takes them as they are": (
            right / weights.sum()
        ),
        "the weights are left out": losses.sum(0),
        "weighted, but not summed over the layers yet": each,
    }
    return _verdict(function, (losses, weights), right, wrong)


def _verdict(
    function: Callable, arguments: tuple, right: torch.Tensor, wrong: Mapping[str, torch.Tensor]
) -> str:
    """Return the line for people; ``wrong`` maps a hint to the answer that deserves it."""
    name = getattr(function, "__name__", "your function")
    given = [a.clone().requires_grad_() if torch.is_tensor(a) else a for a in arguments]
    try:
        answer = function(*given)
    except NotImplementedError:
        return f"Not tried yet: write {name}, and run this cell again. Or go on without."
    except Exception as error:  # whatever a beginner's code raises is an answer, too
        return f"Not yet: {name} raises {type(error).__name__}: {error}"
    if not torch.is_tensor(answer):
        return f"Not yet: {name} must return a tensor; it returned {type(answer).__name__}"
    if _same(answer, right):
        if answer.requires_grad:
            return f"Right: {name} does the same as a slow loop over every number."
        return "Not yet: the numbers are right, but cut off from autograd: no detach, no item"
    for hint, value in wrong.items():
        if _same(answer, value):
            return f"Not yet: {hint}"
    if answer.shape != right.shape:
        return f"Not yet: expected shape {tuple(right.shape)}; got {tuple(answer.shape)}"
    off = (answer.detach() - right).abs().max().item()
    return f"Not yet: the shape is right; one of the numbers is off by {off:.3g}"


def _same(answer: torch.Tensor, value: torch.Tensor) -> bool:
    answer = answer.detach().to(value)
    return answer.shape == value.shape and torch.allclose(answer, value, rtol=1e-4, atol=1e-5)


def _small(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _slow_mean_square(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the mean squared difference, number by number."""
    pairs = list(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
    total = 0.0
    for x, y in pairs:
        total += (x - y) ** 2
    return total / len(pairs)


def _slow_gram(features: torch.Tensor) -> list[list[float]]:
    """Return the Gram matrix per position of (N, H, W), one product after the other."""
    filters = [maps.flatten().tolist() for maps in features]
    positions = len(filters[0])
    gram = [[0.0 for _ in filters] for _ in filters]
    for i, first in enumerate(filters):
        for j, second in enumerate(filters):
            for k in range(positions):
                gram[i][j] += first[k] * second[k] / positions
    return gram
