"""What a network holds for the backward pass, and how it does with less: strip by strip."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping

import torch
from torch.utils.checkpoint import checkpoint

from nst_helpers.engine.sums import guided_products, sum_of_products, sum_of_squares
from nst_helpers.network.features import Features, stride

__all__ = ["reduce_in_strips", "sums_in_strips", "values_per_pixel"]

STRIP_HEIGHT = 64  # rows of a block's input

Sums = tuple[torch.Tensor, ...]
Reduction = Callable[[str, torch.Tensor, slice], Sums]


def values_per_pixel(net: Features, layers: Iterable[str]) -> dict[str, float]:
    """Return how many activations per pixel are held for the backward pass from ``layers``.

    Parameters
    ----------
    net : Features
    layers : iterable of str

    Returns
    -------
    dict of str to float
        For each rectification and pool that is computed: N / stride^2.
    """
    values, channels = {}, 3
    for layer in itertools.chain.from_iterable(net.blocks(set(layers))):
        if layer.startswith("conv"):
            channels = net.convolution(layer).out_channels
        else:
            values[layer] = channels / stride(layer) ** 2
    return values


def sums_in_strips(
    net: Features,
    images: torch.Tensor,
    targets: Mapping[str, torch.Tensor],
    layers: Iterable[str],
    masks: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return what content and style losses are made of, strip by strip.

    Parameters
    ----------
    net : Features
    images : torch.Tensor
        (B, 3, H, W).
    targets : mapping of str to torch.Tensor
        The content layers' target maps, (B or 1, N, H', W').
    layers : iterable of str
        The style layers.
    masks : mapping of str to torch.Tensor
        Of style layers with regions, (B or 1, R, H', W').

    Returns
    -------
    squares : dict of str to torch.Tensor
        For each content layer ``sum_of_squares``, (B,).
    products : dict of str to torch.Tensor
        For each style layer ``sum_of_products``, (B, N, N), or ``guided_products``, (B, R, N, N).
    """
    style_layers = tuple(layers)

    def reduction(layer: str, maps: torch.Tensor, rows: slice) -> Sums:
        squares = products = maps.new_zeros((), dtype=torch.float32)
        if layer in targets:
            squares = sum_of_squares(maps, targets[layer][:, :, rows])
        if layer in masks:
            products = guided_products(maps, masks[layer][:, :, rows])
        elif layer in style_layers:
            products = sum_of_products(maps)
        return squares, products

    sums = reduce_in_strips(net, images, {*targets, *style_layers}, reduction)
    squares = {layer: sums[layer][0] for layer in targets}
    return squares, {layer: sums[layer][1] for layer in style_layers}


def reduce_in_strips(
    net: Features, images: torch.Tensor, layers: Iterable[str], reduction: Reduction
) -> dict[str, Sums]:
    """Return sums over the named layers' maps, such as Gram matrices, strip by strip.

    Each block is computed in strips of 64 rows (and the margins that its receptive field needs),
    and recomputed in the backward pass (checkpointing): half as much arithmetic again, and only
    what goes from block to block is held.

    Parameters
    ----------
    net : Features
    images, layers
        As for ``Features.forward``.
    reduction : callable
        Called with a layer's name, the maps of a strip (B, N, rows, W') as ``activations`` yields
        them, and which rows they are. Returns a tuple of tensors.

    Returns
    -------
    dict of str to tuple of torch.Tensor
        Each layer's tuples, added up over the strips.
    """
    named = set(layers)
    net.validate(named, images.shape)
    x, sums = net.normalised(images), dict[str, Sums]()
    for block in net.blocks(named):
        block_input, parts = x, []
        for rows in _strips(x.shape[2]):
            part, strip_sums = checkpoint(
                *(_strip, net, block, block_input, named, reduction, rows),
                use_reentrant=False,
                preserve_rng_state=False,
            )
            parts.append(part)
            for layer, values in strip_sums.items():
                sums[layer] = _added(sums.get(layer), values)
        x = torch.cat(parts, 2)
    return sums


def _strip(
    net: Features,
    block: list[str],
    x: torch.Tensor,
    named: set[str],
    reduction: Reduction,
    rows: slice,
) -> tuple[torch.Tensor, dict[str, Sums]]:
    """Return a block's output, and its layers' sums, for these rows of its input."""
    # Each 3 x 3 convolution reaches one row further; rows without neighbours are cut off again.
    margin = sum(layer.startswith("conv") for layer in block)
    top = max(0, rows.start - margin)
    x = _rows(x, slice(top, min(x.shape[2], rows.stop + margin)))
    inner, sums = slice(rows.start - top, rows.stop - top), {}
    for layer in block:
        if layer.startswith("pool"):
            x = net.compute(layer, _rows(x, inner), named)
            inner = slice(0, x.shape[2])
            rows = slice(rows.start // 2, rows.start // 2 + x.shape[2])
        else:
            x = net.compute(layer, x, named)
        if layer in named:
            sums[layer] = reduction(layer, _rows(x, inner), rows)
    return _rows(x, inner), sums


def _added(before: Sums | None, values: Sums) -> Sums:
    return values if before is None else tuple(a + b for a, b in zip(before, values, strict=True))


def _strips(height: int) -> list[slice]:
    """Return rows 0 to ``height`` in strips, the last one with what is left."""
    starts = [STRIP_HEIGHT * i for i in range(max(1, height // STRIP_HEIGHT))]
    return [slice(a, b) for a, b in itertools.pairwise([*starts, height])]


def _rows(x: torch.Tensor, rows: slice) -> torch.Tensor:
    # All rows are left as they are: a slice would cost a copy in the backward pass.
    return x if (rows.start, rows.stop) == (0, x.shape[2]) else x[:, :, rows]
