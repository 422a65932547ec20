"""How many threads a step on the CPU takes: as many as there are cores that nobody else uses.

The threads of one operation wait for each other, and spin meanwhile. Two processes with a thread
for each core therefore wait for threads that have no core: two painters on two cores then get half
of what one alone gets, and at times a tenth, where one thread each would lose nothing.

The number of threads changes while a picture is painted, so the picture must not depend on it:
sums are taken in an order that does not.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable

import psutil
import torch

__all__ = ["free_cores", "on_free_cores", "release_threads", "sum_per_image"]

PARTS = 16  # of a sum
LOOK_EVERY = 0.5  # seconds, long enough for the system's count of processor time to say something


def on_free_cores(step: Callable[[], None], device: torch.device | str) -> Callable[[], None]:
    """Return ``step`` as it runs with one thread for each core that is free.

    It looks at the machine again now and then, never takes more threads than torch had, and gives
    torch's number back after each step. On other devices, or where torch has one thread, it is
    the step itself.

    Parameters
    ----------
    step : callable
    device : torch.device or str
    """
    limit = torch.get_num_threads()
    if torch.device(device).type != "cpu" or limit == 1:
        return step
    threads, before = limit, _processor_seconds()

    def run() -> None:
        nonlocal threads, before
        if time.perf_counter() - before[0] >= LOOK_EVERY:
            now = _processor_seconds()
            threads = min(limit, free_cores(before, now, threads))
            before = now
        if threads == limit:
            step()
            return
        try:
            try:
                torch.set_num_threads(threads)
                step()
            finally:
                torch.set_num_threads(limit)
        finally:  # once more, for an interrupt may come before the line above
            torch.set_num_threads(limit)

    return run


def free_cores(
    before: tuple[float, float, float], now: tuple[float, float, float], threads: int
) -> int:
    """Return how many cores nobody else used between two looks, rounded, and at least 1.

    Parameters
    ----------
    before, now : tuple of float
        Seconds by the clock, of all cores busy, and of this thread's processor time.
    threads : int
        How many of them this thread kept busy: those that wait for it spin.
    """
    clock, busy, own = (b - a for a, b in zip(before, now, strict=True))
    others = (busy - own * threads) / clock
    cores = psutil.cpu_count() or 1
    return min(cores, max(1, round(cores - others)))


def release_threads() -> None:
    """End the threads that compute with this one; its next operation begins new ones.

    OpenMP holds some for every thread that ever computed. Once they are more than the cores, those
    of GNU's OpenMP sleep between two operations where they would have spun, and steps take half as
    long again: call this before another thread is to paint.
    """
    if sys.platform == "linux":
        openmp = ctypes.CDLL(None)  # where torch's own is found, too
        if hasattr(openmp, "omp_pause_resource_all"):
            openmp.omp_pause_resource_all(1)  # omp_pause_soft


def sum_per_image(values: torch.Tensor) -> torch.Tensor:
    """Return the sum over all but the first dimension: (B, ...) to (B,).

    Torch shares a lone sum among its threads, and how it is rounded then depends on their number;
    of several sums each is one thread's. So this takes sixteen, and adds them.

    Parameters
    ----------
    values : torch.Tensor
        (B, ...).
    """
    rows = values.flatten(1)
    rest = rows.shape[1] % PARTS
    parts: torch.Tensor = rows[:, rest:].unflatten(1, (PARTS, -1)).sum(2)
    total = parts.sum(1)
    return total + rows[:, :rest].sum(1) if rest else total


def _processor_seconds() -> tuple[float, float, float]:
    times = psutil.cpu_times()
    # Waiting for a disk is idle; a guest's time is counted in user already.
    busy = (
        sum(times)
        - times.idle
        - sum(getattr(times, name, 0.0) for name in ("iowait", "guest", "guest_nice"))
    )
    return time.perf_counter(), busy, time.thread_time()
