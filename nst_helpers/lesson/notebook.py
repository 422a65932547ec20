"""How much work a notebook does: all of it, or, where only whether it runs matters, little."""

from __future__ import annotations

import os

__all__ = ["budget"]


def budget(full: int, quick: int) -> int:
    """Return ``full``, or ``quick`` where the environment says ``NST_BUDGET=quick``.

    For sizes and steps of the notebooks: tests execute every cell in seconds, people get pictures.

    Parameters
    ----------
    full, quick : int
        Pixels or steps.
    """
    choice = os.environ.get("NST_BUDGET", "full")
    if choice not in ("full", "quick"):
        raise ValueError(f"NST_BUDGET must be 'full' or 'quick'; got {choice!r}")
    return quick if choice == "quick" else full
