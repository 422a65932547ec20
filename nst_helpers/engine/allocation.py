"""The C library's malloc, asked to hand the same memory out again at every step.

A step frees and allocates the same few dozen tensors. By default glibc gives large ones back to the
system as they are freed, and the next step gets them as new pages, which the system has to fill
with zeros first: with a small network that is a sixth of the time.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["hold_freed_memory"]

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # numbers of mallopt's options, in malloc.h
# What is free at the heap's end is held up to 128 MB. Larger blocks than 32 MB go back as they are
# freed, as ever: a heap with holes of their size is a fifth larger than what is in it.
HELD = {MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: 128 * 2**20}
# What glibc ends with by itself, where a program frees large blocks: see mallopt's manual page.
USUAL = {MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: 64 * 2**20}

libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class _Holder:
    """What one run holds while it is within."""


# Malloc is the whole process's, and several runs may be within. Weakly: an interrupt may come even
# before a run is taken out, which is then gone as soon as its frame is.
within: weakref.WeakSet[_Holder] = weakref.WeakSet()


@contextmanager
def hold_freed_memory() -> Iterator[None]:
    """Let malloc keep what is freed until the end, and give it back to the system then.

    Several runs may be within at a time: the last one gives it back. Where the C library is not
    glibc, nothing happens.
    """
    if libc is None or not hasattr(libc, "malloc_trim"):
        yield
        return
    holder = _Holder()
    # Without a lock, which an interrupt might leave locked: at worst a run is a little slower.
    try:
        within.add(holder)
        for option, size in HELD.items():
            libc.mallopt(option, size)
        yield
    finally:
        within.discard(holder)
        if not within:
            for option, size in USUAL.items():
                libc.mallopt(option, size)
            libc.malloc_trim(0)
