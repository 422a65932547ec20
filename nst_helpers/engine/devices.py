"""Where the arithmetic happens, and whether it fits: decided in one place."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterable

import psutil
import torch

__all__ = [
    "available_memory",
    "best_device",
    "best_precision",
    "check_memory",
    "describe_device",
    "record",
]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def best_device() -> torch.device:
    """Return the fastest device of this machine: CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def describe_device(device: torch.device | str) -> str:
    """Return one line for people, such as ``"CPU (2 threads, x86_64)"``.

    Parameters
    ----------
    device : torch.device or str
    """
    device = torch.device(device)
    if device.type == "cuda":
        return f"GPU ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return "GPU (Apple, MPS)"
    threads = torch.get_num_threads()
    return f"CPU ({threads} thread{'s' * (threads > 1)}, {platform.machine()})"


def best_precision(device: torch.device | str) -> str:
    """Return in which numbers a network runs fastest without changing the picture.

    "bfloat16" where the hardware multiplies it at twice the rate and more: processors with
    AVX512_BF16 or AMX, and GPUs from NVIDIA's Ampere on. Sums stay in float32 there, and so do
    Gram matrices, losses and the picture. Else "float32", which on a GPU means what torch's own
    settings make of it: TensorFloat-32 in convolutions unless you switch it off.

    Parameters
    ----------
    device : torch.device or str
    """
    device = torch.device(device)
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    if device.type == "cpu" and _cpu_multiplies_bfloat16():
        return "bfloat16"
    return "float32"


def _cpu_multiplies_bfloat16() -> bool:
    # Torch tells it by two private names; where they are gone, float32 is right if slow. Never
    # by trying: without the hardware bfloat16 is emulated, and slower than float32.
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    found = (getattr(torch.cpu, name, lambda: False) for name in tests)
    return torch.backends.mkldnn.is_available() and any(test() for test in found)


def available_memory(device: torch.device | str) -> int:
    """Return how many bytes can still be allocated.

    Parameters
    ----------
    device : torch.device or str
        Where. On the CPU, limits of a container are not seen.
    """
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held_but_unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + held_but_unused
    return psutil.virtual_memory().available


def check_memory(needed: int, shape: Iterable[int], device: torch.device | str) -> None:
    """Refuse what cannot fit, before the machine starts to swap.

    Parameters
    ----------
    needed : int
        Bytes.
    shape : iterable of int
        (B, 3, H, W) of the picture that needs them.
    device : torch.device or str

    Raises
    ------
    ValueError
        If fewer bytes are free; it says which size would fit.
    """
    there = available_memory(device)
    if needed > there:
        _, _, height, width = shape
        scale = (there / needed) ** 0.5
        raise ValueError(
            f"{width} x {height} pixels need about {needed / 2**30:.1f} GB of memory and "
            f"{there / 2**30:.1f} GB are free; about {int(width * scale)} x "
            f"{int(height * scale)} would fit"
        )


def record(step: Callable[[], None], device: torch.device | str) -> Callable[[], None]:
    """Return ``step`` recorded as a CUDA graph, which starts all its kernels at once.

    Small pictures keep a GPU busy for less time than Python takes to start the hundreds of kernels
    of one step; recorded, they start without Python. Elsewhere, or where recording fails, the step
    itself is returned.

    Parameters
    ----------
    step : callable
        Reads and writes the same tensors every time, waits for nothing, and depends on no number
        of Python's that changes. It has run before, so that everything it needs is set up.
    device : torch.device or str
    """
    device = torch.device(device)
    if device.type != "cuda":
        return step
    try:
        with torch.cuda.device(device):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):  # nothing is computed here, only noted
                step()
    except RuntimeError as error:
        warnings.warn(f"not recorded as a CUDA graph, which only costs time: {error}", stacklevel=2)
        return step
    return graph.replay
