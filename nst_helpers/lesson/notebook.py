"""Settings of a notebook: how much work it does, and in which format it keeps its figures."""

from __future__ import annotations

import os

import matplotlib
from IPython import get_ipython

from nst_helpers._validate import one_of

__all__ = ["budget", "figures_as_jpeg"]


def budget(full: int, quick: int) -> int:
    """Return ``full``, or ``quick`` if the environment variable ``NST_BUDGET`` is "quick".

    For the sizes and steps of the notebooks: people get good pictures, tests execute every cell in
    seconds.

    Parameters
    ----------
    full, quick : int
        Pixels or steps.

    Returns
    -------
    int
        One of the two.

    Raises
    ------
    ValueError
        If ``NST_BUDGET`` is set to anything but "full" or "quick".
    """
    choice = one_of("NST_BUDGET", os.environ.get("NST_BUDGET", "full"), ("full", "quick"))
    return quick if choice == "quick" else full


def figures_as_jpeg(quality: int = 85, dpi: int = 100) -> None:
    """Store a notebook's figures as JPEG, which is much smaller than PNG; elsewhere, do nothing.

    Parameters
    ----------
    quality : int
        Of the JPEG, 1 to 95.
    dpi : int
        Pixels per inch of a figure.
    """
    if get_ipython() is None:
        return
    # Imported late, because importing it already makes matplotlib choose a backend.
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("jpeg", pil_kwargs={"quality": quality})
    matplotlib.rcParams["figure.dpi"] = dpi
