"""The loss as a minimiser sees it, and the log of its evaluations.

Everything stays on the device: nothing here synchronises with the host but ``StepLog.read``, so
that an evaluation may be captured as a CUDA graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from nst_helpers import _validate
from nst_helpers.engine.threads import sum_per_image

__all__ = ["Evaluation", "Objective", "Record", "StepLog"]

SYNC_EVERY = 25  # steps between host reads of the log, where nobody needs them sooner
TINY = 1e-30  # a divisor where a loss or its gradient is 0
FLAT = 1e-20  # a mean absolute gradient below this is none


class Evaluation(NamedTuple):
    """What the objective returns for an image (B, 3, H, W)."""

    value: torch.Tensor  # (B,), scaled; NaN where the loss or its gradient is not finite
    gradient: torch.Tensor  # (B, 3, H, W), scaled; 0 there
    terms: dict[str, torch.Tensor]  # the loss terms as they are, (B,) each
    finite: torch.Tensor  # (B,) of bool


class Objective:
    """Image to value and gradient: loss and range penalty, well scaled; holds the best image.

    Parameters
    ----------
    loss : callable
        See ``nst_helpers.optimization.Loss``.
    image : torch.Tensor
        (B, 3, H, W), the start.
    range_weight : float
        Of the penalty on values outside [0, 1], in units of the first gradient: see ``optimize``.
    relative_gradient : torch.Tensor, optional
        (B,), of an earlier run that ended at this image; 0 where there was none.

    Attributes
    ----------
    image : torch.Tensor
        (B, 3, H, W), evaluated last; always the same tensor.
    best, lowest : torch.Tensor
        The image of the lowest value, and that value, (B,), unscaled. The value counts the penalty:
        an image that is best only before it is clipped is not the best one.
    first : torch.Tensor
        (B,), the value of the first evaluation, unscaled.
    gradient_scale : torch.Tensor
        (B,), mean absolute gradient where the first run began.
    relative_gradient : torch.Tensor
        (B,), ``gradient_scale`` over the best image's loss, for a later run to go by.
    """

    def __init__(
        self,
        loss: Callable[[torch.Tensor], Any],
        image: torch.Tensor,
        range_weight: float,
        relative_gradient: torch.Tensor | None = None,
    ) -> None:
        self.loss, self.range_weight = loss, range_weight
        self.image, self.best = image.clone(), image.clone()
        self.lowest = image.new_full(image.shape[:1], torch.inf)
        self.first = self.lowest.clone()
        self.has_scale = False
        self.gradient_scale = self.loss_scale = self.penalty = torch.ones_like(self.lowest)
        if relative_gradient is None:
            relative_gradient = torch.zeros_like(self.lowest)
        self.relative_gradient = relative_gradient

    def __call__(self, image: torch.Tensor) -> Evaluation:
        """Evaluate ``image`` (B, 3, H, W)."""
        self.image.copy_(image)
        leaf = self.image.detach().requires_grad_(True)
        with torch.enable_grad():
            loss_terms, is_first = self.loss(leaf), not self.has_scale
            if is_first:
                _validate_terms(loss_terms, leaf)
            (gradient,) = torch.autograd.grad(loss_terms.total.sum(), leaf, allow_unused=True)
        if gradient is None:
            raise ValueError("the loss's total must depend on the image, and does not")
        terms = {name: term.detach().float() for name, term in loss_terms._asdict().items()}
        total = terms["total"]
        if is_first:
            self._set_scale(total, gradient)
        # Not in the papers: a quadratic penalty outside [0, 1], because clipping the result there
        # would undo much of what was reached, and clipping inside would break L-BFGS's curvature.
        outside = self.image - self.image.clamp(0, 1)
        value = total + self.penalty / 2 * sum_per_image(outside.square())
        gradient = gradient + per_image(self.penalty) * outside
        finite = value.isfinite() & gradient.isfinite().flatten(1).all(1)
        if is_first:
            self.first.copy_(value)
        self._keep_best(value, total, finite)
        value = torch.where(finite, value * self.loss_scale, torch.nan)
        gradient = torch.where(per_image(finite), gradient * per_image(self.loss_scale), 0.0)
        return Evaluation(value, gradient, terms, finite)

    def restart(self) -> None:
        """Take the next evaluation for the first one: the loss has changed."""
        flat = self.gradient_scale < FLAT  # the old loss says nothing of the new one
        self.relative_gradient = torch.where(flat, 0.0, self.relative_gradient)
        self.lowest.fill_(torch.inf)
        self.has_scale = False

    def improved(self) -> torch.Tensor:
        """Return whether each image is better than its first, or cannot get better, (B,)."""
        return (self.lowest < self.first) | (self.gradient_scale < FLAT)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return what a later run of the same loss needs beside the best image."""
        names = ("lowest", "first", "gradient_scale", "loss_scale", "penalty", "relative_gradient")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from the ``state_dict`` of an earlier objective of the same loss."""
        for name, value in state.items():
            setattr(self, name, value.clone())
        self.has_scale = True

    def _set_scale(self, total: torch.Tensor, gradient: torch.Tensor) -> None:
        """Set the scale from the first gradient."""
        mean = sum_per_image(gradient.abs()) / gradient[0].numel()
        scale = mean.clamp(min=TINY)
        # Minimisers get a gradient of 1 on average at first: how far they go, and whether they
        # meet some tiny constant, then does not depend on the scale of the loss.
        self.loss_scale, self.has_scale = 1 / scale, True
        # Where an earlier run began, the gradient was larger.
        resumed = self.relative_gradient > 0
        self.gradient_scale = torch.where(resumed, self.relative_gradient * total.abs(), scale)
        self.penalty = self.range_weight * self.gradient_scale
        self.relative_gradient = self.gradient_scale / total.abs().clamp(min=TINY)

    def _keep_best(self, value: torch.Tensor, total: torch.Tensor, finite: torch.Tensor) -> None:
        improved = finite & (value < self.lowest)
        relative_gradient = self.gradient_scale / total.abs().clamp(min=TINY)
        for best, current in (
            (self.lowest, value),
            (self.best, self.image),
            (self.relative_gradient, relative_gradient),
        ):
            mask = improved.view(-1, *[1] * (current.dim() - 1))
            torch.where(mask, current, best, out=best)


class Record(NamedTuple):
    """One evaluation, as the host has read it."""

    step: int
    seconds: float  # since the start of the first run
    terms: dict[str, list[float]]  # of each image; the last finite ones where they are not
    finite: list[bool]
    problem: str  # where no image of the batch is finite

    def sums(self) -> dict[str, float]:
        """Return the terms, summed over the batch."""
        return {name: sum(values) for name, values in self.terms.items()}


class StepLog:
    """The loss terms of each evaluation: written on the device, read by the host when needed.

    Parameters
    ----------
    steps_before : int
        Steps of earlier runs.
    seconds_before : float
        Seconds of earlier runs.

    Attributes
    ----------
    steps : int
        Evaluations that are finished; whoever appends counts.
    records : list of Record
        Those that were read.
    """

    def __init__(self, steps_before: int, seconds_before: float) -> None:
        self.steps_before, self.seconds_before = steps_before, seconds_before
        self.steps = 0
        self.records: list[Record] = []
        self.started_at = self.read_at = time.perf_counter()
        self.names: tuple[str, ...] = ()
        self.rows = self.row = torch.empty(0)  # of the first evaluation's device

    def append(self, evaluation: Evaluation) -> None:
        """Write an evaluation into the next row of a ring buffer, on the device."""
        if not self.names:
            self.names = tuple(evaluation.terms)
            batch = evaluation.value.shape[0]
            self.rows = evaluation.value.new_zeros(SYNC_EVERY, len(self.names) + 1, batch)
            self.row = torch.zeros(1, dtype=torch.long, device=self.rows.device)
        row = torch.stack([*evaluation.terms.values(), evaluation.finite])
        self.rows.index_copy_(0, self.row, row.to(self.rows.dtype)[None])
        self.row.add_(1).remainder_(SYNC_EVERY)

    @property
    def unread(self) -> int:
        """How many evaluations the host has not read."""
        return self.steps - len(self.records)

    @property
    def is_full(self) -> bool:
        """Whether the next row would overwrite one that the host has not read."""
        return self.unread == SYNC_EVERY

    @property
    def nonfinite_in_a_row(self) -> int:
        """How many of the last records have no finite image."""
        count = 0
        while count < len(self.records) and not any(self.records[-1 - count].finite):
            count += 1
        return count

    def read(self) -> None:
        """Read the device's rows into records: a host synchronisation."""
        unread = self.unread
        if not unread:
            return
        rows = self.rows.roll(-(len(self.records) % SYNC_EVERY), 0)[:unread].tolist()
        now, records = time.perf_counter(), self.records[-1:]
        for i, (*columns, finite) in enumerate(rows, 1):
            step = self.steps_before + len(self.records) + i
            seconds = self.read_at + (now - self.read_at) * i / unread - self.started_at
            problem = "" if any(finite) else _non_finite_message(step, self.names, columns)
            before = records[-1].terms if records else dict(zip(self.names, columns, strict=True))
            terms = {
                name: [
                    new if ok else old
                    for new, old, ok in zip(values, old_values, finite, strict=True)
                ]
                for name, values, old_values in zip(
                    self.names, columns, before.values(), strict=True
                )
            }
            is_finite = [ok > 0 for ok in finite]
            records.append(Record(step, self.seconds_before + seconds, terms, is_finite, problem))
        # At once, so that an interrupt leaves every step in the log exactly once.
        self.records += records[len(records) - unread :]
        self.read_at = now


def _validate_terms(terms: Any, image: torch.Tensor) -> None:
    """Raise unless a loss has returned what it has to; looks at no value."""
    what = f"a NamedTuple of tensors ({len(image)},), one number for each image, one called total"
    if not (callable(getattr(terms, "_asdict", None)) and hasattr(terms, "total")):
        raise _validate.wrong("what the loss returns", what, terms)
    for name, term in terms._asdict().items():
        _validate.tensor(f"the loss's {name}", term, f"a tensor ({len(image)},)", "B")
        if term.shape != image.shape[:1]:
            raise _validate.wrong(f"the loss's {name}", f"a tensor ({len(image)},)", term)
        _validate.same_device(f"the loss's {name}", term, image.device)
    if not terms.total.requires_grad:
        raise ValueError("the loss's total must depend on the image, and has no gradient")


def _non_finite_message(step: int, names: tuple[str, ...], columns: list[list[float]]) -> str:
    sums = [f"{name} {sum(values):.3g}" for name, values in zip(names, columns, strict=True)]
    return f"the loss or its gradient is not finite at step {step} ({', '.join(sums)})"


def per_image(values: torch.Tensor) -> torch.Tensor:
    """Return (B,) as (B, 1, 1, 1), to go with images."""
    return values.view(-1, 1, 1, 1)
