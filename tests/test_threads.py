"""Steps on the cores that are free, and sums that do not depend on how many there are."""

import ctypes
import subprocess
import sys
import time

import pytest
import torch

from helpers import interrupted_before_each_line, make_picture
from nst_helpers import StyleTransferLoss, load_network, noise_like, optimize, style_loss
from nst_helpers.engine import threads
from nst_helpers.engine.minimizers import spectral_preconditioner
from nst_helpers.engine.threads import free_cores, on_free_cores, sum_per_image


@pytest.mark.parametrize(
    ("cores", "busy", "own", "own_threads", "free"),
    [
        (2, 2.0, 1.0, 2, 2),  # both cores busy, and with this thread and the one that waits for it
        (2, 1.2, 0.9, 2, 2),  # its other thread is asleep now and then
        (2, 2.0, 0.5, 2, 1),  # it gets half a core: there is another one of its kind
        (2, 2.0, 1.0, 1, 1),  # each has one
        (2, 2.0, 0.5, 1, 1),  # four of them
        (2, 1.3, 1.0, 1, 2),  # somebody scrolls
        (16, 16.0, 1.0, 8, 8),
        (16, 16.0, 0.1, 1, 1),
    ],
)
def test_free_cores_are_those_that_nobody_else_uses(
    monkeypatch, cores, busy, own, own_threads, free
):
    monkeypatch.setattr("psutil.cpu_count", lambda: cores)
    before, seconds = (100.0, 50.0, 7.0), 0.5
    now = tuple(b + seconds * more for b, more in zip(before, (1, busy, own), strict=True))
    assert free_cores(before, now, own_threads) == free


def test_a_step_has_the_threads_that_are_free_and_torch_keeps_its_own(monkeypatch, set_threads):
    set_threads(4)
    monkeypatch.setattr(threads, "LOOK_EVERY", 0)
    monkeypatch.setattr(threads, "free_cores", lambda before, now, used: next(free))
    free, during = iter([1, 3, 9]), []
    step = on_free_cores(lambda: during.append(torch.get_num_threads()), "cpu")
    for _ in range(3):
        step()
        assert torch.get_num_threads() == 4
    assert during == [1, 3, 4]  # never more than torch had


def test_a_step_that_fails_gives_the_threads_back(monkeypatch, set_threads):
    set_threads(2)
    monkeypatch.setattr(threads, "LOOK_EVERY", 0)
    monkeypatch.setattr(threads, "free_cores", lambda before, now, used: 1)

    def step():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_free_cores(step, "cpu")()
    assert torch.get_num_threads() == 2


def test_an_interrupt_before_any_line_gives_the_threads_back(monkeypatch, set_threads):
    set_threads(2)
    monkeypatch.setattr(threads, "LOOK_EVERY", 0)
    monkeypatch.setattr(threads, "free_cores", lambda before, now, used: 1)
    during, interrupts = [], 0
    step = on_free_cores(lambda: during.append(torch.get_num_threads()), "cpu")
    for _ in interrupted_before_each_line(step, [threads.__file__]):
        interrupts += 1
        assert torch.get_num_threads() == 2
        step()
    assert interrupts > 10
    assert set(during) == {1}


def test_a_look_counts_this_process():
    before, until = threads._processor_seconds(), time.perf_counter() + 0.3
    while time.perf_counter() < until:
        pass
    clock, busy, own = (b - a for a, b in zip(before, threads._processor_seconds(), strict=True))
    assert clock >= 0.3
    assert 0 < own <= clock + 0.02
    assert busy > 0


@pytest.mark.parametrize("device", ["cuda", "mps", "meta"])
def test_other_devices_and_one_thread_take_the_step_as_it_is(set_threads, device):
    def step():
        pass

    assert on_free_cores(step, device) is step
    set_threads(1)
    assert on_free_cores(step, "cpu") is step


@pytest.mark.parametrize("shape", [(1, 3, 5, 1), (1, 3, 200, 300), (2, 7), (3, 3, 100, 131)])
def test_a_sum_is_the_sum_whatever_the_threads(set_threads, shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    sums = []
    for number in (1, 2, 3, 5, 16):
        set_threads(number)
        sums.append(sum_per_image(values))
    assert all(torch.equal(total, sums[0]) for total in sums)
    torch.testing.assert_close(
        sums[0].double(), values.double().flatten(1).sum(1), rtol=1e-4, atol=1e-3
    )


# With three threads, oneDNN's backward pass of the first convolution differs for small images.
@pytest.mark.parametrize(("size", "numbers"), [((150, 131), (1, 2, 3)), ((64, 64), (1, 2))])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_picture_does_not_depend_on_the_threads(set_threads, precision, size, numbers):
    content, style = make_picture(*size, seed=1), make_picture(120, 140, seed=2)
    net = load_network("bundled", precision=precision)
    results = []
    for number in numbers:
        set_threads(number)
        loss = StyleTransferLoss(net, content, style, tv_weight=0.1)
        results.append(optimize(loss, noise_like(content), steps=12))
    for result in results[1:]:
        assert torch.equal(result.image, results[0].image)
        values = [[entry["total"] for entry in each.history] for each in (result, results[0])]
        assert values[0] == values[1]  # the line search goes by them


@pytest.mark.parametrize("filters", [48, 192, 256, 512])
@pytest.mark.parametrize("convention", ["normalised", "paper", "lecture"])
def test_a_style_loss_does_not_depend_on_the_threads(set_threads, filters, convention):
    generator, losses = torch.Generator().manual_seed(1), []
    maps, others = torch.randn(2, 1, filters, 9, 11, generator=generator)
    for number in (1, 2, 3, 5, 16):
        set_threads(number)
        losses.append(style_loss(maps, others, convention))
    assert all(torch.equal(loss, losses[0]) for loss in losses)


@pytest.mark.parametrize("width", [16, 31, 32, 48, 64, 65, 128])
@pytest.mark.parametrize("height", [24, 48, 65])
def test_the_preconditioner_does_not_depend_on_the_threads(set_threads, height, width):
    image, images = make_picture(height, width, seed=1), []
    precondition = spectral_preconditioner(image, 0.5)
    for number in (1, 2, 3, 5, 16):
        set_threads(number)
        images.append(precondition(image))
    assert all(torch.equal(other, images[0]) for other in images)


# In a process of its own, where nobody else's threads come and go.
RELEASE = """
import time, psutil, torch
from nst_helpers.engine.threads import release_threads

torch.set_num_threads(3)
values, process = torch.ones(10**6), psutil.Process()

def threads():
    assert (values * 2).sum() == 2e6
    return process.num_threads()

before, until = threads(), time.monotonic() + 20
release_threads()
while process.num_threads() > before - 2 and time.monotonic() < until:
    time.sleep(0.01)
print(before, process.num_threads(), threads())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "omp_pause_resource_all"),
    reason="an OpenMP that ends no threads",
)
def test_threads_that_are_released_end_and_come_again():
    command = [sys.executable, "-c", RELEASE]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    before, released, after = (int(number) for number in out.split())
    assert (released, after) == (before - 2, before)
