"""Loss to image: gradient descent on the pixels, with callbacks, stopping and going on.

Knows nothing of networks, files or plots. ``loss`` is anything that maps an image (B, 3, H, W) to
named terms of shape (B,), ``total`` among them, and has a ``device``: ``StyleTransferLoss``, or
one of your own.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from nst_helpers.engine.devices import check_memory, record
from nst_helpers.engine.lbfgs import LBFGS

__all__ = ["Progress", "Result", "estimate_memory", "optimize"]

OPTIMIZERS = ("lbfgs", "adam")
FIRST_CHANGE = 0.01  # of a pixel's value in the first step of L-BFGS, on average
FULL_SIZE = 0.2  # of the steps of a pyramid are left for the full size
WARM_UP = 3  # steps before one is recorded: by then everything it needs has been set up
UNSEEN = 25  # steps between two looks at the numbers of a GPU, where nobody asks for them


@dataclass
class Result:
    """What ``optimize`` returns; pass it as ``start`` to go on from there.

    Attributes
    ----------
    image : torch.Tensor
        (B, 3, H, W) in [0, 1]: the picture of the lowest loss, clipped; where its weights were
        turned on the way, of the loss as it was at last.
    history : list of dict
        One for each step: ``step`` (from 1), ``seconds`` since the start, and the loss terms
        ``total``, ``content``, ``style``, ``tv``, each summed over the batch. With a pyramid also
        ``size``, the shorter side of the step's level.
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
    # The slope at the very start relative to the loss here, (B,): what range_weight goes by.
    steepness: torch.Tensor | None = field(default=None, repr=False)
    # Of a batch of several, each picture's loss terms, (B,), in the order of the history.
    each: list[dict[str, torch.Tensor]] = field(default_factory=list, repr=False)

    def split(self) -> list[Result]:
        """Return the pictures of a batch one by one, each with its own history."""
        if self.image.shape[0] == 1:
            return [self]
        parts = []
        for i in range(self.image.shape[0]):
            own = [
                {**entry, **{name: values[i].item() for name, values in terms.items()}}
                for entry, terms in zip(self.history, self.each, strict=True)
            ]
            one = slice(i, i + 1)
            parts.append(
                replace(
                    self,
                    image=self.image[one],
                    history=own,
                    snapshots={step: picture[one] for step, picture in self.snapshots.items()},
                    unclipped=None if self.unclipped is None else self.unclipped[one],
                    steepness=None if self.steepness is None else self.steepness[one],
                    each=[],
                )
            )
        return parts


@dataclass
class Progress:
    """What a callback gets after each step."""

    step: int
    steps: int
    terms: dict[str, float]
    seconds: float
    _pixels: torch.Tensor = field(repr=False)
    _each: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    _result: Callable[[], Result] | None = field(default=None, repr=False)

    def split(self) -> list[Progress]:
        """Return the progress of each picture of a batch."""
        return [
            replace(
                self,
                terms={name: values[i].item() for name, values in self._each.items()},
                _pixels=self._pixels[i : i + 1],
                _each={name: values[i : i + 1] for name, values in self._each.items()},
                _result=lambda i=i: self.result().split()[i],
            )
            for i in range(self._pixels.shape[0])
        ]

    def image(self) -> torch.Tensor:
        """Return a copy of the picture as it is now, (B, 3, H, W) in [0, 1]."""
        return self._pixels.detach().clamp(0, 1).clone()

    def result(self) -> Result:
        """Return what ``optimize`` would return if it ended here."""
        return self._result()


class _Stop(Exception):
    """Leaves the loop for a reason."""


def optimize(
    loss: Callable[[torch.Tensor], Any],
    start: torch.Tensor | Result,
    *,
    steps: int | Sequence[int] = 300,
    optimizer: str = "lbfgs",
    lr: float | None = None,
    history: int = 10,
    pyramid: Iterable[int] = (),
    coarse_first: float = 0.5,
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
        history and numbering. Each picture of a batch is optimised by itself.
    steps : int, or one for each level of the pyramid
        How many times the loss and its gradient are evaluated. The paper's optimiser, L-BFGS,
        takes a little more than one evaluation for each update.
    optimizer : {"lbfgs", "adam"}
        L-BFGS with a safeguarded step length (see ``LBFGS``), or Adam.
    lr : float, optional
        Step length: 1 for L-BFGS, 0.02 (of the image range) for Adam.
    history : int
        Steps that L-BFGS remembers; memory grows with it.
    pyramid : iterable of int
        Shorter sides, smallest first, at which to begin: coarse to fine. What one level paints is
        enlarged and is the next one's start; content and style shrink with the picture, so brush
        strokes come out larger. The full size follows last, with a fifth of the steps.
    coarse_first : float
        How far L-BFGS prefers to change large shapes before fine grain: step lengths go with
        spatial frequency to the power of minus this. Not in the papers (0). Pictures have less of
        the high frequencies, gradients have more; setting that right takes a fifth fewer steps.
    range_weight : float
        How hard values outside [0, 1] are pulled back: so many times as hard as ``loss`` pulls at
        an average value of the start, for one that is a whole range outside. 0 lets them go, as
        the papers do, and the result is clipped all the same: in pictures with much black or
        white that costs more than the whole rest of the loss.
    callback : callable, optional
        Called with a ``Progress`` after each step. If it returns False, the run ends there. It may
        turn the weights of the loss, as a slider does (``loss.alpha = 1e-2``): the run goes on
        from its best picture, and what it had learnt of the old loss is forgotten.
    snapshots : iterable of int
        Steps whose pictures to keep.

    Returns
    -------
    Result
        Ctrl-C (or the notebook's stop button) returns the result so far. If the loss of every
        picture is no longer finite, the last good ones are returned, with a warning.

    Raises
    ------
    ValueError
        If an argument makes no sense, the loss is not finite at the very start, or the memory
        does not suffice.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {optimizer!r}")
    if lr is not None and not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a number > 0; got {lr!r}")
    for name, value in (("range_weight", range_weight), ("coarse_first", coarse_first)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a number >= 0; got {value!r}")
    result = _as_result(start)
    levels = _levels(loss, result.unclipped, steps, tuple(pyramid))
    for level in levels:
        needed = estimate_memory(level.loss, level.shape, optimizer=optimizer, history=history)
        check_memory(needed, level.shape, _device(level.loss, result.image))
    last = last_step(result) + sum(level.steps for level in levels)
    for level in levels:
        run = _Run(level, result, last, range_weight, callback, set(snapshots))
        if optimizer == "adam":
            run.go(partial(_adam, run, lr or 0.02), patience=1)
        else:
            begin = partial(_lbfgs, run, lr or 1.0, history, coarse_first)
            run.go(begin, patience=6, recordable=True)
        result = run.result()
        if result.stopped != "done":
            break
    return result


def estimate_memory(
    loss: Callable, shape: Iterable[int], *, optimizer: str = "lbfgs", history: int = 10
) -> int:
    """Return about how many bytes ``optimize`` takes at its peak, beyond network and targets.

    Parameters
    ----------
    loss : callable
        Asked for its own part (``memory_needed(shape)``) if it knows it, as ``StyleTransferLoss``
        does; else only the optimiser's part is counted.
    shape : iterable of int
        (B, 3, H, W) of the picture.
    optimizer, history
        As for ``optimize``.
    """
    shape = tuple(shape)
    numbers = math.prod(shape)
    own = LBFGS.memory(numbers, history) if optimizer == "lbfgs" else 16 * numbers
    return own + (loss.memory_needed(shape) if hasattr(loss, "memory_needed") else 0)


class _Level(NamedTuple):
    """One size of a pyramid: the loss there, the picture's shape, and how many steps."""

    loss: Callable
    shape: tuple[int, ...]
    steps: int
    size: int | None  # what the history says of it


def _levels(
    loss: Callable, image: torch.Tensor, steps: int | Sequence[int], pyramid: tuple[int, ...]
) -> list[_Level]:
    """Return the sizes to go through, small to full; errors come before the work."""
    full = min(image.shape[2:])
    sizes = (*pyramid, full)
    if any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in pyramid):
        raise ValueError(f"pyramid must be whole numbers, 1 or more; got {pyramid!r}")
    if any(a >= b for a, b in pairwise(sizes)):
        raise ValueError(
            f"pyramid must rise, and stay below the picture's shorter side {full}; got {pyramid!r}"
        )
    if pyramid and not hasattr(loss, "resized"):
        raise ValueError("a pyramid needs a loss that has resized(scale)")
    counts = _steps_of_levels(steps, len(sizes))
    levels = [
        _Level(
            loss.resized(size / full),
            (*image.shape[:2], *(max(1, round(side * size / full)) for side in image.shape[2:])),
            count,
            size,
        )
        for size, count in zip(pyramid, counts, strict=False)
    ]
    return [*levels, _Level(loss, tuple(image.shape), counts[-1], full if pyramid else None)]


def _steps_of_levels(steps: int | Sequence[int], levels: int) -> list[int]:
    if isinstance(steps, int) and not isinstance(steps, bool) and steps >= levels:
        last = steps if levels == 1 else max(1, round(FULL_SIZE * steps))
        rest, coarse = steps - last, levels - 1
        return [rest * (i + 1) // coarse - rest * i // coarse for i in range(coarse)] + [last]
    counts = list(steps) if isinstance(steps, Sequence) and not isinstance(steps, str) else [steps]
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in counts):
        raise ValueError(f"steps must be a whole number, 1 or more; got {steps!r}")
    if len(counts) != levels:
        raise ValueError(
            f"steps must be a whole number of at least {levels}, or {levels} of them, one for each "
            f"size; got {steps!r}"
        )
    return counts


def _lbfgs(run: _Run, lr: float, history: int, coarse_first: float) -> Callable[[], None]:
    """Return what moves the picture by L-BFGS.

    It works on z, where picture = start + smooth(z), so that a step of z is a step of the picture
    with its low frequencies enlarged.
    """
    start, smooth = run.pixels.clone(), _smoothing(run.pixels, coarse_first)
    minimiser: LBFGS | None = None

    def move() -> None:
        nonlocal minimiser
        gradient = smooth(run.gradient)
        if minimiser is None:
            grown = smooth(gradient).abs().mean((1, 2, 3)) / gradient.abs().mean((1, 2, 3))
            first = FIRST_CHANGE / torch.where(grown > 0, grown, 1.0)
            minimiser = LBFGS(torch.zeros_like(start), first_step=first, lr=lr, history=history)
            run.stuck = minimiser.stuck
        minimiser.tell(run.value, gradient)
        torch.add(start, smooth(minimiser.point), out=run.pixels)

    return move


def _smoothing(image: torch.Tensor, exponent: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a filter that multiplies spatial frequencies by f^(-exponent / 2); 1 at the finest.

    Applied to gradient and picture both, step lengths go with f^(-exponent).
    """
    if not exponent:
        return lambda values: values
    height, width = size = image.shape[2:]
    rows = torch.fft.fftfreq(height, device=image.device)[:, None]
    columns = torch.fft.rfftfreq(width, device=image.device)
    squares = rows.square() + columns.square() + 0.02**2  # cycles per pixel
    gain = (squares / (0.25 + 0.02**2)) ** (-exponent / 4)
    return lambda values: torch.fft.irfft2(torch.fft.rfft2(values) * gain, s=size)


def _adam(run: _Run, lr: float) -> Callable[[], None]:
    """Return what moves the picture by Adam."""
    adam = torch.optim.Adam([run.pixels], lr=lr)

    def move() -> None:
        run.pixels.grad = run.gradient
        adam.step()

    return move


class _Run:
    """The evaluations of one run: records them on the device, keeps the best picture."""

    def __init__(
        self,
        level: _Level,
        before: Result,
        last: int,
        range_weight: float,
        callback: Callable | None,
        wanted: set[int],
    ) -> None:
        self.loss, self.steps, self.last, self.size = level.loss, level.steps, last, level.size
        self.callback, self.wanted, self.range_weight = callback, wanted, range_weight
        image = before.unclipped.detach().float()
        if image.shape != level.shape:
            image = F.interpolate(image, level.shape[2:], mode="bicubic", antialias=True).clamp(
                0, 1
            )
            before = replace(before, steepness=None)  # a new size is a new start
        device, self.home = _device(self.loss, image), before.image.device
        # No clamping while it runs: it would break L-BFGS's model of the curvature.
        self.pixels = image.to(device, copy=True).contiguous()
        self.history, self.each = list(before.history), list(before.each)
        self.snapshots, self.stopped = dict(before.snapshots), "done"
        self.first = last_step(before)
        self.earlier = self.history[-1]["seconds"] if self.history else 0.0
        self.began = self.looked = time.perf_counter()
        self.taken = self.seen = self.bad = 0
        self.lost: list[int] = []
        self.found: dict[str, torch.Tensor] = {}
        # What evaluate finds, always in the same tensors, so that a step can be recorded.
        batch = self.pixels.shape[0]
        self.value, self.gradient = self.pixels.new_zeros(batch), torch.zeros_like(self.pixels)
        self.best, self.lowest = self.pixels.clone(), self.pixels.new_full((batch,), torch.inf)
        self.steepness = None if before.steepness is None else before.steepness.to(device)
        self.names: tuple[str, ...] = ()
        self.measured, self.weights = False, getattr(self.loss, "weights", None)
        self.stuck: torch.Tensor | None = None

    def go(
        self, begin: Callable[[], Callable[[], None]], patience: int, recordable: bool = False
    ) -> None:
        """Take the steps, and note why it ended; ``begin`` returns what moves the picture."""
        self.patience, move = patience, begin()

        def step() -> None:
            nonlocal move
            if self.callback is not None and self.loss_changed():
                move = begin()
            else:
                move()
            self.evaluate()

        # A callback may change the loss between two steps; a recorded step would not notice.
        recordable = (
            recordable and self.callback is None and getattr(self.loss, "capturable", False)
        )
        try:
            self.evaluate()
            self.look()
            while self.taken < self.steps:
                if recordable and self.taken == WARM_UP:
                    step = record(step, self.pixels.device)
                step()
                self.look()
        except _Stop as reason:
            self.stopped = str(reason)
        except KeyboardInterrupt:
            if not self.taken:
                raise
            self.stopped = "interrupted"

    def loss_changed(self) -> bool:
        """Say whether the weights were turned; then go on from the best picture, judged anew."""
        before, self.weights = self.weights, getattr(self.loss, "weights", None)
        if self.weights == before:
            return False
        self.pixels.copy_(self.best)
        self.lowest.fill_(torch.inf)
        self.measured = False
        if (self.slope < 1e-20).any():  # the old loss was flat: it says nothing of the new one
            self.steepness = None
        return True

    def evaluate(self) -> None:
        """Look at the picture; nothing here waits for the device, but for the first time."""
        image = self.pixels.detach().requires_grad_(True)
        with torch.enable_grad():
            terms = self.loss(image)
            (gradient,) = torch.autograd.grad(terms.total.sum(), image)
        image, terms = image.detach(), {k: v.detach() for k, v in terms._asdict().items()}
        if not self.names:
            self.names = tuple(terms)
            self.log = self.pixels.new_zeros(self.steps, len(terms) + 1, self.pixels.shape[0])
            self.row = torch.zeros(1, dtype=torch.long, device=self.pixels.device)
        if not self.measured:
            self._measure(terms, gradient)
        # Not in the papers: a picture that is best only before it is clipped is not the best one.
        outside = image - image.clamp(0, 1)
        value = terms["total"] + self.pull / 2 * outside.square().sum((1, 2, 3))
        finite = value.isfinite() & gradient.isfinite().flatten(1).all(1)
        better = finite & (value < self.lowest)
        torch.where(better, value, self.lowest, out=self.lowest)
        torch.where(_wide(better), image, self.best, out=self.best)
        steepness = self.slope / terms["total"].abs().clamp(min=1e-30)
        torch.where(better, steepness, self.steepness, out=self.steepness)
        self.value.copy_(torch.where(finite, value * self.unit, torch.nan))
        gradient = (gradient + _wide(self.pull) * outside) * _wide(self.unit)
        self.gradient.copy_(torch.where(_wide(finite), gradient, 0.0))
        row = torch.stack([*terms.values(), finite])
        self.log.index_copy_(0, self.row, row[None])
        self.row += 1

    def _measure(self, terms: dict[str, torch.Tensor], gradient: torch.Tensor) -> None:
        """Take the measure of the loss from its first evaluation."""
        self.measured = True
        slope = gradient.abs().mean((1, 2, 3)).clamp(min=1e-30)
        # The minimisers get a gradient of 1 on average at first: how far they go, and whether they
        # meet some tiny constant, then does not depend on the scale of the loss.
        self.unit = 1 / slope
        if self.steepness is not None:  # going on, where the slope is small by now
            slope = self.steepness * terms["total"].abs()
        self.pull, self.slope = self.range_weight * slope, slope
        self.steepness = slope / terms["total"].abs().clamp(min=1e-30)

    def look(self) -> None:
        """Count the step; where somebody watches, read what was recorded, and stop if need be."""
        self.taken += 1
        step = self.first + self.taken
        if step in self.wanted:
            self.snapshots[step] = self.pixels.clamp(0, 1).cpu()
        on_cpu = self.pixels.device.type == "cpu"  # where reading costs nothing
        if not (on_cpu or self.callback or self.taken in (1, self.steps) or step % UNSEEN == 0):
            return
        self.read()
        if self.callback is not None and not self.bad:
            entry = self.history[-1]
            terms = {name: entry[name] for name in self.names}
            said = (step, self.last, terms, entry["seconds"])
            progress = Progress(*said, self.pixels, self.found, self.so_far)
            if self.callback(progress) is False:
                raise _Stop("callback")
        if self.stuck is not None and self.stuck.all():
            raise _Stop("done")

    def read(self) -> None:
        """Put the device's log into the history."""
        if self.seen == self.taken:
            return
        rows, now = self.log[self.seen : self.taken].cpu(), time.perf_counter()
        for i, row in enumerate(rows, 1):
            step = self.first + self.seen + i
            found, finite = dict(zip(self.names, row[:-1], strict=True)), row[-1] > 0
            self.bad = 0 if finite.any() else self.bad + 1
            if self.bad:
                self._not_finite(step, found)
                continue
            if not finite.all():  # these stay where they were good
                good = self.found or found
                found = {k: torch.where(finite, v, good[k]) for k, v in found.items()}
            share = self.looked + (now - self.looked) * i / len(rows) - self.began
            entry = {"step": step, "seconds": self.earlier + share}
            entry |= {name: values.sum().item() for name, values in found.items()}
            self.history.append(entry if self.size is None else {**entry, "size": self.size})
            self.found = found
            if len(finite) > 1:
                self.each.append(found)
        self.seen, self.looked = self.taken, now
        self.lost = [i for i in range(len(finite)) if not finite[i]]

    def _not_finite(self, step: int, terms: dict[str, torch.Tensor]) -> None:
        if self.bad == 1:
            said = ", ".join(f"{name} {values.sum().item():.3g}" for name, values in terms.items())
            self.problem = f"the loss or its gradient is not finite at step {step} ({said})"
        if self.lowest.isinf().all():
            raise ValueError(f"{self.problem}: is the start finite, and the network's weights?")
        if self.bad >= self.patience or self.taken == self.steps:
            advice = "try smaller weights, a smaller lr, or optimizer='adam'"
            warnings.warn(
                f"{self.problem}; returning the last good picture. {advice}", stacklevel=2
            )
            raise _Stop(self.problem)

    def result(self) -> Result:
        """Return what there is; what was not read yet is read."""
        with suppress(_Stop):
            self.read()
        if self.lost and self.stopped == "done":
            warnings.warn(
                f"in the batch, counted from 0, {', '.join(map(str, self.lost))} has a loss or "
                "gradient that is not finite; its last good picture is returned",
                stacklevel=3,
            )
        return self.so_far()

    def so_far(self) -> Result:
        """Return a result of its own, whatever comes after it."""
        unclipped = self.best.to(self.home, copy=True)
        return Result(
            unclipped.clamp(0, 1),
            list(self.history),
            dict(self.snapshots),
            self.stopped,
            unclipped,
            self.steepness.to(self.home, copy=True),
            list(self.each),
        )


def _wide(values: torch.Tensor) -> torch.Tensor:
    """Return (B,) as (B, 1, 1, 1), to go with images."""
    return values.view(-1, 1, 1, 1)


def _device(loss: Callable, image: torch.Tensor) -> torch.device:
    return torch.device(getattr(loss, "device", image.device))


def last_step(result: Result) -> int:
    """Return how many steps a result has behind it."""
    return int(result.history[-1]["step"]) if result.history else 0


def _as_result(start: torch.Tensor | Result) -> Result:
    result = start if isinstance(start, Result) else Result(start)
    image = result.image if result.unclipped is None else result.unclipped
    if not torch.is_tensor(image) or image.dim() != 4 or image.shape[1] != 3:
        shape = tuple(image.shape) if torch.is_tensor(image) else type(image).__name__
        raise ValueError(f"start must be an image (B, 3, H, W) or a Result; got {shape}")
    return replace(result, unclipped=image)
