"""One level of an optimisation: what evaluates, logs and moves the image; and how it continues."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, get_args

import torch
import torch.nn.functional as F

from nst_helpers import _validate
from nst_helpers.engine.ending import DEFAULT_LR, Optimizer
from nst_helpers.engine.minimizers import Adam, Minimizer, PreconditionedLBFGS
from nst_helpers.engine.objective import Objective, StepLog

__all__ = ["Continuation", "Level", "Options", "Run", "pyramid_levels"]

FAR = 0.3  # of the image range: Adam's steps of this size end in noise, whatever the loss says
FULL_SIZE_SHARE = 0.2  # of a pyramid's steps are for the full size


class Level(NamedTuple):
    """One size of a pyramid: what is minimised there, the image's shape, and how many steps."""

    loss: Any  # an nst_helpers.optimization.Loss
    shape: tuple[int, ...]  # (B, 3, H, W)
    steps: int
    size: int | None  # what the history says of it


class Options(NamedTuple):
    """Those of ``optimize`` that a minimiser and its objective go by."""

    optimizer: Optimizer
    lr: float
    history_size: int
    precondition: float
    range_weight: float

    @classmethod
    def validated(
        cls,
        optimizer: Optimizer,
        lr: float | None,
        history_size: int,
        precondition: float,
        range_weight: float,
    ) -> Options:
        """Return them, if all are right; ``lr=None`` is the optimiser's own."""
        _validate.one_of("optimizer", optimizer, get_args(Optimizer))
        options = cls(
            optimizer,
            DEFAULT_LR[optimizer] if lr is None else _validate.positive_number("lr", lr),
            _validate.positive_int("history_size", history_size),
            _validate.number_at_least("precondition", precondition, 0),
            _validate.number_at_least("range_weight", range_weight, 0),
        )
        if optimizer == "adam" and options.lr > FAR:  # which no look at the loss finds
            _validate.warn(
                f"lr={options.lr:g} is too large and will paint noise: pixels are in 0..1, and "
                f"Adam moves them by lr in every step; its default is {DEFAULT_LR['adam']:g}"
            )
        return options


class Continuation(NamedTuple):
    """What a later run of the same loss goes on with, so that nothing is learnt twice."""

    loss: weakref.ref[Any]  # the loss as the user has it
    weights: tuple[float, ...]
    options: Options
    best: torch.Tensor  # the very tensor that the result holds
    minimizer: Minimizer
    objective: dict[str, torch.Tensor]


class Run:
    """Objective, minimiser and log of one level.

    Parameters
    ----------
    level : Level
    loss : object
        As the user has it: what tells whether a continuation is one of the same loss.
    start : torch.Tensor
        (B, 3, H, W); resized to the level's shape.
    options : Options
    log : StepLog
    relative_gradient : torch.Tensor, optional
        Of an earlier run that ended at ``start``: see ``Objective``.
    continuation : Continuation, optional
        Of that run; used if it fits.
    """

    def __init__(
        self,
        level: Level,
        loss: object,
        start: torch.Tensor,
        options: Options,
        log: StepLog,
        relative_gradient: torch.Tensor | None = None,
        continuation: Continuation | None = None,
    ) -> None:
        self.level, self.loss, self.options, self.log = level, loss, options, log
        self.weights, self.restarted_at = level.loss.weights, 0
        self.snapshots: dict[int, torch.Tensor] = {}
        image = start.detach().float()
        if image.shape != level.shape:
            size = level.shape[2:]
            image = F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)
            relative_gradient = None  # a new size is a new start
        # No clamping while it runs: it would break L-BFGS's model of the curvature.
        image = image.to(level.loss.device or image.device).contiguous()
        if relative_gradient is not None:
            relative_gradient = relative_gradient.to(image.device)
        self.start, self.device = image, image.device
        self.objective = Objective(level.loss, image, options.range_weight, relative_gradient)
        if continuation is not None and self._fits(continuation, start):
            self.minimizer: Minimizer = copy.deepcopy(continuation.minimizer)
            self.objective.load_state_dict(continuation.objective)
        elif options.optimizer == "adam":
            self.minimizer = Adam(image, lr=options.lr)
        else:
            self.minimizer = PreconditionedLBFGS(
                image,
                lr=options.lr,
                history_size=options.history_size,
                exponent=options.precondition,
            )

    def restart(self) -> None:
        """Go on from the best image with the loss's new weights."""
        self.weights = self.level.loss.weights
        self.restarted_at = self.log.steps
        self.minimizer.restart(self.objective.best)
        self.objective.restart()

    def nonfinite_problem(self) -> str:
        """Return since when no image of the batch is finite, and what to try.

        Raises
        ------
        ValueError
            If none ever was.
        """
        problem = self.log.records[-self.log.nonfinite_in_a_row].problem
        if self.objective.lowest.isinf().all():
            raise ValueError(f"{problem}: is the start finite, and the network's weights?")
        advice = "Try smaller weights, a smaller lr, or optimizer='adam'"
        return f"{problem}; this is the last good image. {advice}"

    def continuation(self, best: torch.Tensor) -> Continuation | None:
        """Return what a later run goes on with; None if the loss takes no weak reference."""
        try:
            loss = weakref.ref(self.loss)
        except TypeError:
            return None
        state = self.objective.state_dict()
        return Continuation(loss, self.weights, self.options, best, self.minimizer, state)

    def _fits(self, continuation: Continuation, start: torch.Tensor) -> bool:
        image = continuation.minimizer.image
        return (
            continuation.loss() is self.loss
            and continuation.weights == self.weights
            and continuation.options == self.options
            and continuation.best is start
            and (image.shape, image.device) == (self.level.shape, self.device)
        )


def pyramid_levels(
    loss: Any, shape: Sequence[int], steps: int | Sequence[int], pyramid: Iterable[int]
) -> list[Level]:
    """Return the sizes to go through, small to full.

    Parameters
    ----------
    loss : nst_helpers.optimization.Loss
    shape : sequence of int
        (B, 3, H, W) of the full-size image.
    steps : int or sequence of int
        In all, or of each level.
    pyramid : iterable of int
        Shorter sides before the full size.

    Raises
    ------
    ValueError
        If steps or pyramid are wrong, or the loss cannot be resized.
    """
    sides, full = tuple(shape[2:]), min(shape[2:])
    pyramid = _validate.positive_ints("pyramid", pyramid, "whole numbers, shorter sides")
    if any(small >= large for small, large in pairwise((*pyramid, full))):
        raise ValueError(
            f"pyramid must rise, and stay below the image's shorter side {full}; got {pyramid}"
        )
    *coarse_steps, full_steps = _steps_of_levels(steps, len(pyramid) + 1)
    levels = []
    for size, count in zip(pyramid, coarse_steps, strict=True):
        scale = size / full
        smaller = tuple(max(1, round(side * scale)) for side in sides)
        levels.append(Level(loss.resized(scale), (*shape[:2], *smaller), count, size))
    return [*levels, Level(loss, tuple(shape), full_steps, full if pyramid else None)]


def _steps_of_levels(steps: int | Sequence[int], levels: int) -> list[int]:
    if isinstance(steps, Iterable) and _validate.is_listed(steps):
        counts = _validate.positive_ints("steps", steps, "a whole number")
    else:
        total, coarse = _validate.positive_int("steps", steps), levels - 1
        if total < levels:
            raise ValueError(f"steps must be at least {levels}, one for each size; got {steps!r}")
        last = total
        if coarse:
            last = min(max(1, round(FULL_SIZE_SHARE * total)), total - coarse)
        rest = total - last
        counts = [rest * (i + 1) // coarse - rest * i // coarse for i in range(coarse)] + [last]
    if len(counts) != levels:
        raise ValueError(
            f"steps must be a whole number or {levels} of them, one for each size; got {steps!r}"
        )
    return counts
