"""Loss to image: gradient descent on the pixels, with callbacks, stopping and going on.

Knows nothing of networks, files or plots. ``loss`` is anything that maps an image (B, 3, H, W) to
named terms of shape (B,), ``total`` among them, and has a ``device``: ``StyleTransferLoss``, or
one of your own.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["Progress", "Result", "optimize"]

OPTIMIZERS = ("lbfgs", "adam")
FIRST_CHANGE = 0.01  # of a pixel's value in the first step of L-BFGS, on average


@dataclass
class Result:
    """What ``optimize`` returns; pass it as ``start`` to go on from there.

    Attributes
    ----------
    image : torch.Tensor
        (B, 3, H, W) in [0, 1]: the picture of the lowest loss, clipped.
    history : list of dict
        One for each step: ``step`` (from 1), ``seconds`` since the start, and the loss terms
        ``total``, ``content``, ``style``, ``tv``, each summed over the batch.
    snapshots : dict of int to torch.Tensor
        The pictures at the steps asked for, clipped.
    stopped : str
        Why it ended: "done", "interrupted", "callback", or what went wrong.
    """

    image: torch.Tensor
    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: dict[int, torch.Tensor] = field(default_factory=dict)
    stopped: str = "done"
    unclipped: torch.Tensor | None = field(default=None, repr=False)
    # The slope at the very start relative to the loss here: what range_weight goes by.
    steepness: float | None = field(default=None, repr=False)


@dataclass
class Progress:
    """What a callback gets after each step."""

    step: int
    steps: int
    terms: dict[str, float]
    seconds: float
    _pixels: torch.Tensor = field(repr=False)

    def image(self) -> torch.Tensor:
        """Return a copy of the picture as it is now, (B, 3, H, W) in [0, 1]."""
        return self._pixels.detach().clamp(0, 1).clone()


class _Stop(Exception):
    """Leaves the optimiser from within its closure."""


def optimize(
    loss: Callable[[torch.Tensor], Any],
    start: torch.Tensor | Result,
    *,
    steps: int = 300,
    optimizer: str = "lbfgs",
    lr: float | None = None,
    range_weight: float = 3.0,
    callback: Callable[[Progress], object] | None = None,
    snapshots: Iterable[int] = (),
) -> Result:
    """Change the pixels of ``start`` until ``loss`` is low.

    Parameters
    ----------
    loss : callable
        Image (B, 3, H, W) to named loss terms, such as ``StyleTransferLoss``.
    start : torch.Tensor or Result
        (B, 3, H, W) in [0, 1], left as it is; or an earlier result, to go on from there, with its
        history and numbering.
    steps : int
        How many times the loss and its gradient are evaluated. The paper's optimiser, L-BFGS,
        takes a little more than one evaluation for each update.
    optimizer : {"lbfgs", "adam"}
        L-BFGS with a strong Wolfe line search (without one it diverges from noise on badly scaled
        losses), or Adam.
    lr : float, optional
        Step length: 1 for L-BFGS, 0.02 (of the image range) for Adam.
    range_weight : float
        How hard values outside [0, 1] are pulled back: so many times as hard as ``loss`` pulls at
        an average value of the start, for one that is a whole range outside. 0 lets them go, as
        the papers do, and the result is clipped all the same: in pictures with much black or
        white that costs more than the whole rest of the loss.
    callback : callable, optional
        Called with a ``Progress`` after each step. If it returns False, the run ends there.
    snapshots : iterable of int
        Steps whose pictures to keep.

    Returns
    -------
    Result
        Ctrl-C (or the notebook's stop button) returns the result so far. If the loss is no longer
        finite, the last good picture is returned, with a warning.

    Raises
    ------
    ValueError
        If an argument makes no sense, or the loss is not finite at the very start.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a whole number, 1 or more; got {steps!r}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {optimizer!r}")
    if lr is not None and not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a number > 0; got {lr!r}")
    if not (math.isfinite(range_weight) and range_weight >= 0):
        raise ValueError(f"range_weight must be a number >= 0; got {range_weight!r}")
    image, before = _unpack(start)
    # No clamping while it runs: it would break L-BFGS's model of the curvature.
    pixels = image.detach().float().to(getattr(loss, "device", image.device), copy=True)
    pixels = pixels.contiguous().requires_grad_(True)
    run = _Run(loss, pixels, steps, before, range_weight, callback, set(snapshots))
    stopped = "done"
    try:
        if optimizer == "adam":
            adam = torch.optim.Adam([pixels], lr=lr or 0.02)
            while True:
                adam.step(run.closure)
        while run.improving():  # again with a fresh memory, should its line search be stuck
            _lbfgs(pixels, run.closure, lr or 1.0, steps)
    except _Stop as reason:
        stopped = str(reason)
    except KeyboardInterrupt:
        if run.best is None:
            raise
        stopped = "interrupted"
    return run.result(stopped, image.device)


def _lbfgs(pixels: torch.Tensor, closure: Callable, lr: float, steps: int) -> None:
    """Run L-BFGS until it finds nothing lower; the closure ends it sooner."""
    minimiser = torch.optim.LBFGS(
        [pixels],
        # Torch's first step changes each value by 1 / (number of values) on average, and a dozen
        # evaluations go by before the line search has lengthened it to something visible.
        lr=lr * FIRST_CHANGE * pixels.numel(),
        max_iter=1,
        max_eval=2 * steps,
        # The tolerances would stop it early: the losses are means, so gradients are tiny.
        tolerance_grad=0,
        tolerance_change=0,
        history_size=10,
        line_search_fn="strong_wolfe",
    )
    minimiser.step(closure)
    minimiser.param_groups[0].update(lr=lr, max_iter=steps)
    minimiser.step(closure)


class _Run:
    """The evaluations of one run: counts them, records them, keeps the best picture."""

    def __init__(
        self,
        loss: Callable,
        pixels: torch.Tensor,
        steps: int,
        before: Result | None,
        range_weight: float,
        callback: Callable | None,
        wanted: set[int],
    ) -> None:
        self.loss, self.pixels, self.steps, self.callback = loss, pixels, steps, callback
        self.range_weight, self.wanted = range_weight, wanted
        self.history = list(before.history) if before else []
        self.snapshots = dict(before.snapshots) if before else {}
        self.first = len(self.history)
        self.earlier = self.history[-1]["seconds"] if self.history else 0.0
        self.began = time.perf_counter()
        self.best: torch.Tensor | None = None
        self.lowest = math.inf
        self.lowest_before = math.inf
        self.steepness = before.steepness if before else None
        self.unit: torch.Tensor | None = None

    @property
    def evaluated(self) -> int:
        return len(self.history) - self.first

    def improving(self) -> bool:
        """Return whether the loss has fallen since the last time this was asked."""
        fallen = not self.history[self.first :] or self.lowest < self.lowest_before
        self.lowest_before = self.lowest
        return fallen

    def closure(self) -> torch.Tensor:
        if self.evaluated == self.steps:
            raise _Stop("done")
        terms = self.loss(self.pixels)
        total = terms.total.sum()
        (self.pixels.grad,) = torch.autograd.grad(total, self.pixels)
        values = {name: value.sum().item() for name, value in terms._asdict().items()}
        step = len(self.history) + 1
        if not (math.isfinite(values["total"]) and torch.isfinite(self.pixels.grad).all()):
            self._not_finite(step, values)
        seconds = self.earlier + time.perf_counter() - self.began
        self.history.append({"step": step, "seconds": seconds, **values})
        if self.unit is None:
            slope = self.pixels.grad.abs().mean().clamp(min=1e-30)
            # The minimisers get a gradient of 1 on average at first: how far they go, and whether
            # they meet some tiny constant, then does not depend on the scale of the loss.
            self.unit = 1 / slope
            if self.steepness is not None:  # going on, where the slope is small by now
                slope = self.steepness * total.detach().abs()
            self.pull = self.range_weight * slope
            self.slope = slope.item()
        # Not in the papers: a picture that is best only before it is clipped is not the best one.
        outside = self.pixels.detach() - self.pixels.detach().clamp(0, 1)
        objective = total.detach() + self.pull / 2 * outside.square().sum()
        if objective < self.lowest:
            self.best, self.lowest = self.pixels.detach().clone(), objective.item()
            self.steepness = self.slope / max(abs(values["total"]), 1e-30)
        self.pixels.grad.add_(self.pull * outside).mul_(self.unit)
        if step in self.wanted:
            self.snapshots[step] = self.pixels.detach().clamp(0, 1).cpu()
        if self.callback is not None:
            progress = Progress(step, self.first + self.steps, values, seconds, self.pixels)
            if self.callback(progress) is False:
                raise _Stop("callback")
        return objective * self.unit

    def _not_finite(self, step: int, values: dict[str, float]) -> None:
        terms = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        what = f"the loss or its gradient is not finite at step {step} ({terms})"
        if self.best is None:
            raise ValueError(f"{what}: is the start finite, and the network's weights?")
        advice = "try smaller weights, a smaller lr, or optimizer='adam'"
        warnings.warn(f"{what}; returning the last good picture. {advice}", stacklevel=2)
        raise _Stop(what)

    def result(self, stopped: str, device: torch.device) -> Result:
        unclipped = self.best.to(device)
        return Result(
            unclipped.clamp(0, 1), self.history, self.snapshots, stopped, unclipped, self.steepness
        )


def _unpack(start: torch.Tensor | Result) -> tuple[torch.Tensor, Result | None]:
    before = start if isinstance(start, Result) else None
    image = start
    if before is not None:
        image = before.image if before.unclipped is None else before.unclipped
    if not torch.is_tensor(image) or image.dim() != 4 or image.shape[1] != 3:
        shape = tuple(image.shape) if torch.is_tensor(image) else type(image).__name__
        raise ValueError(f"start must be an image (B, 3, H, W) or a Result; got {shape}")
    return image, before
