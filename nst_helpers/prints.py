"""What a large print takes: how it is held in memory, how much of it, and how long."""

from __future__ import annotations

import copy
import statistics
import warnings
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from nst_helpers.engine.memory import available_memory, estimate_memory, memory_in_use
from nst_helpers.engine.sizes import Sizes
from nst_helpers.images import resize_image
from nst_helpers.losses import Memory, StyleTransferLoss
from nst_helpers.optimization import optimize

__all__ = ["PAIRS", "Needs", "estimate_needs"]

PAIRS = 4  # of curvature, for ``optimize``: at this size they take more memory than the network
MOST_MEMORY = 3 * 2**30  # or half of what is free: "low" beyond that
MEASURED = 1.0  # seconds of steps to estimate from, and at least three steps


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
    if sizes.pyramid:  # malloc may keep what the size before took
        smaller = resize_image(start, sizes.pyramid[-1] / full).shape
        needed += estimate_memory(loss, smaller, **names) - loss.memory_needed(smaller)
    return Needs(loss.memory, memory_in_use(device) + needed, seconds * steps)


def _seconds_of_a_step(
    loss: StyleTransferLoss, start: torch.Tensor, scale: float, options: dict[str, Any]
) -> float:
    """Return how long a step takes at the size where it begins."""
    small = resize_image(start, scale).clamp(0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself will say so
        result = optimize(
            loss.resized(scale),
            small,
            callback=lambda progress: progress.step < 3 or progress.seconds < MEASURED,
            **options,
        )
    if result.stopped == "interrupted":
        raise KeyboardInterrupt
    seconds = [entry["seconds"] for entry in result.history]
    # The first one sets things up, and may be the only one.
    return statistics.median([b - a for a, b in pairwise(seconds)] or seconds)
