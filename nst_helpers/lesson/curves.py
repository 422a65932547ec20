"""The figure of several runs' losses, in colours that mean neither content nor style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure

from nst_helpers import _validate
from nst_helpers.plots import FONT, TITLE, show_images

__all__ = ["draw_losses"]

# Okabe & Ito's, but for the two of content and style.
PALETTE = ("#CC79A7", "#000000", "#009E73", "#E69F00", "#56B4E9")


def draw_losses(
    losses: Mapping[str, Sequence[float]],
    *,
    ylabel: str = "content loss",
    images: Sequence[torch.Tensor] = (),
    titles: Sequence[str] = (),
) -> Figure:
    """Return a figure of losses against steps, on a logarithmic axis, and images beside it.

    Parameters
    ----------
    losses : mapping of str to sequence of float
        Name of a run to its losses, above 0. A curve that climbs to a hundred times the largest
        first loss leaves the figure.
    ylabel : str
    images : sequence of torch.Tensor
        (1, 3, H, W) each, on the left of the curves.
    titles : sequence of str
        One for each image.

    Returns
    -------
    matplotlib.figure.Figure
    """
    what = "names of runs, and the losses of each"
    runs = dict(_validate.instance("losses", losses, Mapping, what))
    if not 0 < len(runs) <= len(PALETTE) or not all(map(len, runs.values())):
        raise _validate.wrong("losses", f"{what}, 1 to {len(PALETTE)} of them", losses)
    widths = [3.4 * image.shape[-1] / image.shape[-2] / 1.3 for image in images]
    figure = Figure(figsize=(sum(widths) + 5.6, 3.4), layout="constrained")
    *pictures, ax = figure.subplots(1, len(images) + 1, squeeze=False, width_ratios=[*widths, 5])[0]
    if images:
        show_images(images, list(titles) or None, axes=pictures)
    for (name, values), colour in zip(runs.items(), PALETTE, strict=False):
        steps = range(1, len(values) + 1)
        ax.semilogy(steps, values, color=colour, label=name, linewidth=2)
    ax.set_ylim(top=100 * max(values[0] for values in runs.values()))
    ax.set_xlabel("step", fontsize=TITLE)
    ax.set_ylabel(ylabel, fontsize=TITLE)
    ax.tick_params(labelsize=FONT)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=TITLE)
    return figure
