"""Which device computes, in which dtype, and CUDA graphs."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from typing import Literal

import torch

__all__ = ["best_device", "best_precision", "capture_cuda_graph", "describe_device"]

Precision = Literal["float32", "bfloat16"]
WARM_UP = 3  # steps before one is captured
PRECISIONS: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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


def best_precision(device: torch.device | str) -> Precision:
    """Return the dtype in which a network runs fastest without changing the picture.

    "bfloat16" where the hardware multiplies it at twice the rate and more: processors with
    AVX512_BF16 or AMX, and GPUs from NVIDIA's Ampere on. Sums stay in float32 there, and so do
    Gram matrices, losses and the image. Else "float32", which on a GPU means what torch's own
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
    # Private names of torch are the only ones that tell; where one is missing, float32 is right, if
    # slow. Timing it would not do: bfloat16 without the hardware is emulated, and takes minutes.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return torch.backends.mkldnn.is_available() and any(
        hasattr(torch.cpu, name) and getattr(torch.cpu, name)() for name in names
    )


def capture_cuda_graph(step: Callable[[], None], device: torch.device | str) -> Callable[[], None]:
    """Return ``step`` captured as a CUDA graph, which launches all its kernels at once.

    Small images keep a GPU busy for less time than Python takes to launch the hundreds of kernels
    of one step; captured, they are launched without Python. The first calls run ``step`` itself, so
    that whatever it creates lazily exists; the next one captures it. On other devices, or where
    capture fails, it is always the step itself.

    Parameters
    ----------
    step : callable
        Reads and writes the same tensors every time, does not synchronise with the host, and
        depends on no number of Python's that changes.
    device : torch.device or str
    """
    device = torch.device(device)
    if device.type != "cuda":
        return step
    calls, run = 0, step

    def captured() -> None:
        nonlocal calls, run
        if calls == WARM_UP:
            run = _captured(step, device)
        calls += 1
        run()

    return captured


def _captured(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    try:
        with torch.cuda.device(device):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):  # captured, not run
                step()
    except RuntimeError as error:
        warnings.warn(f"no CUDA graph, which only costs time: {error}", stacklevel=2)
        return step
    return graph.replay
