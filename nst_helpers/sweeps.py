"""Many runs: a grid over contents, styles, ratios and seeds; Fig. 4 of Gatys et al. 2016.

On one machine runs share batches; on a cluster each is a task of its own. Either way a run is the
same up to rounding, which grows with the steps.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import torch

from nst_helpers import _validate
from nst_helpers._job import (
    Callback,
    CallbackError,
    Case,
    Job,
    fan_out,
    image_list,
    make_blends,
    make_cases,
)
from nst_helpers.cluster import run_on_cluster, validate_client
from nst_helpers.engine.ending import Optimizer
from nst_helpers.losses import RATIOS
from nst_helpers.network.features import Features
from nst_helpers.optimization import Result

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["SweepPoint", "alpha_beta_sweep", "sweep"]

# How the options of a sweep are shared out; a test holds them equal to the two signatures.
OPTIMIZE_OPTIONS = (
    "steps",
    "optimizer",
    "lr",
    "history_size",
    "pyramid",
    "precondition",
    "range_weight",
    "snapshots",
)
LOSS_OPTIONS = (
    "content_layers",
    "style_layers",
    "style_layer_weights",
    "tv_weight",
    "convention",
    "memory",
    "style_weights",
    "content_mask",
    "style_mask",
    "region_weights",
)
Outcome = tuple[Sequence[Case], Result]  # the runs of one batch, and its result
T = TypeVar("T")


class SweepPoint(NamedTuple):
    """One run of a sweep: which content and style, counted from 0, and what came of it."""

    content: int
    style: int
    ratio: float
    seed: int
    result: Result


def alpha_beta_sweep(
    net: Features,
    content: torch.Tensor,
    style: torch.Tensor,
    ratios: Iterable[float] = RATIOS,
    *,
    seed: int = 0,
    steps: int | Sequence[int] = 300,
    optimizer: Optimizer = "lbfgs",
    lr: float | None = None,
    start: torch.Tensor | Literal["content"] | None = None,
    callback: Callback | None = None,
    batch: int | None = None,
    client: Client | None = None,
    **options: Any,
) -> list[Result]:
    """Transfer the same style with each ratio alpha/beta: ``sweep`` along one axis.

    Parameters
    ----------
    net, content, style
        As for ``StyleTransferLoss``.
    ratios : iterable of float
        alpha/beta, 0 or more; beta is 1. The paper's Fig. 4 by default.
    seed : int
        Of the white noise where every run starts, if there is no ``start``.
    steps, optimizer, lr, start, callback, batch, client, **options
        As for ``sweep``; a run's number is the place of its ratio. ``style_weights`` are those of
        one blend, if ``style`` is a list.

    Returns
    -------
    list of Result
        In the order of ``ratios``. Ctrl-C ends the sweep with the results so far. On a cluster
        these need not be the first ones; then a warning says whose they are.

    Raises
    ------
    ValueError, TypeError, ImportError, Exception
        See ``sweep``.
    """
    options |= {"steps": steps, "optimizer": optimizer, "lr": lr}
    is_blend = _validate.is_listed(style)
    if is_blend or "style_weights" in options:
        options["style_weights"] = [options.get("style_weights")]
    job = _make_job(net, [content], style if is_blend else [style], start, options)
    cases = make_cases(job, ratios, [seed])
    present = partial(_results_of_ratios, [case.ratio for case in cases])
    return _run(job, cases, batch, callback, client, present)


def sweep(
    net: Features,
    contents: Sequence[torch.Tensor] | torch.Tensor,
    styles: Sequence[torch.Tensor] | torch.Tensor,
    ratios: Iterable[float] = RATIOS,
    seeds: Iterable[int] = (0,),
    *,
    steps: int | Sequence[int] = 300,
    optimizer: Optimizer = "lbfgs",
    lr: float | None = None,
    start: torch.Tensor | Literal["content"] | None = None,
    callback: Callback | None = None,
    batch: int | None = None,
    client: Client | None = None,
    **options: Any,
) -> list[SweepPoint]:
    """Transfer every style to every content, with every ratio alpha/beta, from every seed.

    Parameters
    ----------
    net : Features
        See ``load_network``.
    contents, styles : sequence of torch.Tensor
        (1, 3, H, W) in [0, 1] each; sizes may differ. One tensor (N, 3, H, W) is N images.
    ratios : iterable of float
        alpha/beta, 0 or more; beta is 1. The paper's Fig. 4 by default.
    seeds : iterable of int
        Of the white noise where a run starts, if there is no ``start``.
    steps, optimizer, lr
        As for ``optimize``.
    start : torch.Tensor or "content", optional
        Where every run starts: this image (1, 3, H, W), or its own content.
    callback : callable, optional
        Called after each step with the run's number, from 0, and its ``Progress``; on a cluster
        once for each run, when it has come back. If it returns False, the sweep ends there.
    batch : int, optional
        At most how many runs to optimise at once on this machine; only contents of one shape go
        together. By default as many as the memory of a GPU allows, and on a CPU one, whose
        arithmetic is the limit: one after the other, the first results are there sooner.
    client : dask.distributed.Client, optional
        Run on its cluster instead: see Notes.
    **options
        Those of ``optimize`` (``pyramid``, ``history_size``, ``range_weight``, ...) and of
        ``StyleTransferLoss`` (``style_layers``, ``tv_weight``, ``convention``, ...). With a list
        of ``style_weights``, such as ``[(1, 0), (0.5, 0.5), (0, 1)]``, all styles are blended, and
        the blends take the place of the styles as an axis. A ``style_mask`` is for every style, or
        a list has one for each.

    Returns
    -------
    list of SweepPoint
        Named tuples (content, style, ratio, seed, result), with the places of content and style
        in their lists; the last axis changes fastest. Ctrl-C ends the sweep with the results so
        far. A run that fails (its loss is not finite at the start, an image is too small for a
        layer, memory does not suffice, its workers are killed) costs only itself: there is a
        warning, its ``result.problem`` says why, and its image is the start.

    Raises
    ------
    ValueError
        If an argument makes no sense, or the client is closed or without workers.
    TypeError
        If an option is unknown.
    ImportError
        If there is a client, but no Dask.
    Exception
        The first run's error, if every run fails; and what a callback raises. In the latter case
        the error has an attribute ``results``, the list of what is finished.

    Notes
    -----
    On a cluster the network and the images are sent once, and each run is a task; results come
    back as they finish, and are on the CPU. When a worker dies, its task runs again on another.
    Workers compute on their fastest device, on CPUs with their share of the machine's cores; to
    share out the GPUs of a machine, start its workers with dask-cuda. A bfloat16 network computes
    in float32 where the hardware knows no bfloat16. Ctrl-C cancels what has not begun; tasks
    already running finish, and their results are discarded.

    A result of a sweep does not hold the state of its optimiser: going on from it starts L-BFGS
    anew.
    """
    options |= {"steps": steps, "optimizer": optimizer, "lr": lr}
    job = _make_job(net, contents, styles, start, options)
    return _run(job, make_cases(job, ratios, seeds), batch, callback, client, list)


def _make_job(
    net: Features,
    contents: Sequence[torch.Tensor] | torch.Tensor,
    styles: Sequence[torch.Tensor] | torch.Tensor,
    start: torch.Tensor | Literal["content"] | None,
    options: dict[str, Any],
) -> Job:
    unknown = [name for name in options if name not in (*OPTIMIZE_OPTIONS, *LOSS_OPTIONS)]
    if unknown:
        raise TypeError(
            f"unknown option {', '.join(unknown)}; there are {', '.join(OPTIMIZE_OPTIONS)} (of "
            f"optimize) and {', '.join(LOSS_OPTIONS)} (of StyleTransferLoss)"
        )
    if not (start is None or (isinstance(start, str) and start == "content")):
        start = _validate.image("start", start, "an image (1, 3, H, W) or 'content'")
    each = image_list("styles", styles)
    loss_options = {name: options[name] for name in LOSS_OPTIONS if name in options}
    blends = loss_options.pop("style_weights", None)
    return Job(
        net,
        image_list("contents", contents),
        each,
        start,
        {name: options[name] for name in OPTIMIZE_OPTIONS if name in options},
        loss_options,
        [] if blends is None else make_blends(blends, options.get("style_layers"), len(each)),
    )


def _run(
    job: Job,
    cases: Sequence[Case],
    batch: int | None,
    callback: Callback | None,
    client: Client | None,
    present: Callable[[list[SweepPoint]], list[T]],
) -> list[T]:
    """Do all runs, or those before Ctrl-C, and return them as ``present`` has them.

    Ctrl-C may come at any line: what is finished is in ``outcomes``, and presenting it can begin
    again. Other errors, such as a callback's, take it along.
    """
    if batch is not None:
        _validate.positive_int("batch", batch)
    if callback is not None and not callable(callback):
        raise ValueError(f"callback must be a function; got {callback!r}")
    if client is not None:
        validate_client(client)
    outcomes: list[Outcome] = []
    try:
        if client is None:
            _run_locally(job, cases, batch, callback, outcomes)
        else:
            run_on_cluster(client, job, cases, callback, outcomes)
        return present(_points(job, outcomes))
    except KeyboardInterrupt:
        if not outcomes:
            raise
        return present(_points(job, outcomes))
    except CallbackError as wrapped:
        error = wrapped.error
    except Exception as other:
        error = other
    if any(result.history for _, result in outcomes):
        vars(error)["results"] = present(_points(job, outcomes))
    raise error


def _run_locally(
    job: Job,
    cases: Sequence[Case],
    batch: int | None,
    callback: Callback | None,
    outcomes: list[Outcome],
) -> None:
    """Do the runs on this machine, a batch at a time, and append them to ``outcomes``."""
    groups = deque(_batches(job, cases, batch))
    errors: list[Exception] = []
    while groups:
        group = groups.popleft()
        batch_callback = None if callback is None else fan_out(callback, group)
        try:
            outcomes.append((group, job.run(group, batch_callback)))
        except CallbackError:
            raise
        except Exception as error:
            if len(group) > 1:  # one by one: only those fail that must
                groups.extendleft([case] for case in reversed(group))
                continue
            errors.append(error)
            outcomes.append((group, job.failed(group[0], error)))
        result = replace(outcomes[-1][1], continuation=None)  # large
        outcomes[-1] = (group, result)
        if result.stopped in ("interrupted", "callback"):
            break
    if errors and not any(result.history for _, result in outcomes):
        raise errors[0]


def _batches(job: Job, cases: Sequence[Case], batch: int | None) -> Iterator[list[Case]]:
    groups: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(job.batch_key(case), []).append(case)
    for group in groups.values():
        try:
            size = batch or (job.batch_size(group[0]) if len(group) > 1 else 1)
        except ValueError:
            size = 1  # the run itself says what is wrong
        for first in range(0, len(group), size):
            yield group[first : first + size]


def _points(job: Job, outcomes: Sequence[Outcome]) -> list[SweepPoint]:
    """Return finished runs in the order of the grid, and warn of those that failed."""
    results: dict[Case, Result] = {}
    for cases, result in outcomes:
        results |= zip(cases, job.split(cases, result), strict=True)
    failed = [case for case in sorted(results) if not results[case].history]
    if failed and len(failed) == len(results):
        raise ValueError(results[failed[0]].problem)
    for case in failed:
        warnings.warn(f"{case} failed: {results[case].problem}", stacklevel=4)
    return [
        SweepPoint(case.content, case.style, case.ratio, case.seed, results[case])
        for case in sorted(results)
    ]


def _results_of_ratios(ratios: list[float], points: list[SweepPoint]) -> list[Result]:
    """Return the results, and warn if they are not those of the first ratios."""
    finished = [point.ratio for point in points]
    if finished != ratios[: len(finished)]:
        warnings.warn(f"the results are those of the ratios {finished}", stacklevel=4)
    return [point.result for point in points]
