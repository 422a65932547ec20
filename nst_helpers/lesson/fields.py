"""The figure of receptive fields: nested squares on a picture, and what each of them holds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nst_helpers import _validate
from nst_helpers.plots import TITLE, show_images

__all__ = ["draw_fields"]


def draw_fields(image: torch.Tensor, fields: Mapping[str, tuple[int, int, int, int]]) -> Figure:
    """Return a figure of one picture with the squares that units of some layers see.

    Parameters
    ----------
    image : torch.Tensor
        (1, 3, H, W).
    fields : mapping of str to (top, bottom, left, right)
        Layer to the pixels that its unit depends on; the last ones are not part of it.

    Returns
    -------
    matplotlib.figure.Figure
        On the left the picture, on the right what is in each square, as large as the others.
    """
    what = "layer to (top, bottom, left, right)"
    fields = dict(_validate.instance("fields", fields, Mapping, what))
    if not fields:
        raise _validate.wrong("fields", what, fields)
    figure = Figure(figsize=(11, 4.1), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.28, 1))[0]
    (whole,) = show_images([image], axes=[left.subplots()])
    colours = colormaps["plasma"]
    shades = [colours(0.95 - 0.75 * i / max(1, len(fields) - 1)) for i in range(len(fields))]
    zooms = list(right.subplots(2, -(-len(fields) // 2), squeeze=False).flat)
    for ax in zooms[len(fields) :]:
        ax.axis("off")
        ax.text(0.5, 0.5, "each square\nenlarged", ha="center", va="center", size=TITLE)
    for (layer, box), shade, ax in zip(fields.items(), shades, zooms, strict=False):
        top, bottom, west, east = box
        place = (west - 0.5, top - 0.5)
        whole.add_patch(
            Rectangle(place, east - west, bottom - top, fill=False, edgecolor=shade, linewidth=2.5)
        )
        show_images([image[..., top:bottom, west:east]], axes=[ax])
        ax.set_title(f"{layer}: {bottom - top} px", fontsize=TITLE)
        ax.spines[:].set(visible=True, color=shade, linewidth=3)
    whole.set_title("picture, and the squares", fontsize=TITLE)
    return figure
