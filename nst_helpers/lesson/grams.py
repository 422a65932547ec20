"""Figures of notebook 02: pairs of filters, and what shuffling does to a Gram matrix."""

from __future__ import annotations

from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nst_helpers import _validate
from nst_helpers.layer_losses import gram_matrix
from nst_helpers.plots import show_matrix

__all__ = ["Pairs", "contrasting_pairs", "draw_pairs", "draw_shuffled"]

PART = 64  # of a map's positions in each direction are drawn, so that each can be seen
BRIGHTEST = 0.99  # the quantile of a map that is shown as bright as can be


class Pairs(NamedTuple):
    """A filter, the one that fires together with it, and the one that never does."""

    filter: int
    together: int
    apart: int


def contrasting_pairs(gram: torch.Tensor) -> Pairs:
    """Return the filter whose partners differ most in how often they fire together with it.

    Parameters
    ----------
    gram : torch.Tensor
        (N, N), of feature maps that are 0 or more.

    Returns
    -------
    Pairs
        Numbers of filters. Compared is G_ij / sqrt(G_ii G_jj): 1 where two maps are proportional,
        0 where no position has both.
    """
    gram = _validate.tensor("gram", gram, "a Gram matrix (N, N)", "NN").detach().float()
    if gram.shape[0] != gram.shape[1] or gram.shape[0] < 3:
        raise _validate.wrong("gram", "a Gram matrix (N, N) of three filters or more", gram)
    norms = gram.diagonal().clamp(min=1e-12).sqrt()
    cosines = gram / torch.outer(norms, norms)
    itself = torch.eye(len(gram), dtype=torch.bool, device=gram.device)
    highest, together = cosines.masked_fill(itself, -torch.inf).max(1)
    lowest, apart = cosines.masked_fill(itself, torch.inf).min(1)
    best = int((highest - lowest).argmax())
    return Pairs(best, int(together[best]), int(apart[best]))


def draw_pairs(maps: torch.Tensor, pairs: Pairs) -> Figure:
    """Draw a corner of two pairs of filters' maps, and of their product, whose average is G_ij.

    Parameters
    ----------
    maps : torch.Tensor
        (1, N, H, W).
    pairs : Pairs
        As ``contrasting_pairs`` returns it.

    Returns
    -------
    matplotlib.figure.Figure
    """
    maps = _validate.tensor("maps", maps, _validate.MAPS, "BNHW").detach().float()[0]
    figure = Figure(figsize=(8, 5.7), layout="constrained")
    first = maps[pairs.filter]
    products = [first * maps[other] for other in (pairs.together, pairs.apart)]
    limit = _brightest(products[0])  # the same for both, so that they can be compared
    others = (pairs.together, pairs.apart)
    for axes, other, product in zip(figure.subplots(2, 3), others, products, strict=True):
        _show_map(axes[0], first, f"filter {pairs.filter}")
        _show_map(axes[1], maps[other], f"filter {other}")
        entry = f"$G_{{{pairs.filter},{other}}}$ = {product.mean():.2f}"
        show_matrix(product[:PART, :PART], f"product: {entry}", limit=limit, ax=axes[2])
    return figure


def draw_shuffled(
    before: torch.Tensor, after: torch.Tensor, number: int, titles: tuple[str, str]
) -> Figure:
    """Draw one map of two sets of feature maps, and both Gram matrices on one scale.

    Parameters
    ----------
    before, after : torch.Tensor
        (1, N, H, W) each.
    number : int
        Of the filter whose map is shown.
    titles : tuple of str
        Of the two.

    Returns
    -------
    matplotlib.figure.Figure
        The matrices are shown as square roots, so that small entries can be seen.
    """
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    grams = [gram_matrix(maps)[0].sqrt() for maps in (before, after)]
    limit = max(gram.max().item() for gram in grams)
    for row, maps, gram, title in zip(axes, (before, after), grams, titles, strict=True):
        _show_map(row[0], maps.detach().float()[0, number], f"{title}: filter {number}")
        show_matrix(gram, "its Gram matrix (square roots)", limit=limit, ax=row[1])
        row[1].set(xlabel="filter j", ylabel="filter i")
        # As high as its matrix.
        figure.colorbar(row[1].images[0], ax=row[1], pad=0.04, fraction=0.046)
    return figure


def _show_map(ax: Axes, values: torch.Tensor, title: str) -> None:
    show_matrix(values[:PART, :PART], title, limit=_brightest(values), ax=ax)


def _brightest(values: torch.Tensor) -> float:
    """Return what is shown as bright as can be; a map of nothing but 0 is dark."""
    return values.flatten().quantile(BRIGHTEST).item() or values.max().item() or 1.0
