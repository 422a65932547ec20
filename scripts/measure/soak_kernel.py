"""The part of ``soak`` that runs in the notebook's kernel, beside the explorer."""

from __future__ import annotations

import ctypes
import gc
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import comm
import psutil

import nst_helpers as nst

PATIENCE = 60  # seconds
WATCHED = 10  # seconds over which pictures are counted


class Player:
    """Plays with an explorer, and measures how it answers and whether it grows."""

    def __init__(self, size: int) -> None:
        self.explorer = nst.StyleTransferExplorer(
            net="bundled", size=size, steps=10_000, served=True
        )
        self.random = random.Random(0)

    def latencies(self) -> tuple[float, float, float, float]:
        """Return seconds to the first picture, pictures per second, slider to picture, Stop."""
        explorer, controls = self.explorer, self.explorer.controls
        drawn: list[tuple[float, int]] = []  # when, and which step
        alphas: list[float] = []
        update_weights = explorer.run.update_weights

        def note_drawn(change: dict[str, Any]) -> None:
            drawn.append((time.monotonic(), change["new"]))

        def note_update(loss: nst.StyleTransferLoss) -> None:
            update_weights(loss)
            alphas.append(loss.alpha)

        controls.canvas.bar.observe(note_drawn, "value")
        explorer.run.update_weights = note_update
        began = time.monotonic()
        controls.canvas.buttons["Start"].click()
        wait_until(lambda: drawn and drawn[-1][1] > 0)
        first = drawn[-1][0] - began
        time.sleep(1)
        count, began = len(drawn), time.monotonic()
        time.sleep(WATCHED)
        rate = (len(drawn) - count) / (time.monotonic() - began)
        moves = []
        for ratio in (3e-5, 3e-1) * 5:
            began = time.monotonic()
            controls.weights.ratio.value = ratio
            wait_until(lambda ratio=ratio: abs(alphas[-1] / ratio - 1) < 0.1)
            # The step after next is the first that the new weights move, and it must be shown.
            step = explorer.recording.steps_done + 2
            wait_until(lambda step=step: drawn[-1][1] >= step)
            moves.append(drawn[-1][0] - began)
        began = time.monotonic()
        controls.canvas.buttons["Stop"].click()
        stopped = wait_until(lambda: explorer.run.state == "idle") - began
        controls.canvas.bar.unobserve(note_drawn, "value")
        explorer.run.update_weights = update_weights
        return first, rate, max(moves), stopped

    def move(self) -> None:
        """Do what a visitor might do."""
        controls, choose = self.explorer.controls, self.random.choice
        kind = self.random.random()
        if kind < 0.5:
            controls.weights.ratio.value = 10 ** self.random.uniform(-5, 0)
        elif kind < 0.75:
            choose(list(controls.weights.layers.values())).value = self.random.random()
        elif kind < 0.83:
            controls.weights.presets.value = choose(controls.weights.presets.options)[1]
        elif kind < 0.93:
            field = controls.fields["content_layer" if kind < 0.88 else "style"]
            field.value = choose(field.options)
        elif kind < 0.97:
            controls.canvas.buttons["Keep"].click()
            if len(controls.strip.kept) > 3:
                self._remove_first()
        else:
            controls.canvas.buttons["Pause"].click()
            controls.canvas.buttons["Start"].click()

    def sample(self) -> tuple[float, float, float, int, int, int]:
        """Return what must not grow, as it is at rest, and the steps since the last sample.

        Resident and malloc's memory in MB, Python's blocks in thousands, threads, open comms.
        """
        steps = self.explorer.recording.steps_done
        while self.explorer.controls.strip.kept:
            self._remove_first()
        self.explorer.reset()
        gc.collect()
        process = psutil.Process()
        comms = len(comm.get_comm_manager().comms)
        memory = process.memory_info().rss / 2**20, malloc_in_use() / 2**20
        blocks, threads = sys.getallocatedblocks() / 1000, process.num_threads()
        self.explorer.start()
        return *memory, blocks, threads, comms, steps

    def _remove_first(self) -> None:
        _, remove = self.explorer.controls.strip.kept[0].buttons
        remove.click()


def wait_until(condition: Callable[[], object]) -> float:
    """Wait, and return when it came true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it did not happen")
        time.sleep(0.001)
    return time.monotonic()


class Mallinfo2(ctypes.Structure):
    """What glibc says of its allocator."""

    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


def malloc_in_use() -> int:
    """Return the bytes that C libraries have from malloc and not given back; 0 without glibc."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return 0
    mallinfo2.restype = Mallinfo2
    info = mallinfo2()
    return info.uordblks + info.hblkhd
