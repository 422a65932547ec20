"""A background run, on the real loss with a small network."""

import subprocess
import sys
import threading
import time

import pytest
import torch

from helpers import wait_for
from nst_helpers import Result, StyleTransferLoss, noise_like, optimize
from nst_helpers.explorer.background import BackgroundRun

PATIENCE = 20  # seconds, on a busy machine


class Watched:
    """A run that notes its steps and states, and into which a test may put something."""

    def __init__(self, net, content, style, end=1000, threaded=True):
        self.losses_made, self.steps, self.alphas, self.states = 0, [], [], []
        self.last_shown = None
        self.before_update = self.after_show = lambda value: None

        def make_loss():
            self.losses_made += 1
            return StyleTransferLoss(net, content, style)

        def update_weights(loss):
            self.before_update(loss)
            self.alphas.append(loss.alpha)

        def show(progress, last):
            if progress.step not in self.steps[-1:]:
                self.steps.append(progress.step)
            self.last_shown = last
            self.after_show(progress)

        self.run = BackgroundRun(
            Result(noise_like(content)),
            make_loss,
            update_weights,
            show,
            lambda: self.states.append(self.run.state),
            threaded=threaded,
        )
        self.run.end = end

    def start(self, steps=4):
        """Start, and let it take more steps than ``steps``."""
        self.run.start()
        self.wait_for_steps(steps)

    def wait_for_steps(self, steps):
        wait_for(lambda: len(self.steps) >= steps)


@pytest.fixture
def watch(net, content, style):
    runs = []

    def make(**options):
        runs.append(Watched(net, content, style, **options))
        return runs[-1]

    yield make
    for watched in runs:
        watched.run.stop()


def run_threads():
    return [t for t in threading.enumerate() if t.name == "nst run"]


def is_numbered(history):
    return [entry["step"] for entry in history] == list(range(1, len(history) + 1))


def test_result_equals_that_of_optimize(watch, net, content, style):
    watched = watch(end=12)
    assert watched.run.start()
    assert watched.run.join(PATIENCE)
    plain = optimize(StyleTransferLoss(net, content, style), noise_like(content), steps=12)
    assert torch.equal(watched.run.result.image, plain.image)
    assert [e["total"] for e in watched.run.result.history] == [e["total"] for e in plain.history]
    assert watched.steps == list(range(1, 13))
    assert watched.states == ["running", "idle"]


def test_caller_is_free_while_it_runs(watch):
    watched = watch()
    started_at = time.monotonic()
    watched.run.start()
    assert time.monotonic() - started_at < 1
    watched.wait_for_steps(4)
    assert watched.run.state == "running"
    assert len(run_threads()) == 1


def test_without_a_thread_start_returns_when_the_run_is_over(watch):
    watched = watch(end=5, threaded=False)
    watched.run.start()
    assert (watched.run.state, watched.steps) == ("idle", [1, 2, 3, 4, 5])
    assert not run_threads()


def test_pause_holds_and_start_resumes(watch):
    watched = watch()
    watched.start()
    watched.run.pause()
    assert watched.run.state == "paused"
    time.sleep(0.1)
    count = len(watched.steps)
    time.sleep(0.2)
    assert len(watched.steps) == count
    watched.start(count + 4)
    assert watched.steps == list(range(1, len(watched.steps) + 1))


def test_step_is_shown_as_the_last_one_where_the_pause_comes_meanwhile(watch):
    watched = watch()

    def pause(progress):
        if progress.step == 3 and not watched.last_shown:
            watched.run.pause()

    watched.after_show = pause
    watched.start(3)
    wait_for(lambda: watched.last_shown)
    assert (watched.run.state, watched.steps) == ("paused", [1, 2, 3])


def test_single_step_from_idle_and_from_a_pause(watch):
    watched = watch()
    for step in (1, 2, 3):
        watched.run.start(single_step=True)
        wait_for(lambda step=step: watched.run.state == "paused" and watched.steps[-1:] == [step])
    time.sleep(0.1)
    assert watched.steps == [1, 2, 3]
    assert watched.last_shown


def test_second_start_returns_false_and_does_no_harm(watch):
    watched = watch()
    assert watched.run.start()
    assert not watched.run.start()
    assert len(run_threads()) == 1


def test_stop_keeps_the_image_and_start_resumes_from_it(watch):
    watched = watch()
    watched.start(6)
    watched.run.stop()
    assert watched.run.state == "idle"
    assert not run_threads()
    steps = watched.run.result.steps_done
    assert steps == watched.steps[-1]
    watched.run.end = steps + 4
    watched.run.start()
    watched.run.join(PATIENCE)
    history = watched.run.result.history
    assert watched.run.result.steps_done == steps + 4
    assert history[-1]["total"] < history[0]["total"]


@pytest.mark.parametrize("state", ["idle", "running", "paused"])
def test_stop_works_in_every_state_and_twice(watch, state):
    watched = watch()
    if state != "idle":
        watched.run.start()
    if state == "paused":
        watched.run.pause()
    watched.run.stop()
    watched.run.stop()
    assert (watched.run.state, run_threads()) == ("idle", [])


def test_weights_change_between_steps_without_a_restart(watch):
    watched = watch()
    watched.start()
    watched.before_update = lambda loss: setattr(loss, "alpha", 0.5)
    wait_for(lambda: watched.alphas[-1] == 0.5)
    watched.run.stop()
    assert watched.losses_made == 1
    assert is_numbered(watched.run.result.history)


def test_end_may_move_while_it_runs(watch):
    watched = watch(end=100_000)
    watched.start()
    watched.run.end = 8
    watched.run.join(PATIENCE)
    assert watched.run.state == "idle"
    assert watched.run.result.steps_done >= 8


def test_reloaded_loss_continues_with_the_same_image(watch):
    watched = watch()
    watched.start()
    watched.run.reload_loss()
    wait_for(lambda: watched.losses_made == 2 and len(watched.steps) > 20)
    assert watched.steps == list(range(1, len(watched.steps) + 1))
    watched.run.stop()
    assert is_numbered(watched.run.result.history)


def test_so_far_is_a_copy_that_later_steps_leave_alone(watch):
    watched = watch()
    assert watched.run.so_far().history == []
    watched.start()
    early = watched.run.so_far()
    image, steps = early.image.clone(), len(early.history)
    watched.wait_for_steps(steps + 11)
    assert torch.equal(early.image, image)
    assert len(early.history) == steps
    watched.run.pause()
    assert len(watched.run.so_far().history) > steps


def test_so_far_is_none_while_a_step_takes_too_long(watch):
    watched = watch()
    watched.start()
    slow, entered = threading.Event(), threading.Event()

    def hold(loss):
        entered.set()
        slow.wait(PATIENCE)

    watched.before_update = hold
    assert entered.wait(PATIENCE)
    assert watched.run.so_far(timeout=0.05) is None
    slow.set()
    assert watched.run.so_far().steps_done >= 4


def test_so_far_of_a_run_that_fails_meanwhile_is_the_result_before_it(watch):
    watched = watch()
    start = watched.run.result
    entered, failing = threading.Event(), threading.Event()

    def fail(loss):
        entered.set()
        failing.wait(PATIENCE)
        raise RuntimeError("a test's own")

    watched.before_update = fail
    watched.run.start()
    assert entered.wait(PATIENCE)
    threading.Timer(0.1, failing.set).start()
    assert watched.run.so_far() is start


def test_resumes_from_an_earlier_snapshot(watch):
    watched = watch()
    watched.start(11)
    early = watched.run.so_far()
    watched.run.stop()
    watched.run.result, watched.run.end = early, early.steps_done + 5
    watched.run.start()
    watched.run.join(PATIENCE)
    history = watched.run.result.history
    assert len(history) == len(early.history) + 5
    assert history[-1]["total"] < 1.05 * early.history[-1]["total"]


def test_exception_is_kept_with_the_result_before_it(watch):
    watched = watch()
    before = watched.run.result

    def fail(progress):
        if progress.step == 4:
            raise RuntimeError("a test's own")

    watched.after_show = fail
    watched.run.start()
    watched.run.join(PATIENCE)
    assert str(watched.run.error) == "a test's own"
    assert watched.run.state == "idle"
    assert watched.run.result is before
    watched.run.end = 3
    watched.run.start()
    watched.run.join(PATIENCE)
    assert watched.run.error is None
    assert watched.run.result.steps_done == 3


@pytest.mark.filterwarnings("ignore:.*not finite")
def test_non_finite_loss_ends_with_the_last_good_image(watch):
    watched = watch()

    def spoil(loss):
        if len(watched.steps) == 6:
            loss.get_buffer("content_relu4_2").fill_(torch.nan)

    watched.before_update = spoil
    watched.run.start()
    assert watched.run.join(PATIENCE)
    assert watched.run.error is None
    result = watched.run.result
    assert result.stopped == "not finite"
    assert "not finite at step 7" in result.problem
    assert torch.isfinite(result.image).all()
    assert len(result.history) == 6


def test_ctrl_c_ends_a_run_without_a_thread(watch):
    watched = watch(threaded=False)

    def interrupt(loss):
        if len(watched.steps) == 3:
            raise KeyboardInterrupt

    watched.before_update = interrupt
    watched.run.start()
    assert watched.run.state == "idle"
    assert watched.run.result.stopped == "interrupted"
    assert watched.run.result.steps_done == 3


def test_ctrl_c_before_the_first_step_leaves_the_start(watch):
    watched = watch(threaded=False)
    start = watched.run.result

    def interrupt(loss):
        raise KeyboardInterrupt

    watched.before_update = interrupt
    watched.run.start()
    assert (watched.run.state, watched.run.result, watched.run.error) == ("idle", start, None)


def test_ctrl_c_in_join_stops_the_run(watch, monkeypatch):
    watched = watch()
    watched.start()
    (thread,) = run_threads()
    join, pressed = thread.join, []

    def interrupted(timeout=None):
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        join(timeout)

    monkeypatch.setattr(thread, "join", interrupted)
    assert watched.run.join()
    assert watched.run.state == "idle"


def test_program_may_end_while_it_runs():
    code = """
import threading
import nst_helpers as nst
from nst_helpers.explorer.background import BackgroundRun
net, content = nst.load_network("bundled"), nst.load_image("chelsea", 64)
loss, shown = nst.StyleTransferLoss(net, content, content), threading.Event()
start = nst.Result(nst.noise_like(content))
run = BackgroundRun(start, lambda: loss, lambda loss: None, lambda progress, last: shown.set())
run.end = 100_000
run.start()
shown.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
