"""Large prints: through which sizes, with how many steps each, and what that takes.

Strokes are as large as the network's receptive fields, and those are a number of pixels: a large
print that is begun at its full size comes out hatched like canvas. So it is begun small, where a
receptive field holds what is typical of the painting. Each larger size starts from the one before
and has only finer strokes to add: half as many steps for each doubling, twice as long. [1]_ has it
so, too, with more steps at first and fewer at the end.

References
----------
.. [1] Galerne, Raad, Lezama & Morel 2024, "Scaling painting style transfer"
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from nst_helpers import _validate
from nst_helpers.engine.memory import available_memory, estimate_memory, memory_in_use
from nst_helpers.images import resize_image
from nst_helpers.losses import Memory, StyleTransferLoss
from nst_helpers.optimization import optimize

__all__ = ["Needs", "Sizes", "estimate_needs", "plan_sizes"]

FIRST = 256  # pixels: where to begin is at least this, and less than twice as large
STEPS = 300  # of the first size
FEWEST = 20  # of any other
PAIRS = 10  # of curvature: more would take more memory than the network
MOST_MEMORY = 3 * 2**30  # or half of what is free: "low" beyond that
MEASURED = 1.0  # seconds of steps to estimate from, and at least three steps


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


class Needs(NamedTuple):
    """What a run takes.

    Attributes
    ----------
    memory : {"normal", "low"}
        As for ``StyleTransferLoss``.
    bytes : int
        At its peak, with all that this process has already.
    seconds : float
        Of all sizes.
    """

    memory: Memory
    bytes: int
    seconds: float

    def __str__(self) -> str:
        about = f"{self.seconds:.0f} seconds"
        if self.seconds >= 90:
            about = f"{self.seconds / 60:.0f} minutes"
        return f"about {about} and {self.bytes / 2**30:.1f} GB, memory {self.memory}"


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
        pyramid = [round(size / 2**i) for i in halvings]
    sides = (*_validate.positive_ints("pyramid", pyramid, "whole numbers, shorter sides"), size)
    counts = [max(FEWEST, round(STEPS * sides[0] / side)) for side in sides]
    if steps is not None:
        rest = _validate.positive_int("steps", steps) - len(sides)  # beside one for each
        if rest < 0:
            raise ValueError(f"steps must be at least {len(sides)}, one for each size; got {steps}")
        ends = [rest * sum(counts[:i]) // sum(counts) for i in range(len(sides) + 1)]
        counts = [1 + end - start for start, end in pairwise(ends)]
    return Sizes(sides, tuple(counts))


def estimate_needs(
    loss: StyleTransferLoss,
    start: torch.Tensor,
    sizes: Sizes,
    memory: Memory | None = None,
    **options: Any,
) -> Needs:
    """Return what ``optimize`` will take, by its estimate of memory and some first steps.

    Parameters
    ----------
    loss : StyleTransferLoss
        Of the full size; left as it is.
    start : torch.Tensor
        (B, 3, H, W), at its full size.
    sizes : Sizes
    memory : {"normal", "low"}, optional
        If not given, "low" where "normal" takes more than 3 GB, or half of what is free.
    **options : dict
        For ``optimize``: "optimizer", "lr", "history_size".
    """
    loss, device = copy.copy(loss), loss.device
    loss.memory = memory or "normal"
    names = {name: options[name] for name in ("optimizer", "history_size") if name in options}
    needed = estimate_memory(loss, start.shape, **names)
    if memory is None and needed > min(MOST_MEMORY, available_memory(device) / 2):
        loss.memory = "low"
        needed = estimate_memory(loss, start.shape, **names)
    first, full = sizes.sides[0], sizes.sides[-1]
    seconds = _seconds_of_a_step(loss, start, first / full, options)
    # A step takes as long as its picture has pixels.
    steps = sum(n * (side / first) ** 2 for side, n in zip(*sizes, strict=True))
    return Needs(loss.memory, memory_in_use(device) + needed, seconds * steps)


def _seconds_of_a_step(
    loss: StyleTransferLoss, start: torch.Tensor, scale: float, options: dict[str, Any]
) -> float:
    """Return how long a step takes at the size where it begins."""
    small = resize_image(start, scale).clamp(0, 1)
    result = optimize(
        loss.resized(scale),
        small,
        callback=lambda progress: progress.step < 3 or progress.seconds < MEASURED,
        **options,
    )
    if result.stopped == "interrupted":
        raise KeyboardInterrupt
    seconds = [entry["seconds"] for entry in result.history]
    return statistics.median(b - a for a, b in pairwise(seconds))  # the first one sets things up
