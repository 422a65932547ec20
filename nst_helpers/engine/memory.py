"""Memory, in bytes: what a network and a minimiser need, what is free, and the one check."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import psutil
import torch

from nst_helpers import _validate
from nst_helpers.engine.ending import DEFAULT_LR
from nst_helpers.engine.lbfgs import LBFGS

__all__ = [
    "available_memory",
    "estimate_memory",
    "memory_in_use",
    "require_memory",
    "require_memory_of_run",
]

# Measured by scripts/measure/benchmark.py, part "memory".
BACKWARD_BYTES = 3  # for each activation of the widest layer: gradients beside what is held
FORWARD_BUFFERS = 2  # layers at a time where there is no backward pass, in float32
STRIP_ROWS = 96  # of the image's height: a strip of 64 rows, with its margins and its gradients
ADAM_COPIES = 4  # the image, its gradient and two moments


def estimate_memory(
    loss: Any, shape: Iterable[int], *, optimizer: str = "lbfgs", history_size: int = 30
) -> int:
    """Return about how many bytes ``optimize`` takes at its peak, beyond network and targets.

    Parameters
    ----------
    loss : Loss or callable
        Of a plain function, which has no ``memory_needed``, only the minimiser's part is counted.
    shape : iterable of int
        (B, 3, H, W) of the image.
    optimizer, history_size
        As for ``optimize``.
    """
    if not hasattr(loss, "memory_needed"):
        _validate.function("loss", loss, "a Loss, such as StyleTransferLoss, or a function")
    shape = _validate.shape_of_images("shape", shape)
    _validate.one_of("optimizer", optimizer, DEFAULT_LR)
    history_size = _validate.positive_int("history_size", history_size)
    for_loss = loss.memory_needed(shape) if hasattr(loss, "memory_needed") else 0
    return int(for_loss) + minimizer_memory(optimizer, math.prod(shape), history_size)


def network_memory(
    values_per_pixel: Mapping[str, float],
    shape: Iterable[int],
    *,
    bytes_per_value: int,
    strips: bool = False,
) -> int:
    """Return about how many bytes an evaluation with its backward pass takes at its peak.

    Parameters
    ----------
    values_per_pixel : mapping of str to float
        Of each layer that is held for the backward pass: see ``network.strips``.
    shape : iterable of int
        (B, 3, H, W) of the image.
    bytes_per_value : int
        Of an activation.
    strips : bool
        Whether blocks are computed in strips, and again in the backward pass: then only what goes
        from block to block is held, and one strip.
    """
    batch, _, height, width = _validate.shape_of_images("shape", shape)
    held, widest = sum(values_per_pixel.values()), max(values_per_pixel.values())
    if strips:
        share = min(1, STRIP_ROWS / height)
        pools = sum(n for layer, n in values_per_pixel.items() if layer.startswith("pool"))
        held = 2 * pools + (held - pools) * share  # the parts and their concatenation
        widest *= share
    per_pixel = held * bytes_per_value + BACKWARD_BYTES * widest
    return round(batch * height * width * per_pixel)


def target_memory(values_per_pixel: Mapping[str, float], shape: Iterable[int]) -> int:
    """Return about how many bytes an evaluation without a backward pass takes at its peak.

    Parameters
    ----------
    values_per_pixel, shape
        As for ``network_memory``.
    """
    batch, _, height, width = shape
    bytes_per_pixel = 4 * FORWARD_BUFFERS * max(values_per_pixel.values())
    return round(batch * height * width * bytes_per_pixel)


def minimizer_memory(optimizer: str, numbers: int, history_size: int) -> int:
    """Return about how many bytes a minimiser and the loop around it hold.

    Parameters
    ----------
    optimizer : {"lbfgs", "adam"}
    numbers : int
        Of the image: B * 3 * H * W.
    history_size : int
        Of L-BFGS.
    """
    if optimizer == "lbfgs":
        return LBFGS.bytes_needed(numbers, history_size)
    return 4 * ADAM_COPIES * numbers


def available_memory(device: torch.device | str) -> int:
    """Return how many bytes can still be allocated.

    Parameters
    ----------
    device : torch.device or str
        On the CPU, limits of this process (on Linux) count, and those of a container are not seen.
    """
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    return min(int(psutil.virtual_memory().available), *_left_by_limits())


def memory_in_use(device: torch.device | str) -> int:
    """Return how many bytes this process has, its libraries and images among them.

    Parameters
    ----------
    device : torch.device or str
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def _left_by_limits() -> Iterator[int]:
    """Yield what the process may still take by each of its own limits, in bytes."""
    yield sys.maxsize
    if sys.platform == "linux":
        process = psutil.Process()
        used = process.memory_info()
        for limit, taken in ((psutil.RLIMIT_DATA, used.data), (psutil.RLIMIT_AS, used.vms)):
            most, _ = process.rlimit(limit)
            if most != psutil.RLIM_INFINITY:
                yield max(0, most - taken)


def require_memory(needed: int, shape: Iterable[int], device: torch.device | str) -> None:
    """Raise if it does not fit, before the machine starts to swap.

    Parameters
    ----------
    needed : int
        Bytes.
    shape : iterable of int
        (B, 3, H, W) of the image that needs them.
    device : torch.device or str

    Raises
    ------
    ValueError
        If fewer bytes are free; it says which size would fit.
    """
    available = available_memory(device)
    if needed > available:
        _, _, height, width = shape
        scale = (available / needed) ** 0.5
        fitting = f"{int(width * scale)} x {int(height * scale)}"
        advice = (
            f"about {fitting} would fit"
            if min(width, height) * scale >= 1
            else ("no size fits: try fewer images at a time, or a smaller history_size")
        )
        raise ValueError(
            f"{width} x {height} pixels need about {needed / 2**30:.1f} GB of memory and "
            f"{available / 2**30:.1f} GB are free; {advice}"
        )


def require_memory_of_run(
    loss: Any, shape: Iterable[int], device: torch.device, optimizer: str, history_size: int
) -> None:
    """Raise if a run does not fit.

    Parameters
    ----------
    loss, shape
        As for ``estimate_memory``.
    device : torch.device
        Of the image, if the loss has none.
    optimizer, history_size
        As for ``estimate_memory``.

    Raises
    ------
    ValueError
        As ``require_memory``.
    """
    needed = estimate_memory(loss, shape, optimizer=optimizer, history_size=history_size)
    require_memory(needed, shape, loss.device or device)
