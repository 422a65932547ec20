"""How a run ended, image by image: whether it came to anything, and if not, the likely cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch

__all__ = ["DEFAULT_LR", "Ending", "Optimizer", "Stopped", "end_of_all", "endings"]

Stopped = Literal["steps", "converged", "interrupted", "callback", "not finite", "no progress"]

Optimizer = Literal["lbfgs", "adam"]
# Adam's in units of the image range.
DEFAULT_LR: dict[Optimizer, float] = {"lbfgs": 1.0, "adam": 0.02}
STEPS_TO_LOWER = 10  # in fewer, a line search may still be backtracking
STEPS_TO_JUDGE = 20  # in which a loss that can be lowered has fallen, and the image has changed
LEAST_FALL = 0.05  # of the loss
HARDLY_ANY = 0.01  # fall of the loss, where nothing is known to be wrong
LEAST_CHANGE = 0.008  # of a value, on average: two grey levels
NO_LOSS = 0.002  # how far values are, by the gradient, from a loss of 0 that is as good as reached
NOTHING_KNOWN = "the start may be as good as it gets; else try an lr below {:g}"


class Ending(NamedTuple):
    """Why a run ended, and what the problem was, for people; "" if there was none."""

    stopped: Stopped
    problem: str = ""


def endings(run: Any, stopped: Stopped, made_progress: Sequence[bool]) -> list[Ending]:
    """Return how each image of a batch ended.

    Parameters
    ----------
    run : nst_helpers.engine.run.Run
    stopped : str
        Why the whole run did.
    made_progress : sequence of bool
        Of which images an earlier run or level has lowered the loss: these need no further
        progress.
    """
    if stopped in ("interrupted", "callback"):
        return [Ending(stopped) for _ in made_progress]
    if stopped == "not finite":
        return [Ending(stopped, run.nonfinite_problem()) for _ in made_progress]
    not_finite = "the loss or its gradient is not finite; the last good image is returned"
    problems = _no_progress(run, stopped, made_progress)
    return [
        Ending("not finite", not_finite)
        if not is_finite
        else Ending("no progress", problem)
        if problem
        else Ending(stopped)
        for is_finite, problem in zip(run.log.records[-1].finite, problems, strict=True)
    ]


def end_of_all(parts: Sequence[Ending], stopped: Stopped) -> Ending:
    """Return how a batch ended: as ``stopped`` says, unless nothing came of any of its images."""
    if len({*parts}) == 1:
        return parts[0]
    groups: dict[Stopped, list[int]] = {}
    for i, part in enumerate(parts):
        if part.problem:
            groups.setdefault(part.stopped, []).append(i)
    sentences = [
        f"image {', '.join(map(str, group))} of the batch (from 0): {parts[group[0]].problem}"
        for group in groups.values()
    ]
    if sum(map(len, groups.values())) == len(parts):
        stopped = "no progress"
    return Ending(stopped, "; ".join(sentences))


def _no_progress(run: Any, stopped: Stopped, made_progress: Sequence[bool]) -> list[str]:
    """Return, for each image, what is wrong where its run came to nothing; else ""."""
    steps, objective = run.log.steps - run.restarted_at, run.objective
    if steps < STEPS_TO_LOWER:
        return [""] * len(made_progress)
    first, lowest = objective.first, objective.lowest
    values = run.start[0].numel()
    optimal = first <= NO_LOSS * values * objective.gradient_scale
    change = (objective.best.clamp(0, 1) - run.start.clamp(0, 1)).abs().mean((1, 2, 3))
    little = (lowest > (1 - LEAST_FALL) * first) | (change < LEAST_CHANGE)
    if steps < STEPS_TO_JUDGE or run.restarted_at:
        little = torch.zeros_like(little)
    rows = zip(
        *(x.tolist() for x in (objective.improved(), optimal, little, first, lowest, change)),
        made_progress,
        strict=True,
    )
    problems, cause = [], ""
    for improved, is_optimal, is_little, before, after, difference, progress in rows:
        problem, fall = "", 1 - after / before if before else 0.0
        if is_optimal or (improved and not is_little):
            pass  # as it should be
        elif not improved and not (progress and run.options.optimizer == "lbfgs"):
            cause = cause or _likely_cause(run) or NOTHING_KNOWN.format(run.options.lr)
            problem = f"none of {steps} steps lowered the loss below that of the start: {cause}"
        elif is_little and not progress:
            cause = cause or _likely_cause(run)
            # Else the start may be as good as it gets.
            if cause or (fall < HARDLY_ANY and stopped != "converged"):
                problem = (
                    f"{steps} steps lowered the loss by {fall:.1%} and changed the image by "
                    f"{difference:.4f} of the range on average, which nobody sees: "
                    f"{cause or NOTHING_KNOWN.format(run.options.lr)}"
                )
        problems.append(problem)
    return problems


def _likely_cause(run: Any) -> str:
    """Return the likely cause, if one is known."""
    optimizer, lr = run.options.optimizer, run.options.lr
    default = DEFAULT_LR[optimizer]
    name = {"lbfgs": "L-BFGS", "adam": "Adam"}[optimizer]
    if lr > 5 * default:
        return f"lr={lr:g} is too large: pixels are in 0..1, {name}'s default is {default:g}"
    if lr < default / 5:
        return f"lr={lr:g} is too small: pixels are in 0..1, {name}'s default is {default:g}"
    explain = getattr(run.level.loss, "explain", None)
    return str(explain(run.start)) if explain is not None else ""
