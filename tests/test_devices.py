"""Device, dtype and the capture of CUDA graphs."""

import contextlib

import pytest
import torch

from nst_helpers.engine.devices import (
    WARM_UP,
    _capture_stream,
    best_device,
    best_precision,
    capture_cuda_graph,
    describe_device,
)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_is_chosen(monkeypatch, cuda, mps, expected):
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


@pytest.mark.parametrize(
    ("bf16", "amx", "mkldnn", "expected"),
    [
        (True, False, True, "bfloat16"),
        (False, True, True, "bfloat16"),
        (False, False, True, "float32"),
        (True, True, False, "float32"),
    ],
)
def test_bfloat16_is_chosen_where_the_cpu_multiplies_it(monkeypatch, bf16, amx, mkldnn, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: mkldnn)
    assert best_precision("cpu") == expected


def test_float32_is_chosen_where_torch_does_not_tell_what_the_cpu_multiplies(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert best_precision("cpu") == "float32"


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_bfloat16_is_chosen_on_gpus_from_ampere_on(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert best_precision("cuda") == expected
    assert best_precision("mps") == "float32"


# --- CUDA graphs ---------------------------------------------------------------------------------


def test_a_step_is_captured_on_cuda_only():
    def step():
        pass

    assert capture_cuda_graph(step, "cpu") is step
    assert capture_cuda_graph(step, "mps") is step


class FakeGraph:
    """Stands for ``torch.cuda.CUDAGraph`` where there is no GPU."""

    replays = 0

    def replay(self):
        FakeGraph.replays += 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_step_runs_itself_until_it_is_captured_and_where_that_fails(monkeypatch, fails):
    calls = []

    @contextlib.contextmanager
    def graph(_, stream, capture_error_mode):
        assert (stream, capture_error_mode) == ("stream of GPU 1", "thread_local")
        if fails:
            raise RuntimeError("no room\nCompile with ...")
        yield

    for name, fake in {
        "device": contextlib.nullcontext,
        "stream": contextlib.nullcontext,
        "current_stream": str,
        "current_device": lambda: 1,
        "Stream": "stream of GPU {}".format,
        "CUDAGraph": FakeGraph,
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    _capture_stream.cache_clear()
    monkeypatch.setattr(FakeGraph, "replays", 0)
    step = capture_cuda_graph(lambda: calls.append(len(calls)), "cuda")
    for _ in range(WARM_UP):
        step()
    assert (len(calls), FakeGraph.replays) == (WARM_UP, 0)
    expectation = pytest.warns(UserWarning, match="no CUDA graph, which only costs time: no room")
    with expectation if fails else contextlib.nullcontext():
        step()
    step()
    # Captured, it is called once more, which a GPU only notes, and then replayed.
    assert (len(calls), FakeGraph.replays) == ((WARM_UP + 2, 0) if fails else (WARM_UP + 1, 2))
    _capture_stream.cache_clear()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_captured_step_computes_what_the_step_computes():
    numbers, calls = torch.zeros(1, device="cuda"), []

    def step():
        calls.append(None)
        numbers.add_(1)

    captured = capture_cuda_graph(step, "cuda")
    for count in range(1, WARM_UP + 4):
        captured()
        assert numbers.item() == count
    assert len(calls) == WARM_UP + 1
