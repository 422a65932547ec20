"""Numbers to image: gradient descent on the pixels until a loss is low.

``optimize`` is for people, ``_descend`` is the loop. How the loss becomes value and gradient, and
how L-BFGS and Adam move the image, is in ``engine``; nothing here knows networks, files or plots.

References
----------
.. [1] Gatys, Ecker & Bethge 2016, "Image style transfer using convolutional neural networks",
   section 2
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch

from nst_helpers import _convert, _validate
from nst_helpers.engine.allocation import hold_freed_memory
from nst_helpers.engine.devices import capture_cuda_graph, own_modes
from nst_helpers.engine.ending import Ending, Optimizer, Stopped, end_of_all, endings
from nst_helpers.engine.memory import require_memory_of_run
from nst_helpers.engine.objective import StepLog
from nst_helpers.engine.run import Continuation, Options, Run, pyramid_levels
from nst_helpers.engine.threads import on_free_cores

__all__ = ["Loss", "Progress", "Result", "optimize"]

LOSS = "a Loss, such as StyleTransferLoss, or a function from an image (B, 3, H, W) to its terms"


class Terms(Protocol):
    """What a loss returns: a NamedTuple of (B,) tensors, ``total`` among them."""

    @property
    def total(self) -> torch.Tensor: ...
    def _asdict(self) -> dict[str, torch.Tensor]: ...


@runtime_checkable
class Loss(Protocol):
    """What ``optimize`` minimises. A plain function (with a ``device``, if need be) will do.

    Derive from it where a loss has more to say, and override what you need of the defaults below.

    Examples
    --------
    >>> import torch
    >>> from typing import NamedTuple
    >>> class Terms(NamedTuple):
    ...     total: torch.Tensor
    ...     red: torch.Tensor
    >>> class Redness(Loss):
    ...     def __call__(self, image):
    ...         red = image[:, 0].mean((1, 2))  # (B,)
    ...         return Terms((1 - red) ** 2, red)
    >>> result = optimize(Redness(), torch.full((1, 3, 8, 8), 0.5), steps=9)
    >>> result.stopped, round(result.history[-1]["red"], 2)
    ('steps', 1.0)
    """

    @property
    def device(self) -> torch.device | None:
        """Where images must be; None: where they are."""
        return None

    @property
    def weights(self) -> tuple[float, ...]:
        """All that a callback may change; ``optimize`` then restarts its minimiser."""
        return ()

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph may capture it: equal shapes, no host synchronisation."""
        return False

    def __call__(self, image: torch.Tensor, /) -> Terms:
        """Return the terms of an image (B, 3, H, W), whose values may pass [0, 1]."""
        raise NotImplementedError

    def resized(self, scale: float) -> Loss:
        """Return the same loss for an image whose sides are ``scale`` times as long."""
        raise ValueError("a pyramid needs a loss that has resized(scale)")

    def memory_needed(self, shape: Iterable[int]) -> int:
        """Return about how many bytes an evaluation of an image (B, 3, H, W) takes."""
        return 0


class _FunctionLoss(Loss):
    """A plain function from image to terms, and perhaps its device."""

    def __init__(self, function: Callable[[torch.Tensor], Terms]) -> None:
        self.function = function

    def __call__(self, image: torch.Tensor, /) -> Terms:
        return self.function(image)

    @property
    def device(self) -> torch.device | None:
        return getattr(self.function, "device", None)


@dataclass
class Result:
    """What ``optimize`` returns; pass it as ``start`` to go on from there.

    Attributes
    ----------
    image : torch.Tensor
        (B, 3, H, W) in [0, 1]: the image of the lowest loss (as it was at last), clipped.
    history : list of dict
        For each step: ``step`` (from 1), ``seconds`` since the start, and the loss terms, summed
        over the batch. With a pyramid also ``size``, the shorter side of the step's level.
    snapshots : dict of int to torch.Tensor
        The images at the steps asked for, clipped.
    stopped : str
        Why it ended: "steps" (all were taken), "converged" (no step lowers the loss any more),
        "interrupted" (Ctrl-C), "callback" (it returned False), "not finite" (the loss or its
        gradient, with no way back), "no progress" (the loss never fell below that of the start, or
        in 20 steps and more hardly at all, or the image looks the same).
    problem : str
        What went wrong, also with one image of a batch, and the likely cause, for people; else "".
    unclipped : torch.Tensor
        ``image`` as the optimiser left it, from where a later run goes on.

    Notes
    -----
    A later run of the same loss object, with the same weights and options, goes on with L-BFGS's
    curvature pairs as if there had been no pause. They take 2 * history_size images of memory as
    long as the result lives; pickling and ``split`` leave them out.
    """

    image: torch.Tensor
    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: dict[int, torch.Tensor] = field(default_factory=dict)
    stopped: Stopped = "steps"
    problem: str = ""
    unclipped: torch.Tensor = field(default=None, repr=False)  # type: ignore[assignment]
    # (B,): the first gradient of all over the loss here, the unit of the range penalty.
    relative_gradient: torch.Tensor | None = field(default=None, repr=False)
    # Each image's loss terms, in the order of the history.
    per_image: list[dict[str, list[float]]] = field(default_factory=list, repr=False)
    # How each image ended, where that is known: images of a batch may differ.
    endings: list[Ending] = field(default_factory=list, repr=False)
    continuation: Continuation | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.unclipped is None:
            self.unclipped = self.image

    @property
    def ok(self) -> bool:
        """False if it ended because something went wrong."""
        return self.stopped not in ("not finite", "no progress")

    @property
    def steps_done(self) -> int:
        """How many steps it has behind it."""
        return int(self.history[-1]["step"]) if self.history else 0

    def split(self) -> list[Result]:
        """Return the images of a batch one by one, each with its own history and problem."""
        batch = self.image.shape[0]
        return [self] if batch == 1 else [self._part(i) for i in range(batch)]

    def _part(self, i: int) -> Result:
        row, scale = slice(i, i + 1), self.relative_gradient
        per_image = [{name: v[row] for name, v in terms.items()} for terms in self.per_image]
        ending = self.endings[i] if self.endings else Ending(self.stopped, self.problem)
        return replace(
            self,
            stopped=ending.stopped,
            problem=ending.problem,
            endings=[ending],
            image=self.image[row],
            history=[
                {**entry, **{name: value for name, (value,) in terms.items()}}
                for entry, terms in zip(self.history, per_image, strict=True)
            ],
            snapshots={step: image[row] for step, image in self.snapshots.items()},
            unclipped=self.unclipped[row],
            relative_gradient=None if scale is None else scale[row],
            per_image=per_image,
            continuation=None,
        )

    def __getstate__(self) -> dict[str, Any]:
        # A continuation belongs to one loss object of this process, and is large.
        return {**self.__dict__, "continuation": None}


@dataclass
class Progress:
    """What a callback gets after each step."""

    step: int
    steps: int
    terms: dict[str, float]
    seconds: float
    _image: torch.Tensor = field(repr=False)
    _per_image: dict[str, list[float]] = field(repr=False)
    _make_result: Callable[[], Result] = field(repr=False)

    @classmethod
    def of(cls, result: Result) -> Progress:
        """Return the last step of a run that has ended, whose ``result`` has a history."""
        step, last, terms = result.steps_done, result.history[-1], result.per_image[-1]
        sums = {name: last[name] for name in terms}
        return cls(step, step, sums, last["seconds"], result.image, terms, lambda: result)

    def split(self) -> list[Progress]:
        """Return the progress of each image of a batch."""
        return [self._part(i) for i in range(self._image.shape[0])]

    def _part(self, i: int) -> Progress:
        per_image = {name: values[i : i + 1] for name, values in self._per_image.items()}
        return replace(
            self,
            terms={name: value for name, (value,) in per_image.items()},
            _image=self._image[i : i + 1],
            _per_image=per_image,
            _make_result=lambda: self.result().split()[i],
        )

    def image(self) -> torch.Tensor:
        """Return a copy of the image as it is now, (B, 3, H, W) in [0, 1]."""
        return self._image.detach().clamp(0, 1).clone()

    def result(self) -> Result:
        """Return what ``optimize`` would return if it ended here, but for the curvature pairs."""
        return self._make_result()


def optimize(
    loss: Loss | Callable[[torch.Tensor], Terms],
    start: torch.Tensor | Result,
    *,
    steps: int | Sequence[int] = 300,
    optimizer: Optimizer = "lbfgs",
    lr: float | None = None,
    history_size: int = 30,
    pyramid: Iterable[int] = (),
    precondition: float = 0.5,
    range_weight: float = 3.0,
    callback: Callable[[Progress], object] | None = None,
    snapshots: Iterable[int] = (),
) -> Result:
    """Change the pixels of ``start`` until ``loss`` is low [1]_.

    Parameters
    ----------
    loss : Loss or callable
        Image (B, 3, H, W) to named loss terms, such as ``StyleTransferLoss``; see ``Loss``.
    start : torch.Tensor or Result
        (B, 3, H, W) in [0, 1], a Pillow picture or an array, left as it is; or an earlier result,
        to go on from there. Each image of a batch is optimised by itself.
    steps : int, or one for each level of the pyramid
        Evaluations of the loss and its gradient; L-BFGS needs hardly more than one for each update.
    optimizer : {"lbfgs", "adam"}
        L-BFGS with a backtracking line search (see ``LBFGS``), or Adam.
    lr : float, optional
        Learning rate, the step length: 1 for L-BFGS, 0.02 (of the image range) for Adam.
    history_size : int
        Curvature pairs that L-BFGS holds, 2 images of memory each. 10 take a quarter more steps.
    pyramid : iterable of int
        Shorter sides, smallest first, at which to begin, content and style resized alike: brush
        strokes come out larger. The full size follows last, with a fifth of the steps.
    precondition : float
        Exponent of L-BFGS's spectral preconditioner: step lengths go with spatial frequency to the
        power of minus this, large shapes before fine grain. 0 in the papers.
    range_weight : float
        Weight of a quadratic penalty on values outside [0, 1], in units of the gradient at the
        start. 0 for none, as in the papers: the result is clipped all the same, and with much black
        or white that costs more than the whole rest of the loss.
    callback : callable, optional
        Called with a ``Progress`` after each step; False ends the run. It may change the weights of
        the loss, as a slider does: the minimiser then restarts from the best image.
    snapshots : iterable of int
        Steps whose images to keep.

    Returns
    -------
    Result
        Ctrl-C (or the notebook's stop button) returns the result so far. There is a warning with
        the likely cause if the result is not ``ok``, or not for every image of the batch.

    Raises
    ------
    ValueError
        If an argument is wrong, the loss is not finite at the start, or memory does not suffice.
    """
    options = Options.validated(optimizer, lr, history_size, precondition, range_weight)
    _validate.function("callback", callback, "a function of a Progress, or None", or_none=True)
    numbers = frozenset(_validate.positive_ints("snapshots", snapshots, "numbers of steps"))
    result, image = _as_start(start)
    steps_before, outcome = result.steps_done, partial(_result, result, None)
    has_progress = [steps_before > 0 for _ in image]
    try:
        with own_modes():
            levels = pyramid_levels(_as_loss(loss), image.shape, steps, pyramid)
            for each in levels:
                require_memory_of_run(each.loss, each.shape, image.device, optimizer, history_size)
            last_step = steps_before + sum(level.steps for level in levels)
            for level in levels:
                seconds = result.history[-1]["seconds"] if result.history else 0.0
                log = StepLog(result.steps_done, seconds)
                earlier = result.relative_gradient, result.continuation
                run = Run(level, loss, result.unclipped, options, log, *earlier)
                outcome = partial(_result, result, run)
                stopped = _descend(run, outcome, last_step, callback, numbers)
                parts = endings(run, stopped, has_progress)
                result = outcome(*end_of_all(parts, stopped), parts)
                has_progress = [part.stopped != "no progress" for part in parts]
                if level is levels[-1] or stopped in ("callback", "not finite"):
                    result.continuation = run.continuation(result.unclipped)
                    break
            looks = "one step only looks at the start, which is returned: take more"
            if warning := result.problem or looks * (result.steps_done == 1 and callback is None):
                _validate.warn(warning)
            return result
    except KeyboardInterrupt:  # at any line: in a level, before its first step, or after its last
        with own_modes():
            result = outcome("interrupted")
        if result.steps_done == steps_before:
            raise
        return result


@hold_freed_memory()
def _descend(
    run: Run,
    outcome: Callable[..., Result],
    last_step: int,
    callback: Callable[[Progress], object] | None,
    snapshots: frozenset[int],
) -> Stopped:
    """Gradient descent on the pixels: the loop. Return why it ended."""
    loss, objective, minimizer, log = run.level.loss, run.objective, run.minimizer, run.log

    def step() -> None:
        evaluation = objective(minimizer.image)  # value and gradient, (B,) and (B, 3, H, W)
        log.append(evaluation)
        minimizer.step(evaluation.value, evaluation.gradient)

    step, captures = on_free_cores(step, run.device), loss.capturable and minimizer.capturable
    # A captured step has the loss's weights as they were: a callback may change them.
    take_step = capture_cuda_graph(step, run.device) if captures else step
    reads_all = callback is not None or run.device.type == "cpu"  # where reading costs no wait
    converged = False
    while log.steps < run.level.steps and not converged:
        take_step()
        log.steps += 1
        number, is_last = log.steps_before + log.steps, log.steps == run.level.steps
        if number in snapshots:
            run.snapshots[number] = objective.image.clamp(0, 1).cpu()
        if not (reads_all or log.steps == 1 or is_last or log.is_full):
            continue
        log.read()
        if log.nonfinite_in_a_row:
            run.nonfinite_problem()  # raises where no image ever was finite
            if log.nonfinite_in_a_row >= minimizer.patience or is_last:
                return "not finite"
        elif callback is not None:
            record = log.records[-1]
            at = (record.step, last_step, record.sums(), record.seconds)
            if callback(Progress(*at, objective.image, record.terms, outcome)) is False:
                return "callback"
            if loss.weights != run.weights and not is_last:
                run.restart()
                take_step = capture_cuda_graph(step, run.device) if captures else step
        converged = minimizer.stalled()
    return "converged" if converged else "steps"


def _result(
    before: Result,
    run: Run | None,
    stopped: Stopped = "steps",
    problem: str = "",
    parts: Iterable[Ending] = (),
) -> Result:
    """Return what there is so far, whatever comes after it."""
    if run is None or not run.log.steps:
        return replace(before, stopped=stopped, problem=problem, endings=[])
    run.log.read()
    size = {} if run.level.size is None else {"size": run.level.size}
    records = [record for record in run.log.records if any(record.finite)]
    history = [{"step": r.step, "seconds": r.seconds, **r.sums(), **size} for r in records]
    unclipped = run.objective.best.to(home := before.image.device, copy=True)
    return Result(
        unclipped.clamp(0, 1),
        before.history + history,
        before.snapshots | run.snapshots,
        stopped,
        problem,
        unclipped,
        run.objective.relative_gradient.to(home, copy=True),
        before.per_image + [record.terms for record in records],
        list(parts),
    )


def _as_loss(loss: Loss | Callable[[torch.Tensor], Terms]) -> Loss:
    _validate.function("loss", loss, LOSS)
    return loss if isinstance(loss, Loss) else _FunctionLoss(loss)


def _as_start(start: torch.Tensor | Result) -> tuple[Result, torch.Tensor]:
    """Return where to begin as a result, and its image as an optimiser left it."""
    what = f"{_validate.IMAGE} or a Result"
    if not isinstance(start, Result):
        image = _convert.image("start", start, what)
        return Result(image), image
    _validate.image("start", start.image, what)
    return start, _validate.image("start", start.unclipped, what, (-math.inf, math.inf))
