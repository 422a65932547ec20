"""A figure as PNG, for lines, letters and matrices, which JPEG would blur."""

from __future__ import annotations

import io

from IPython.display import Image
from matplotlib.figure import Figure

__all__ = ["as_png"]


def as_png(figure: Figure, dpi: int = 144) -> Image:
    """Return a figure as a PNG picture: the last line of a cell shows it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Made without pyplot, which would show it a second time.
    dpi : int
        Pixels per inch.

    Returns
    -------
    IPython.display.Image
    """
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return Image(file.getvalue(), format="png")
