"""The figure of notebook 03: content against style loss, with a picture at each point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from nst_helpers import _validate
from nst_helpers.plots import COLOURS, show_images

__all__ = ["draw_trade_off"]


def draw_trade_off(
    images: Sequence[torch.Tensor],
    content: Sequence[float],
    style: Sequence[float],
    titles: Sequence[str],
) -> Figure:
    """Draw a curve of style loss against content loss, and above it a row of the pictures.

    A line joins each picture to its point; pictures are in the order of their content loss, so that
    no two lines cross.

    Parameters
    ----------
    images : sequence of torch.Tensor
        (1, 3, H, W) each.
    content, style : sequence of float
        Their losses, above 0.
    titles : sequence of str
        One for each picture.

    Returns
    -------
    matplotlib.figure.Figure
    """
    count = len(_validate.listed("images", images, "a list of images"))
    if not count:
        raise _validate.wrong("images", "a list of one image or more", images)
    lists: tuple[tuple[str, Any], ...] = (
        ("content", content),
        ("style", style),
        ("titles", titles),
    )
    for name, values in lists:
        if len(_validate.listed(name, values, what := f"a list of {count}")) != count:
            raise _validate.wrong(name, what, values)
    order = sorted(range(count), key=lambda i: content[i])
    x, y = [content[i] for i in order], [style[i] for i in order]
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 2.2)).ravel()
    cards = list(upper.subplots(1, count, squeeze=False).ravel())
    show_images([images[i] for i in order], [titles[i] for i in order], axes=cards)
    ax = lower.subplots()
    ax.loglog(x, y, "o-", color="black")
    ax.margins(x=0.08, y=0.12)
    ax.set_xlabel("content loss: what is missing of the photograph", color=COLOURS["content"])
    ax.set_ylabel("style loss", color=COLOURS["style"])
    ax.grid(alpha=0.3)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_minor_locator(NullLocator())
    for card, point in zip(cards, zip(x, y, strict=True), strict=True):
        ends: dict[str, Any] = {"xyA": (0.5, 0), "coordsA": card.transAxes}
        line = ConnectionPatch(**ends, xyB=point, coordsB=ax.transData, color="0.6", linewidth=1)
        figure.add_artist(line)
    return figure
