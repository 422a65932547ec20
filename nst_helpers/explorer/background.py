"""A background run: one optimisation with pause, single step, stop, and weights that may change.

It runs in a thread of its own, so that a notebook's kernel stays free for sliders and other cells.
Knows nothing of widgets.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from nst_helpers.engine.threads import release_threads
from nst_helpers.optimization import Loss, Progress, Result, optimize

__all__: list[str] = []

MAX_STEPS = 100_000  # of one call of optimize; where a run really ends may change on the way
SNAPSHOT_SECONDS = 60  # to wait for the result of a run that goes on: a step may be slow

State = Literal["idle", "running", "paused"]


@dataclass
class _Requests:
    """What callers ask of the run; it looks here after each step."""

    stop: bool = False
    reload: bool = False
    single_step: bool = False
    result: bool = False
    answer: Result | None = None  # to the request for a result


def weakly(method: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[..., Any]:
    """Return a function that calls a method for as long as its object is in use elsewhere.

    Parameters
    ----------
    method : callable
        Bound to the object.
    *arguments, **options
        Passed on, before those of the call.
    """
    reference = weakref.WeakMethod(method)

    def call(*more: Any) -> Any:
        method = reference()
        return None if method is None else method(*arguments, *more, **options)

    return call


class BackgroundRun:
    """A run of ``optimize`` in the background, with pause, single step and stop.

    Parameters
    ----------
    start : Result
        What to begin from.
    make_loss : callable
        Returns the loss. Called in the thread, at the start and after ``reload_loss``. If it is the
        one of the run before, L-BFGS goes on where it was.
    update_weights : callable
        Given the loss, sets its weights to what they are to be now. Called before each step.
    show : callable
        Given a ``Progress``, and whether it is the last one for now. Called after each step, and
        once more where a pause was asked for only then.
    on_state_change : callable
        Called without arguments when ``state`` has changed.
    threaded : bool
        False: ``start`` returns when the run is over.

    Attributes
    ----------
    state : {"idle", "running", "paused"}
        What it is doing.
    result : Result
        What the next start goes on from; set it only while ``state`` is "idle".
    end : int
        The step after which to be idle; may be changed at any time.
    error : Exception or None
        What ended the last run, if an exception did. Else ``result.stopped`` says why it ended.
    """

    def __init__(
        self,
        start: Result,
        make_loss: Callable[[], Loss],
        update_weights: Callable[[Any], object],
        show: Callable[[Progress, bool], object],
        on_state_change: Callable[[], object] = lambda: None,
        *,
        threaded: bool = True,
    ) -> None:
        self.make_loss, self.update_weights, self.show = make_loss, update_weights, show
        self.on_state_change, self.threaded = on_state_change, threaded
        self.state: State = "idle"
        self.result, self.end = start, 0
        self.error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._condition = threading.Condition()
        self._requests = _Requests()

    def start(self, single_step: bool = False) -> bool:
        """Run, or go on after a pause.

        Parameters
        ----------
        single_step : bool
            Pause after one step.

        Returns
        -------
        bool
            False if it is running already.
        """
        with self._condition:
            if self.state == "running":
                return False
            if self.state == "paused":
                self._requests.single_step = single_step
                self._set_state("running")
                return True
            self._requests, self.error = _Requests(single_step=single_step), None
            self._set_state("running")
            # A daemon, which does not keep a kernel from shutting down; but one that is cut off in
            # the middle of a step would abort the process.
            atexit.register(self.stop)
            self._thread = thread = threading.Thread(target=self._work, name="nst run", daemon=True)
        if self.threaded:
            release_threads()
            try:
                thread.start()
            except RuntimeError as error:  # no memory for another thread
                self.error = MemoryError(f"{error}")
                self._end()
        else:
            self._work()
        return True

    def pause(self) -> None:
        """Wait after the step that is being taken."""
        with self._condition:
            if self.state == "running":
                self._set_state("paused")

    def stop(self, wait: bool = True) -> None:
        """End the run; its image is kept in ``result``.

        Parameters
        ----------
        wait : bool
            Return only when it has ended.
        """
        with self._condition:
            self._requests.stop = True
            self._condition.notify_all()
        if wait:
            self.join()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the run is over; Ctrl-C stops it.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Returns
        -------
        bool
            Whether it is over.
        """
        thread = self._thread
        if thread is None or thread is threading.current_thread() or not thread.is_alive():
            return True
        try:
            thread.join(timeout)
        except KeyboardInterrupt:
            self.stop()
        return not thread.is_alive()

    def reload_loss(self) -> None:
        """Make the loss anew, and go on with it from the same image."""
        with self._condition:
            self._requests.reload = True
            self._condition.notify_all()

    def so_far(self, timeout: float = SNAPSHOT_SECONDS) -> Result | None:
        """Return the result as it is now, also of a run that goes on.

        Parameters
        ----------
        timeout : float
            Seconds to wait at most for the step that is being taken.

        Returns
        -------
        Result or None
            None if that step took longer.
        """
        with self._condition:
            if self.state == "idle":
                return self.result
            requests = self._requests
            requests.result = True
            self._condition.notify_all()
            answered = self._condition.wait_for(lambda: not requests.result, timeout)
            return requests.answer if answered else None

    def _set_state(self, state: State) -> None:
        self.state = state
        self.on_state_change()
        self._condition.notify_all()

    def _work(self) -> None:
        requests = self._requests
        try:
            while True:
                requests.reload = False
                loss = self.make_loss()
                self.update_weights(loss)
                after_step = partial(self._after_step, loss)
                self.result = optimize(loss, self.result, steps=MAX_STEPS, callback=after_step)
                if requests.stop or not requests.reload:
                    break
        except Exception as error:  # in a thread, where no caller would see it
            self.error = error
        except KeyboardInterrupt:  # without a thread, before the first step
            pass
        finally:
            self._end()

    def _end(self) -> None:
        atexit.unregister(self.stop)
        with self._condition:
            self._requests.answer, self._requests.result = self.result, False
            self._set_state("idle")

    def _after_step(self, loss: Loss, progress: Progress) -> bool:
        """Show the step, do what was requested meanwhile, return whether to go on."""
        requests = self._requests
        with self._condition:
            if requests.single_step and self.state == "running":
                self._set_state("paused")
            shown_as_last = requests.stop or progress.step >= self.end or self.state == "paused"
        self.show(progress, shown_as_last)
        with self._condition:
            while True:
                if requests.result:
                    requests.answer, requests.result = progress.result(), False
                    self._condition.notify_all()
                if requests.stop or requests.reload or progress.step >= self.end:
                    return False
                if self.state == "running":
                    break
                if not self.threaded:  # nobody could wake it
                    return False
                if not shown_as_last:  # the pause was asked for just now
                    shown_as_last = True
                    self.show(progress, shown_as_last)
                self._condition.wait()
        self.update_weights(loss)
        return True
