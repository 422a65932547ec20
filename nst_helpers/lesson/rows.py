"""Pictures in rows, each row with its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure

from nst_helpers import _validate
from nst_helpers.plots import TITLE, show_images

__all__ = ["draw_rows"]


def draw_rows(
    rows: Mapping[str, Sequence[torch.Tensor]],
    titles: Sequence[str] = (),
    *,
    height: float = 1.6,
) -> Figure:
    """Return a figure of pictures in rows, the name of each row on its left.

    Parameters
    ----------
    rows : mapping of str to sequence of torch.Tensor
        Name to images, (1, 3, H, W) each; a row may be shorter than others.
    titles : sequence of str
        One for each column, above the first row.
    height : float
        Of a row, in inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    what = "names of rows, and the images of each"
    rows = {
        name: _validate.listed(f"rows[{name!r}]", images, "a list of images")
        for name, images in _validate.instance("rows", rows, Mapping, what).items()
    }
    columns = max(map(len, rows.values()), default=0)
    if not columns:
        raise _validate.wrong("rows", what, rows)
    longest = next(row for row in rows.values() if len(row) == columns)
    width = height * sum(image.shape[-1] / image.shape[-2] for image in longest)
    size = (width + 0.09 * max(map(len, rows)) + 0.2, (height + 0.06) * len(rows) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        show_images(images, axes=list(axes))
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=TITLE)
        for unused in axes[len(images) :]:
            unused.axis("off")
    for ax, title in zip(grid[0], titles, strict=False):
        ax.set_title(title, fontsize=TITLE)
    return figure
