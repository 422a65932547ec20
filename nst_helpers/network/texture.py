"""Whether a picture is a texture to a network: its Gram matrices, and what they cannot hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import torch

from nst_helpers import _validate
from nst_helpers.engine.sums import sum_of_products
from nst_helpers.images import noise_like
from nst_helpers.network.features import Features, block_of, map_size

__all__ = ["warn_of_no_texture"]

POSITIONS = 16  # of a layer's maps: a Gram matrix of fewer is a handful of responses, no texture
PLAIN = 0.01  # standard deviation of each colour: below it a picture is of one colour
SHARE = 0.5  # of the style loss of white noise
DEEP = 4  # the first block whose filters see objects rather than colours


def warn_of_no_texture(
    net: Features,
    contents: Sequence[torch.Tensor],
    styles: Sequence[torch.Tensor],
    grams: Mapping[str, torch.Tensor],
    weights: Mapping[str, float],
) -> None:
    """Warn of pictures that are too small for the style layers, and of a style of one colour.

    To VGG-19 a plain picture and white noise differ most in the shallow layers, which see colour.
    A network whose deep layers respond to noise far more than to pictures fights that response
    instead, and paints saturated patches.

    Parameters
    ----------
    net : Features
    contents, styles : sequence of torch.Tensor
        (B, 3, H, W) each.
    grams : mapping of str to torch.Tensor
        The styles' Gram matrices per position, (B, N, N), of each style layer.
    weights : mapping of str to float
        Of each layer.
    """
    for name, pictures in (("a style", styles), ("the content", contents)):
        for picture in pictures if grams else ():
            _warn_of_small_picture(name, picture.shape, grams)
    if len(styles) == 1 and len(grams) > 1:
        _warn_of_plain_style(net, styles[0], grams, weights)


def _warn_of_small_picture(name: str, shape: Sequence[int], layers: Iterable[str]) -> None:
    height, width = sides = tuple(shape)[2:]
    deepest = min(layers, key=lambda layer: math.prod(map_size(layer, shape)))

    def positions(side: int) -> int:
        scaled = (round(x * side / min(sides)) for x in sides)
        return math.prod(map_size(deepest, (1, 3, *scaled)))

    if positions(min(sides)) < POSITIONS:
        rows, columns = map_size(deepest, shape)
        enough = next(x for x in itertools.count(min(sides)) if positions(x) >= POSITIONS)
        _validate.warn(
            f"{name} has only {columns} x {rows} positions at {deepest}, being {width} x {height} "
            f"pixels, and fewer than {POSITIONS} are no texture: make its shorter side {enough} "
            f"pixels at least, or leave {deepest} out of style_layers"
        )


@torch.no_grad()
def _warn_of_plain_style(
    net: Features,
    style: torch.Tensor,
    grams: Mapping[str, torch.Tensor],
    weights: Mapping[str, float],
) -> None:
    if style.std((0, 2, 3), correction=0).max() > PLAIN:
        return
    losses = {}
    for layer, maps in net.activations(noise_like(style[:1]).to(net.device), grams):
        gram = sum_of_products(maps) / math.prod(maps.shape[2:])
        losses[layer] = weights[layer] * (gram - grams[layer]).square().mean().item()
    loudest = max(losses, key=lambda layer: losses[layer])
    share = losses[loudest] / max(sum(losses.values()), 1e-30)
    if share > SHARE and block_of(loudest) >= DEEP:
        _validate.warn(
            f"the style is of one colour, and {share:.0%} of its loss for white noise is that of "
            f"{loudest}, which does not see colour: the picture may be patches of other colours; "
            f"leave {loudest} out of style_layers"
        )
