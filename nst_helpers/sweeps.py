"""Many runs, few knobs: a grid over pictures, ratios and seeds; Fig. 4 of Gatys et al. 2016.

On one machine runs share batches; on a cluster each is a task of its own. What a run paints does
not depend on which.
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import torch
from tqdm.auto import tqdm

from nst_helpers.engine.devices import available_memory, best_device, best_precision
from nst_helpers.network.features import Features
from nst_helpers.images import noise_like
from nst_helpers.losses import StyleTransferLoss
from nst_helpers.optimization import Progress, Result, estimate_memory, optimize

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["alpha_beta_sweep", "sweep"]

RATIOS = (1e-4, 1e-3, 1e-2, 1e-1)
SHARE = 0.8  # of the free memory is for a batch: estimates may be a quarter too low


class Run(NamedTuple):
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
    steps: int | Sequence[int] = 300,
    start: torch.Tensor | str | None = None,
    seed: int = 0,
    optimizer: str = "lbfgs",
    lr: float | None = None,
    callback: Callable[[int, Progress], object] | None = None,
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
        alpha/beta; beta is 1.
    seed : int
        Of the white noise where every run starts, if there is no ``start``.
    steps, start, optimizer, lr, callback, batch, client, **options
        As for ``sweep``; a run's number is the place of its ratio.

    Returns
    -------
    list of Result
        In the order of ``ratios``. Ctrl-C ends the sweep with the results so far. On a cluster
        these need not be the first ones; then a warning says whose they are.

    Raises
    ------
    ValueError, ImportError
        See ``sweep``.
    """
    ratios = list(ratios)
    runs = sweep(
        net,
        [content],
        [style],
        ratios,
        [seed],
        steps=steps,
        start=start,
        optimizer=optimizer,
        lr=lr,
        callback=callback,
        batch=batch,
        client=client,
        **options,
    )
    finished = [run.ratio for run in runs]
    if finished != ratios[: len(finished)]:
        warnings.warn(f"the results are those of the ratios {finished}", stacklevel=2)
    return [run.result for run in runs]


def sweep(
    net: Features,
    contents: Sequence[torch.Tensor] | torch.Tensor,
    styles: Sequence[torch.Tensor] | torch.Tensor,
    ratios: Iterable[float] = RATIOS,
    seeds: Iterable[int] = (0,),
    *,
    steps: int | Sequence[int] = 300,
    start: torch.Tensor | str | None = None,
    optimizer: str = "lbfgs",
    lr: float | None = None,
    callback: Callable[[int, Progress], object] | None = None,
    batch: int | None = None,
    client: Client | None = None,
    **options: Any,
) -> list[Run]:
    """Transfer every style to every content, with every ratio alpha/beta, from every seed.

    Parameters
    ----------
    net : Features
        See ``load_network``.
    contents, styles : sequence of torch.Tensor
        (1, 3, H, W) in [0, 1] each; sizes may differ. One tensor (N, 3, H, W) is N pictures.
    ratios : iterable of float
        alpha/beta; beta is 1.
    seeds : iterable of int
        Of the white noise where a run starts, if there is no ``start``.
    steps, optimizer, lr
        As for ``optimize``.
    start : torch.Tensor or "content", optional
        Where every run starts: this picture, or its own content.
    callback : callable, optional
        Called after each step with the run's number, from 0, and its ``Progress``; on a cluster
        once for each run, when it has come back. If it returns False, the sweep ends there.
    batch : int, optional
        At most how many runs to optimise at once on this machine; only contents of one shape go
        together. By default as many as the memory of a GPU allows, and on a CPU one, whose
        arithmetic is the limit: one after the other, the first pictures are there sooner.
    client : dask.distributed.Client, optional
        Run on its cluster instead: see Notes.
    **options
        Those of ``optimize`` (``pyramid``, ``history``, ``range_weight``, ...) and of
        ``StyleTransferLoss`` (``style_layers``, ``tv_weight``, ``convention``, ...).

    Returns
    -------
    list of Run
        Named tuples (content, style, ratio, seed, result), with the places of content and style
        in their lists; the last axis changes fastest. Ctrl-C ends the sweep with the results so
        far. A run whose loss is not finite at its start, or that kills its workers, costs only
        itself: there is a warning, its ``result.stopped`` says why, and its image is the start.

    Raises
    ------
    ValueError
        If an argument makes no sense, the client is closed or without workers, or no run has a
        loss that is finite.
    ImportError
        If there is a client, but no Dask.

    Notes
    -----
    On a cluster the network and the pictures are sent once, and each run is a task; results come
    back as they finish, and are on the CPU. When a worker dies, its task runs again on another.
    Workers compute on their fastest device, on CPUs with their share of the machine's cores; to
    share out the GPUs of a machine, start its workers with dask-cuda. A bfloat16 network computes
    in float32 where the hardware knows no bfloat16. Ctrl-C takes back what has not begun; what a
    worker has begun it ends, for nobody.
    """
    how = {"steps": steps, "optimizer": optimizer, "lr": lr}
    how |= {k: options.pop(k) for k in inspect.signature(optimize).parameters if k in options}
    contents, styles = _pictures("contents", contents), _pictures("styles", styles)
    job = _Job(net, contents, styles, _start(start), how, options)
    grid = product(range(len(contents)), range(len(styles)), _ratios(ratios), _seeds(seeds))
    cases = [_Case(number, *axes) for number, axes in enumerate(grid)]
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise ValueError(f"batch must be a whole number, 1 or more; got {batch!r}")
    if client is None:
        results = _here(job, cases, batch, callback)
    else:
        _check_client(client)
        results = _on_cluster(client, job, cases, callback)
    failed = [case for case in cases if case.number in results and not results[case.number].history]
    if failed and len(failed) == len(results):
        raise ValueError(results[failed[0].number].stopped)
    for case in failed:
        warnings.warn(f"{case} failed: {results[case.number].stopped}", stacklevel=2)
    return [Run(*case[1:], results[case.number]) for case in cases if case.number in results]


class _Case(NamedTuple):
    """What is to be run."""

    number: int
    content: int
    style: int
    ratio: float
    seed: int

    def __str__(self) -> str:
        _, content, style, ratio, seed = self
        return f"the run of content {content}, style {style}, ratio {ratio:g}, seed {seed}"


@dataclass
class _Job:
    """What all runs of a sweep share, and how to do some of them; goes to a worker as it is."""

    net: Features
    contents: list[torch.Tensor]
    styles: list[torch.Tensor]
    start: torch.Tensor | str | None
    how: Mapping[str, Any]  # to optimise
    wanted: Mapping[str, Any]  # of the loss

    def kind(self, case: _Case) -> tuple:
        """Return what runs have in common that go into one batch."""
        content, style = self.contents[case.content], self.styles[case.style]
        several = content.shape[0] > 1 or style.shape[0] > 1  # a batch already
        # Without weight the content is not even looked at: another loss.
        return content.shape, case.ratio == 0, case.number if several else None

    def loss(self, cases: Sequence[_Case]) -> StyleTransferLoss:
        """Return the loss of runs of one kind, which judges each by its own pictures and ratio."""
        contents = _distinct(self.contents, [case.content for case in cases])
        styles = _distinct(self.styles, [case.style for case in cases])
        ratios = [case.ratio for case in cases]
        alpha = ratios if len(cases) > 1 else ratios[0]
        content = torch.cat(contents)
        return StyleTransferLoss(self.net, content, styles, alpha=alpha, beta=1.0, **self.wanted)

    def starts(self, cases: Sequence[_Case]) -> torch.Tensor:
        """Return where runs start, (B, 3, H, W)."""
        contents = [self.contents[case.content] for case in cases]
        if torch.is_tensor(self.start):
            return torch.cat([self.start for _ in cases])
        if self.start == "content":
            return torch.cat(contents)
        pairs = zip(contents, cases, strict=True)
        return torch.cat([noise_like(content, case.seed) for content, case in pairs])

    def most_at_once(self, case: _Case) -> int:
        """Return how many runs like this one the device can do together."""
        if not _is_gpu(self.net.device):
            return 1
        known = {k: self.how[k] for k in ("optimizer", "history") if k in self.how}
        needed = estimate_memory(self.loss([case]), self.starts([case]).shape, **known)
        return max(1, int(SHARE * available_memory(self.net.device) / needed))

    def go(self, cases: Sequence[_Case], callback: Callable | None = None) -> list[Result]:
        """Return the results of runs of one kind, done in one batch."""
        loss, starts = self.loss(cases), self.starts(cases)
        tell = None if callback is None else _tell(callback, cases)
        try:
            result = optimize(loss, starts, callback=tell, **self.how)
        except ValueError as error:
            if _any_finite(loss, starts):
                raise  # something else is wrong, and likely with every run
            return [self.failed(case, error) for case in cases]
        if len(cases) == 1:
            return [result]
        problem = "the loss is not finite at the start"
        return [
            own if math.isfinite(own.history[-1]["total"]) else self.failed(case, problem)
            for case, own in zip(cases, result.split(), strict=True)
        ]

    def failed(self, case: _Case, problem: object) -> Result:
        """Return what is left of a run of which nothing came: its start, and the reason."""
        return Result(self.starts([case]).clamp(0, 1), stopped=str(problem))

    def portable(self) -> _Job:
        """Return the job as any machine can take it: on the CPU."""
        return replace(
            self,
            net=copy.deepcopy(self.net).cpu(),
            contents=[picture.cpu() for picture in self.contents],
            styles=[picture.cpu() for picture in self.styles],
            start=self.start.cpu() if torch.is_tensor(self.start) else self.start,
        )


def _distinct(pictures: list[torch.Tensor], which: Sequence[int]) -> list[torch.Tensor]:
    """Return the picture of each run, or only one if it is the same for all."""
    return [pictures[i] for i in (which if len(set(which)) > 1 else which[:1])]


def _is_gpu(device: torch.device) -> bool:
    return device.type != "cpu"


def _any_finite(loss: StyleTransferLoss, starts: torch.Tensor) -> bool:
    try:
        return bool(loss(starts.to(loss.device)).total.isfinite().any())
    except ValueError:
        return True


def _here(
    job: _Job, cases: list[_Case], batch: int | None, callback: Callable | None
) -> dict[int, Result]:
    """Do the runs on this machine, a batch at a time; return results by the run's number."""
    results = {}
    try:
        for together in _batches(job, cases, batch):
            found = job.go(together, callback)
            results |= {case.number: own for case, own in zip(together, found, strict=True)}
            if any(own.stopped in ("interrupted", "callback") for own in found):
                break
    except KeyboardInterrupt:  # before a batch's first step
        if not results:
            raise
    return results


def _batches(job: _Job, cases: list[_Case], batch: int | None) -> Iterator[list[_Case]]:
    kinds: dict[tuple, list[_Case]] = {}
    for case in cases:
        kinds.setdefault(job.kind(case), []).append(case)
    for alike in kinds.values():
        most = batch or (job.most_at_once(alike[0]) if len(alike) > 1 else 1)
        for first in range(0, len(alike), most):
            yield alike[first : first + most]


def _tell(
    callback: Callable[[int, Progress], object], cases: Sequence[_Case]
) -> Callable[[Progress], bool]:
    """Return what tells each run of a batch its own progress."""

    def tell(progress: Progress) -> bool:
        for case, own in zip(
            cases, progress.split() if len(cases) > 1 else [progress], strict=True
        ):
            if math.isfinite(own.terms["total"]) and callback(case.number, own) is False:
                return False
        return True

    return tell


def _on_cluster(
    client: Client, job: _Job, cases: list[_Case], callback: Callable | None
) -> dict[int, Result]:
    """Do each run as a task of its own; return results by the run's number."""
    from distributed import as_completed

    slots: Counter[str] = Counter()  # tasks that a machine does at the same time
    for address, threads in client.nthreads().items():
        slots[_host(address)] += threads
    # The job is a task, too: sent once, copied from worker to worker, and if it is lost with the
    # last of them that had it, the scheduler has it again. What is scattered would be gone.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")
        data = client.submit(_same, job.portable(), pure=False)
    tasks = {
        client.submit(_task, data, case, dict(slots), pure=False, priority=-case.number): case
        for case in cases
    }
    results: dict[int, Result] = {}
    try:
        with tqdm(total=len(cases), unit="run") as bar:
            for future in as_completed(list(tasks)):
                case = tasks.pop(future)
                try:
                    result = future.result()
                except Exception as error:
                    if not results:
                        raise
                    result = job.failed(case, error)
                results[case.number] = result
                bar.update()
                if callback and result.history and callback(case.number, _end(result)) is False:
                    break
    except KeyboardInterrupt:
        if not results:
            raise
    finally:
        if client.status == "running":
            client.cancel([*tasks, data])
    return results


def _same(job: _Job) -> _Job:
    return job


def _task(job: _Job, case: _Case, slots: Mapping[str, int]) -> Result:
    """Do one run on a worker, with as many threads as it has cores to itself."""
    from dask.system import CPU_COUNT
    from distributed import get_worker

    worker = get_worker()
    tasks = slots.get(_host(worker.address)) or worker.state.nthreads
    torch.set_num_threads(max(1, CPU_COUNT // tasks))
    device = best_device()
    net = copy.deepcopy(job.net).to(device)  # the job is shared with the worker's other tasks
    if best_precision(device) == "float32":  # bfloat16 would be emulated, and slow
        net.to_precision("float32")
    return replace(job, net=net).go([case])[0]


def _host(address: str) -> str:
    return urlsplit(address).hostname or address


def _end(result: Result) -> Progress:
    last = result.history[-1]
    terms = {name: last[name] for name in last.keys() - {"step", "seconds", "size"}}
    said = (last["step"], last["step"], terms, last["seconds"])
    return Progress(*said, result.unclipped, _result=lambda: result)


def _check_client(client: object) -> None:
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError('client= needs Dask: pip install "nst_helpers[cluster]"') from error
    if not isinstance(client, Client) or client.asynchronous:
        raise ValueError(
            f"client must be a dask.distributed.Client, not asynchronous; got {client!r}"
        )
    if client.status != "running":
        raise ValueError(f"client must be connected to a cluster; this one is {client.status}")
    if not client.nthreads():
        raise ValueError("client has no workers yet: start some, client.wait_for_workers(1)")


def _pictures(name: str, pictures: Sequence[torch.Tensor] | torch.Tensor) -> list[torch.Tensor]:
    pictures = list(pictures.split(1) if torch.is_tensor(pictures) else pictures)
    for picture in pictures:
        if not (torch.is_tensor(picture) and picture.dim() == 4 and picture.shape[1] == 3):
            shape = tuple(picture.shape) if torch.is_tensor(picture) else picture
            raise ValueError(f"{name} must be images (1, 3, H, W); got {shape!r}")
    return pictures


def _start(start: torch.Tensor | str | None) -> torch.Tensor | str | None:
    if torch.is_tensor(start) or start is None or (isinstance(start, str) and start == "content"):
        return start
    raise ValueError(f"start must be an image (1, 3, H, W) or 'content'; got {start!r}")


def _ratios(ratios: Iterable[float]) -> list[float]:
    ratios = [float(ratio) for ratio in ratios]
    for ratio in ratios:
        if not (math.isfinite(ratio) and ratio >= 0):
            raise ValueError(f"ratios must be numbers >= 0; got {ratio!r}")
    return ratios


def _seeds(seeds: Iterable[int]) -> list[int]:
    seeds = list(seeds)
    if not all(isinstance(seed, Integral) for seed in seeds):
        raise ValueError(f"seeds must be whole numbers; got {seeds!r}")
    return seeds
