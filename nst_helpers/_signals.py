"""Ctrl-C, and how a machine ends a program: the run stops between two steps, and is saved.

Nothing here imports torch: signals are caught before it is imported, which takes seconds.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # what typing says; importing it takes as long as all the rest here
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

__all__ = ["INTERRUPTED", "Signals"]

INTERRUPTED = 130  # exit code, as shells have it: 128 + SIGINT
# Ctrl-C; a cluster's time limit or a container's stop; a terminal that is closed (not on Windows).
CAUGHT = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
PATIENCE = 3  # so many signals end the program at once, whatever it is doing


class Signals:
    """The signals that ask this program to end, and what it does about them.

    Before the work, the first one raises KeyboardInterrupt. During the work none does: it could
    come between a result and the name it is given. There ``check`` raises it, after a step.

    Attributes
    ----------
    received : list of int
        All so far.
    at_work : bool
        Whether there may be something to save.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self.at_work = False
        self._react: Callable[[int], object] = _note

    @property
    def exit_code(self) -> int:
        """That of the first signal, as shells have it: 128 + its number."""
        return 128 + self.received[0] if self.received else INTERRUPTED

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch signals; those that are ignored, as by nohup, and in other threads, stay so."""
        before: dict[int, Any] = {}
        with suppress(ValueError):  # not the main thread
            for number in CAUGHT:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def catch_in_program(self) -> None:
        """Catch signals for the rest of this process; until ``begin``, one ends it at once.

        An exception in the midst of others' imports would be lost or told as a traceback.
        """
        self._react = _leave
        # Where KeyboardInterrupt cannot be raised, in a destructor, Python tells a traceback.
        default = sys.unraisablehook
        sys.unraisablehook = lambda unraisable: (
            None if unraisable.exc_type is KeyboardInterrupt else default(unraisable)
        )
        for number in CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def begin(self) -> None:
        """From now on, raise KeyboardInterrupt."""
        self._react = _raise
        self.check()

    def work(self) -> None:
        """From now on, raise nothing but in ``check``, and say that it takes a moment."""
        self._react, self.at_work = _promise, True
        self.check()

    def end(self) -> None:
        """From now on, do nothing about them: all is done that can be done."""
        self._react = _note

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was a signal."""
        if self.received:
            raise KeyboardInterrupt

    def ignore(self) -> None:
        """Ignore signals from now on: all is done but for Python's own end."""
        for number in CAUGHT:
            with suppress(ValueError):
                signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if len(self.received) >= PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        elif len(self.received) == 1:  # a second one would hit what the first one set off
            self._react(number)


def _note(number: int) -> None:
    """Leave it at its being received."""


def _raise(number: int) -> None:
    raise KeyboardInterrupt


def _promise(number: int) -> None:
    _tell(b"\nstopping after this step, then saving (Ctrl-C twice more: at once, without saving)\n")


def _leave(number: int) -> None:
    _tell(b"\ninterrupted, nothing written\n")
    os._exit(128 + number)


def _tell(message: bytes) -> None:
    # Not print: a signal may have come in the midst of one, which cannot be entered again.
    with suppress(OSError):
        os.write(2, message)
