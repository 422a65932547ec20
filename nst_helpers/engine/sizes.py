"""Through which sizes a large print is painted, and with how many steps each.

Strokes are as large as the network's receptive fields, and those are a number of pixels: a large
print that is begun at its full size comes out hatched like canvas. So it is begun small, where a
receptive field holds what is typical of the painting. Each larger size starts from the one before
and has only finer strokes to add: half as many steps for each doubling, which take twice as long.
[1]_ has it so, too, with more steps at first and fewer at the end.

References
----------
.. [1] Galerne, Raad, Lezama & Morel 2024, "Scaling painting style transfer"
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from nst_helpers import _validate

__all__ = ["LARGE", "STEPS", "Sizes", "plan_sizes"]

FIRST = 256  # pixels: where to begin is at least this, and less than twice as large
LARGE = 2 * FIRST  # from here on there is a smaller size to begin with
STEPS = 300  # of the first size
FEWEST = 20  # of any other


class Sizes(NamedTuple):
    """Shorter sides, smallest first and the full size last, and the steps of each."""

    sides: tuple[int, ...]
    steps: tuple[int, ...]

    @property
    def pyramid(self) -> tuple[int, ...]:
        """All but the full size, as ``optimize`` takes them."""
        return self.sides[:-1]

    def __str__(self) -> str:
        sides, steps = (" ".join(map(str, numbers)) for numbers in self)
        return f"sizes {sides}, steps {steps}"


def plan_sizes(size: int, steps: int | None = None, pyramid: Iterable[int] | None = None) -> Sizes:
    """Return through which sizes to paint a picture, and how many steps each takes.

    Parameters
    ----------
    size : int
        Shorter side of the picture.
    steps : int, optional
        In all; they are shared among the sizes.
    pyramid : iterable of int, optional
        The sizes before the full one, smallest first.

    Returns
    -------
    Sizes
        ``optimize`` takes their ``pyramid`` and ``steps``.
    """
    size = _validate.positive_int("size", size)
    if pyramid is None:
        halvings = range((size // FIRST).bit_length() - 1, 0, -1)
        pyramid = [size >> i for i in halvings]
    sides = (*_validate.positive_ints("pyramid", pyramid, "whole numbers, shorter sides"), size)
    counts = [max(FEWEST, round(STEPS * sides[0] / side)) for side in sides]
    if steps is not None:
        total, last = _validate.positive_int("steps", steps), len(sides)
        if total < last:
            raise ValueError(f"steps must be at least {last}, one for each size; got {total}")
        shares = [round(total * sum(counts[:i]) / sum(counts)) for i in range(last + 1)]
        ends = [min(end, total - last + i) for i, end in enumerate(shares)]  # one for each
        counts = [end - start for start, end in pairwise(ends)]
    return Sizes(sides, tuple(counts))
