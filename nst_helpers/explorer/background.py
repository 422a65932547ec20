"""One optimisation that takes orders while it runs: pause, one step, stop, turn the weights.

It runs in a thread of its own, so that a notebook's kernel stays free for sliders and other cells.
Knows nothing of widgets.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from nst_helpers.optimization import Progress, Result, last_step, optimize

__all__ = ["LiveRun"]

ENDLESS = 100_000  # steps; the real end may move while it runs


class LiveRun:
    """A picture that paints itself in the background, and listens.

    Parameters
    ----------
    make_loss : callable
        Returns the loss. Called in the thread, at the start and after ``renew``.
    turn : callable
        Given the loss, sets its weights to what is wanted now. Called between two steps.
    show : callable
        Given a ``Progress``, and whether nothing will follow soon; called after each step, and
        once more where a pause came only then.
    changed : callable
        Called without arguments when ``state`` has changed.
    threaded : bool
        False: ``start`` returns when the run is over.

    Attributes
    ----------
    state : str
        "idle", "running" or "paused".
    result : Result or None
        The picture to go on from; set it only where the state is "idle".
    end : int
        The step after which to be idle; may be changed at any time.
    error : Exception or None
        What ended the last run, if it was that.
    """

    def __init__(
        self,
        make_loss: Callable[[], Callable],
        turn: Callable[[Any], None],
        show: Callable[[Progress, bool], None],
        changed: Callable[[], None] = lambda: None,
        *,
        threaded: bool = True,
    ) -> None:
        self.make_loss, self.turn, self.show, self.changed = make_loss, turn, show, changed
        self.threaded = threaded
        self.state, self.result, self.end = "idle", None, 0
        self.error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._orders = threading.Condition()
        self._halt = self._renew = self._once = self._asked = False
        self._so_far: Result | None = None
        self._times: deque[float] = deque(maxlen=30)

    @property
    def steps(self) -> int:
        """How many steps the result has behind it; of a running one, see ``Progress``."""
        return 0 if self.result is None else last_step(self.result)

    @property
    def steps_per_second(self) -> float:
        """Over the last thirty steps; 0 where that is not known yet."""
        times = list(self._times)
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0

    def start(self, once: bool = False) -> bool:
        """Run, or go on after a pause; with ``once`` for one step. False if it runs already."""
        with self._orders:
            if self.state == "running":
                return False
            self._once = once
            self._times.clear()
            if self.state == "paused":
                self._set("running")
                self._orders.notify_all()
                return True
            self._halt = self._renew = self._asked = False
            self.error = None
            self._set("running")
            # A daemon: it must not keep a kernel from shutting down; but to be cut off in the
            # middle of a step would abort the process.
            atexit.register(self.stop)
            self._thread = threading.Thread(target=self._work, name="nst run", daemon=True)
        if self.threaded:
            self._thread.start()
        else:
            self._work()
        return True

    def pause(self) -> None:
        """Wait after the step that is being taken."""
        with self._orders:
            if self.state == "running":
                self._set("paused")

    def stop(self, wait: bool = True) -> None:
        """End the run, and keep its picture in ``result``."""
        with self._orders:
            self._halt = True
            self._orders.notify_all()
        if wait:
            self.join()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the run is over, and say whether it is; Ctrl-C stops the run."""
        thread = self._thread
        if thread is None or thread is threading.current_thread() or not thread.is_alive():
            return True
        try:
            thread.join(timeout)
        except KeyboardInterrupt:
            self.stop()
        return not thread.is_alive()

    def renew(self) -> None:
        """Make the loss anew, and go on with it from the same picture."""
        with self._orders:
            self._renew = True
            self._orders.notify_all()

    def so_far(self) -> Result | None:
        """Return the result as it is now, also of a run that goes on."""
        with self._orders:
            if self.state == "idle":
                return self.result
            self._asked = True
            self._orders.notify_all()
            self._orders.wait_for(lambda: not self._asked or self.state == "idle", timeout=60)
            return self.result if self.state == "idle" else self._so_far

    def _set(self, state: str) -> None:
        self.state = state
        self.changed()

    def _work(self) -> None:
        try:
            again = True
            while again:
                self._renew = False
                loss = self.make_loss()
                self.turn(loss)

                def after_step(progress: Progress, loss: Any = loss) -> bool:
                    return self._after_step(progress, loss)

                self.result = optimize(loss, self.result, steps=ENDLESS, callback=after_step)
                again = self._renew and not self._halt
        except Exception as error:  # a thread has nobody else to tell
            self.error = error
        except KeyboardInterrupt:  # before the first step, where it is no thread
            pass
        finally:
            atexit.unregister(self.stop)
            with self._orders:
                self._set("idle")
                self._orders.notify_all()

    def _after_step(self, progress: Progress, loss: Any) -> bool:
        """Show the step, carry out what was ordered meanwhile, say whether to go on."""
        self._times.append(time.monotonic())
        with self._orders:
            if self._once and self.state == "running":
                self._set("paused")
            over = self._halt or progress.step >= self.end
            waits = over or self.state == "paused"
        self.show(progress, waits)
        with self._orders:
            while True:
                if self._asked:
                    self._so_far, self._asked = progress.result(), False
                    self._orders.notify_all()
                if self._halt or self._renew or progress.step >= self.end:
                    return False
                if self.state == "running":
                    break
                if not self.threaded:  # there is nobody who could wake it
                    return False
                if not waits:  # the order came just now
                    waits = True
                    self.show(progress, waits)
                self._orders.wait()
        self.turn(loss)
        return True
