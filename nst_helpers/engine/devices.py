"""Which device computes, in which dtype, and CUDA graphs."""

from __future__ import annotations

import platform
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import torch

from nst_helpers import _validate
from nst_helpers.language import _

__all__ = [
    "best_device",
    "best_precision",
    "capture_cuda_graph",
    "describe_device",
    "own_modes",
    "validate_device",
]

Precision = Literal["float32", "bfloat16"]
WARM_UP = 3  # steps before one is captured
CAPTURING = threading.Lock()  # torch captures one at a time
PRECISIONS: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def best_device() -> torch.device:
    """Return the fastest device of this machine: CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def validate_device(name: str, device: Any, is_here: bool = True) -> torch.device:
    """Return ``device`` as torch's, if this machine has it.

    Parameters
    ----------
    name : str
        What to call it in messages.
    device : torch.device or str
    is_here : bool
        Whether tensors must find a place on it.

    Raises
    ------
    ValueError
        If there is no such device, or one that holds no values.
    """
    what = "a device that torch has here, such as 'cpu', 'cuda', 'cuda:1' or 'mps'"
    _validate.instance(name, device, (torch.device, str), what)
    try:
        found = torch.device(device)
        if is_here:
            torch.empty(1, device=found).item()  # "meta" has no value
    except Exception as error:  # of any kind: torch's own, or that of a driver
        raise _validate.wrong(name, what, device) from error
    return found


@contextmanager
def own_modes() -> Iterator[None]:
    """Leave the modes that another cell has switched on: inference mode and autocast.

    A tensor that is made in inference mode takes no part in a gradient ever after, and autocast
    would round what is to be float32. Gradients are recorded or not, as before.
    """
    records = torch.is_grad_enabled()
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(records),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


def describe_device(device: torch.device | str) -> str:
    """Return one line for people, such as ``"CPU (2 threads, x86_64)"``.

    Parameters
    ----------
    device : torch.device or str
    """
    device = validate_device("device", device, is_here=False)
    if device.type == "cuda":
        return f"GPU ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return "GPU (Apple, MPS)"
    threads = torch.get_num_threads()
    text = _("CPU ({} threads, {})") if threads > 1 else _("CPU ({} thread, {})")
    return text.format(threads, platform.machine())


def best_precision(device: torch.device | str) -> Precision:
    """Return the dtype in which a network runs fastest without changing the picture.

    "bfloat16" where the hardware multiplies it at twice the rate and more: processors with
    AVX512_BF16 or AMX, and GPUs from NVIDIA's Ampere on. Sums stay in float32 there, and so do
    Gram matrices, losses and the image; only while a CPU paints is how far a Gram matrix is from
    its target rounded to bfloat16. Else "float32", which on a GPU means what torch's own settings
    make of it: TensorFloat-32 in convolutions unless you switch it off.

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
        with (
            CAPTURING,
            torch.cuda.device(device),
            # Where a capture fails, torch leaves its stream behind as the current one.
            torch.cuda.stream(torch.cuda.current_stream(device)),
        ):
            graph, stream = torch.cuda.CUDAGraph(), _capture_stream(torch.cuda.current_device())
            # Captured, not run. What other threads do meanwhile is theirs.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                step()
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), "")
        warnings.warn(f"no CUDA graph, which only costs time: {reason}", stacklevel=2)
        return step
    return graph.replay


@cache
def _capture_stream(index: int) -> torch.cuda.Stream:
    """Return one stream for each GPU: torch's own is always the first GPU's."""
    return torch.cuda.Stream(index)
