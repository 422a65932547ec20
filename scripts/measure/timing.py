"""Seconds, rates and peaks of memory, measured so that they can be compared."""

from __future__ import annotations

import gc
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import nst_helpers as nst

Work = Callable[[], object]


def seconds_of(work: Work, device: torch.device) -> float:
    """Return the seconds that ``work`` takes, with everything it started on a GPU."""
    synchronise(device)
    started_at = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started_at


def synchronise(device: torch.device) -> None:
    """Wait until the device has done everything it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(works: dict[str, Work], device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Time works one after the other, round after round, so that all meet the same noise."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for count in range(rounds + 1):
        for name, work in works.items():
            elapsed = seconds_of(work, device)
            if count:  # the first round sets things up
                seconds[name].append(elapsed)
    return seconds


def spread(values: Iterable[float], scale: float = 1.0) -> str:
    """Return median and range, as text."""
    values = sorted(scale * value for value in values)
    return f"{statistics.median(values):.3g} ({values[0]:.3g} to {values[-1]:.3g})"


def ratio(above: list[float], below: list[float]) -> float:
    """Return the median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return operations per second of a large matrix product, the best of several."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / min(seconds_of(lambda: a @ b, device) for _ in range(8))


def seconds_by_operator(work: Work, device: torch.device) -> dict[str, float]:
    """Return the seconds of each operator on the CPU, or of each kernel on a GPU, by name."""
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]) as profiler:
        work()
        synchronise(device)
    seconds: dict[str, float] = {}
    for event in profiler.key_averages():
        # An operator has the time of its kernels, too, which are there by themselves.
        if event.device_type == (DeviceType.CUDA if on_gpu else DeviceType.CPU):
            time_of = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            seconds[event.key] = seconds.get(event.key, 0) + time_of / 1e6
    return seconds


def peak_memory(work: Work, device: torch.device) -> float:
    """Return the most memory in use while ``work`` runs, above what was there before, in MB."""
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    process, stop = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    stop.set()
    watcher.join()
    return (peak - before) / 2**20


def describe_machine(device: torch.device) -> str:
    """Return one line on device, processor and torch."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if device.type == "cpu" and cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((s.split(": ")[1] for s in lines if s.startswith("model name")), name)
    return f"{nst.describe_device(device)}, {name}, torch {torch.__version__}"
