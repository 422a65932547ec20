"""Where the arithmetic happens, and whether it fits: decided in one place."""

from __future__ import annotations

import platform

import psutil
import torch

__all__ = ["available_memory", "best_device", "describe_device"]


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
