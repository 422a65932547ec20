"""Estimates of memory against sums by hand, what is free, and the one check."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from nst_helpers import estimate_memory
from nst_helpers.engine import memory
from nst_helpers.engine.memory import (
    available_memory,
    minimizer_memory,
    network_memory,
    require_memory,
    target_memory,
)

# A network of two blocks, 64 filters in the first and 128 in the second.
VALUES = {"relu1_1": 64, "relu1_2": 64, "pool1": 16, "relu2_1": 32}
SHAPE = (2, 3, 960, 100)
PIXELS = 2 * 960 * 100


@pytest.mark.parametrize("bytes_per_value", [2, 4])
def test_a_network_holds_every_activation_and_a_few_gradients(bytes_per_value):
    estimate = network_memory(VALUES, SHAPE, bytes_per_value=bytes_per_value)
    assert estimate == PIXELS * ((64 + 64 + 16 + 32) * bytes_per_value + 3 * 64)


@pytest.mark.parametrize(("height", "share"), [(960, 0.1), (96, 1), (16, 1)])
def test_in_strips_it_holds_the_pools_and_one_strip(height, share):
    shape = (2, 3, height, 100)
    estimate = network_memory(VALUES, shape, bytes_per_value=4, strips=True)
    per_pixel = 4 * (2 * 16 + share * (64 + 64 + 32)) + 3 * share * 64
    assert estimate == pytest.approx(2 * height * 100 * per_pixel)


def test_a_target_takes_two_layers_in_float32():
    assert target_memory(VALUES, SHAPE) == PIXELS * 2 * 64 * 4


def test_lbfgs_holds_two_images_for_each_curvature_pair():
    numbers = 3 * 256**2
    assert minimizer_memory("lbfgs", numbers, 10) == 4 * numbers * (2 * 10 + 12)
    assert 20e6 < minimizer_memory("lbfgs", numbers, 10) < 30e6  # "25 MB" in its docstring
    assert minimizer_memory("adam", numbers, 10) == 4 * numbers * 4


class Hungry:
    def memory_needed(self, shape):
        return 1000 * shape[2]


@pytest.mark.parametrize(("loss", "needed"), [(Hungry(), 8000), (lambda image: image, 0)])
@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, {"history_size": 3}])
def test_an_estimate_is_the_sum_of_loss_and_minimizer(loss, needed, options):
    arguments = {"optimizer": "lbfgs", "history_size": 30, **options}
    estimate = estimate_memory(loss, iter((2, 3, 8, 5)), **options)
    assert estimate == needed + minimizer_memory(numbers=2 * 3 * 8 * 5, **arguments)


def test_what_does_not_fit_is_refused_with_a_size_that_does(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 2**30)
    require_memory(2**30, (1, 3, 480, 640), "cpu")
    message = "640 x 480 pixels need about 4.0 GB of memory and 1.0 GB are free; about 320 x 240"
    with pytest.raises(ValueError, match=message):
        require_memory(2**32, (1, 3, 480, 640), "cpu")


def test_available_memory_is_between_nothing_and_all():
    available = available_memory("cpu")
    assert isinstance(available, int)
    assert 0 < available <= psutil.virtual_memory().total


LIMITED = """
import resource
from nst_helpers.engine.memory import available_memory
limit = resource.{limit}
free, used = available_memory("cpu"), resource.getpagesize() * {used}
resource.setrlimit(limit, (used + 2**29, resource.RLIM_INFINITY))
left = available_memory("cpu")
try:
    bytearray(left + 2**26)
    print("more than it says")
except MemoryError:
    bytearray(left - 2**26)
    print(free > 2**30 and 2**28 < left <= 2**29 + 2**26)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux")
@pytest.mark.parametrize(("limit", "field"), [("RLIMIT_DATA", 5), ("RLIMIT_AS", 0)])
def test_available_memory_is_what_a_limit_of_the_process_leaves(limit, field):
    used = f'int(open("/proc/self/statm").read().split()[{field}])'
    code = LIMITED.format(limit=limit, used=used)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "True", run.stdout + run.stderr


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="needs Linux")
def test_available_memory_is_at_most_what_linux_reports():
    lines = Path("/proc/meminfo").read_text().splitlines()
    (kilobytes,) = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    assert available_memory("cpu") < kilobytes * 1024 + 2**29


def test_on_a_gpu_what_torch_has_cached_is_available_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert available_memory("cuda") == 1300


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_memory_shrinks_by_what_is_held_and_grows_back():
    before = available_memory("cuda")
    block = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    assert before - available_memory("cuda") == pytest.approx(2**28, rel=0.1)
    del block
    assert available_memory("cuda") == pytest.approx(before, rel=0.01)
