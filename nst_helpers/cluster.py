"""The runs of a sweep on a Dask cluster, each a task of its own.

What a run is, ``sweeps`` knows: it hands its job over. Dask is imported only where it is used.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import torch
from tqdm.auto import tqdm

from nst_helpers.engine.devices import best_device, best_precision
from nst_helpers.network.features import Features
from nst_helpers.optimization import Progress, Result

__all__ = ["run_on_cluster", "validate_client"]

CaseT = TypeVar("CaseT", contravariant=True)


class Job(Protocol[CaseT]):
    """What all runs share, and how to do one; it is pickled."""

    net: Features

    def to(self, device: torch.device | str) -> Self:
        """Return a copy for another machine: the network on ``device``, images on the CPU."""

    def run(self, cases: Sequence[CaseT]) -> Result:
        """Do the runs in one batch."""

    def failed(self, case: CaseT, problem: object) -> Result:
        """Return the result of a run of which nothing came: its start, and the reason."""


def run_on_cluster(
    client: Any,
    job: Job[CaseT],
    cases: Sequence[CaseT],
    callback: Callable[[int, Progress], object] | None,
    outcomes: list[tuple[Sequence[CaseT], Result]],
) -> None:
    """Do each run as a task.

    Parameters
    ----------
    client : dask.distributed.Client
        See ``validate_client``.
    job, cases
        What the runs share, sent once, and the runs; those in front go first.
    callback : callable, optional
        Called with the place of a case and the ``Progress`` at its end, when it has come back. If
        it returns False, what has not begun is cancelled.
    outcomes : list
        Gets ([case], result) of each: filled in place, because then Ctrl-C loses nothing. The
        error of a run costs only that run, unless every run fails: then the first one is raised.
    """
    from distributed import as_completed

    slots: Counter[str] = Counter()  # tasks that a machine does at the same time
    for address, threads in client.nthreads().items():
        slots[_host(address)] += threads
    futures: dict[Any, int] = {}
    errors: list[Exception] = []
    # The job is a task, too: sent once, copied from worker to worker, and if it is lost with the
    # last of them that had it, the scheduler has it again. Scattered data would be gone.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")
        shared = client.submit(_identity, job.to("cpu"), pure=False)
    try:
        for number, case in enumerate(cases):
            task = (_run_on_worker, shared, case, dict(slots))
            futures[client.submit(*task, pure=False, priority=-number)] = number
        with tqdm(total=len(cases), unit="run") as bar:
            for future in as_completed(list(futures)):
                number = futures[future]
                try:
                    outcomes.append(([cases[number]], future.result()))
                except Exception as error:
                    errors.append(error)
                    outcomes.append(([cases[number]], job.failed(cases[number], error)))
                bar.update()
                _, result = outcomes[-1]
                if callback and result.history and callback(number, Progress.of(result)) is False:
                    break
        if errors and not any(result.history for _, result in outcomes):
            raise errors[0]
    finally:
        if client.status == "running":
            client.cancel([*futures, shared])


def validate_client(client: Any) -> None:
    """Raise ImportError without Dask, and ValueError if ``client`` cannot run anything now."""
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


def _identity(job: Job[CaseT]) -> Job[CaseT]:
    return job


def _run_on_worker(job: Job[CaseT], case: CaseT, slots: Mapping[str, int]) -> Result:
    """Do one run on a worker, with its share of the machine's cores as threads."""
    from dask.system import CPU_COUNT
    from distributed import get_worker

    worker = get_worker()
    tasks = slots.get(_host(worker.address)) or worker.state.nthreads
    torch.set_num_threads(max(1, CPU_COUNT // tasks))
    device = best_device()
    job = job.to(device)  # a copy: the original is shared with the worker's other tasks
    if best_precision(device) == "float32":  # bfloat16 would be emulated, and slow
        job.net.to_precision("float32")
    return replace(job.run([case]), continuation=None)  # large


def _host(address: str) -> str:
    return urlsplit(address).hostname or address
