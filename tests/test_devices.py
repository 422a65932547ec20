"""Where the arithmetic happens, and how much memory there is."""

from pathlib import Path

import psutil
import pytest
import torch

from nst_helpers.engine.devices import (
    best_device,
    best_precision,
    capture_cuda_graph,
    describe_device,
)
from nst_helpers.engine.memory import available_memory

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_there_is_is_chosen(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device() == torch.device(expected)


def test_the_best_device_can_compute():
    assert torch.ones(3, device=best_device()).sum().item() == 3


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_the_cpu_is_described_with_its_threads(monkeypatch, device):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert describe_device(device).startswith("CPU (1 thread, ")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert describe_device(device).startswith("CPU (8 threads, ")


def test_a_gpu_is_described_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Model 9")
    assert describe_device("cuda") == "GPU (Model 9)"
    assert describe_device("mps") == "GPU (Apple, MPS)"


def test_available_memory_is_between_nothing_and_all():
    memory = available_memory("cpu")
    assert isinstance(memory, int)
    assert 0 < memory <= psutil.virtual_memory().total


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="needs Linux")
def test_available_memory_is_what_linux_says_at_most():
    lines = Path("/proc/meminfo").read_text().splitlines()
    (kilobytes,) = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    assert available_memory("cpu") < kilobytes * 1024 + 2**29


@GPU
def test_a_gpus_memory_shrinks_by_what_is_held_and_grows_back():
    before = available_memory("cuda")
    held = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    assert before - available_memory("cuda") == pytest.approx(2**28, rel=0.1)
    del held
    assert available_memory("cuda") == pytest.approx(before, rel=0.01)


@pytest.mark.parametrize(
    ("bf16", "amx", "mkldnn", "expected"),
    [
        (True, False, True, "bfloat16"),
        (False, True, True, "bfloat16"),
        (False, False, True, "float32"),
        (True, True, False, "float32"),
    ],
)
def test_a_cpu_computes_in_what_it_multiplies_fastest(monkeypatch, bf16, amx, mkldnn, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: mkldnn)
    assert best_precision("cpu") == expected


def test_a_torch_that_does_not_tell_gets_float32(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert best_precision("cpu") == "float32"


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_gpus_compute_in_bfloat16_from_ampere_on(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert best_precision("cuda") == expected
    assert best_precision("mps") == "float32"


def test_a_step_is_captured_on_cuda_only():
    def step():
        pass

    assert capture_cuda_graph(step, "cpu") is step


@GPU
def test_a_captured_step_computes_what_the_step_computes():
    numbers = torch.zeros(1, device="cuda")

    def step():
        numbers.add_(1)

    step()
    again = capture_cuda_graph(step, "cuda")
    assert again is not step
    assert numbers.item() == 1
    again()
    again()
    assert numbers.item() == 3
