"""Memory that a step frees is there for the next one, and is the system's again at the end."""

import gc
import platform
import subprocess
import sys
import threading

import pytest

from helpers import interrupted_before_each_line
from nst_helpers.engine import allocation
from nst_helpers.engine.allocation import hold_freed_memory

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
# A step's tensors are 100 MB at a time: glibc by itself would not keep as much.
PROGRAM = """
import resource
import psutil, torch
from nst_helpers.engine.allocation import hold_freed_memory

def step():
    tensors = [torch.ones(5_000_000) for _ in range(5)]
    return float(sum(tensor.sum() for tensor in tensors))

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
usual = [new_pages() for _ in range(4)]
before = psutil.Process().memory_info().rss
with hold_freed_memory():
    held = [new_pages() for _ in range(8)]
    inside = psutil.Process().memory_info().rss
after = psutil.Process().memory_info().rss
print(min(usual[1:]), min(held[4:]), inside - before, after - before)
"""


@GLIBC
def test_a_step_takes_no_new_pages_and_they_go_back_at_the_end():
    command = [sys.executable, "-c", PROGRAM]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usual, held, inside, after = (int(number) for number in out.split())
    if usual < 1000:
        pytest.skip("pages are large here, and few are needed")
    assert held < 100
    assert inside > 10e6
    assert after < 8e6


class Libc:
    """What malloc was told."""

    def __init__(self):
        self.options, self.trims = {}, 0

    def mallopt(self, option, size):
        self.options[option] = size

    def malloc_trim(self, _):
        self.trims += 1


@pytest.fixture
def libc(monkeypatch):
    libc = Libc()
    monkeypatch.setattr(allocation, "libc", libc)
    return libc


def test_the_last_thread_gives_it_back(libc):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with hold_freed_memory(), hold_freed_memory():
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(20)
    with hold_freed_memory():
        pass
    assert libc.options == allocation.HELD
    assert not libc.trims
    leave.set()
    thread.join()
    assert libc.options == allocation.USUAL
    assert libc.trims == 1
    assert not allocation.within


def test_it_is_given_back_after_an_error(libc):
    with pytest.raises(KeyboardInterrupt), hold_freed_memory():
        raise KeyboardInterrupt
    assert libc.options == allocation.USUAL
    assert not allocation.within


def test_after_an_interrupt_before_any_line_the_next_run_gives_it_back(libc):
    @hold_freed_memory()
    def run():
        assert libc.options == allocation.HELD

    interrupts = 0
    for _ in interrupted_before_each_line(run, [allocation.__file__]):
        interrupts += 1
        gc.collect()  # an exception and its frames may refer to each other
        assert not allocation.within
        run()
        assert libc.options == allocation.USUAL
    assert interrupts > 10


@pytest.mark.parametrize("other", [None, object()])
def test_another_c_library_is_left_alone(monkeypatch, other):
    monkeypatch.setattr(allocation, "libc", other)
    with hold_freed_memory():
        assert not allocation.within
