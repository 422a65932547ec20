"""A figure as PNG, for lines, letters and matrices, which JPEG would blur."""

from __future__ import annotations

import io

from IPython.display import Image
from matplotlib.figure import Figure

from nst_helpers.images import to_pil
from nst_helpers.plots import figure_to_image

__all__ = ["as_png"]


def as_png(figure: Figure, dpi: int = 144, colours: int | None = None) -> Image:
    """Return a figure as a PNG picture: the last line of a cell shows it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Made without pyplot, which would show it a second time.
    dpi : int
        Pixels per inch.
    colours : int, optional
        At most so many, 2 to 256, which halves the file: for matrices, which have few.

    Returns
    -------
    IPython.display.Image
    """
    file = io.BytesIO()
    if colours is None:
        figure.savefig(file, format="png", dpi=dpi)
    else:
        dpi_before = figure.dpi
        figure.set_dpi(dpi)
        # k-means, for the median cut alone gives the paper's white and letters most of the palette.
        picture = to_pil(figure_to_image(figure)).quantize(colours, kmeans=3)
        picture.save(file, "png", optimize=True)
        figure.set_dpi(dpi_before)
    return Image(file.getvalue(), format="png")
