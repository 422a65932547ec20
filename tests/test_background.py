"""A run in a thread that takes orders, on the real loss with a small network."""

import subprocess
import sys
import threading
import time

import pytest
import torch

from nst_helpers import LiveRun, Result, StyleTransferLoss, noise_like, optimize

PATIENCE = 20  # seconds, on a busy machine


class Watched:
    """A run whose steps are counted, and which a test may hold after a step."""

    def __init__(self, net, content, style, end=1000, threaded=True, turn=lambda loss: None):
        self.made, self.steps, self.alphas, self.states = 0, [], [], []
        self.images, self.hold, self.turn_more = [], None, turn

        def make_loss():
            self.made += 1
            return StyleTransferLoss(net, content, style)

        def turn_loss(loss):
            self.turn_more(loss)
            self.alphas.append(loss.alpha)

        def show(progress, waits):
            if progress.step not in self.steps[-1:]:
                self.steps.append(progress.step)
            self.images.append((progress.image(), waits))
            if self.hold is not None and progress.step >= self.hold:
                raise RuntimeError("a test's own")

        self.run = LiveRun(
            make_loss,
            turn_loss,
            show,
            lambda: self.states.append(self.run.state),
            threaded=threaded,
        )
        self.run.result, self.run.end = Result(noise_like(content)), end

    def wait_for(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.002)


@pytest.fixture
def watch(net, content, style):
    runs = []

    def make(**options):
        runs.append(Watched(net, content, style, **options))
        return runs[-1]

    yield make
    for watched in runs:
        watched.run.stop()


def alive():
    return [t for t in threading.enumerate() if t.name == "nst run"]


def test_it_gives_what_optimize_gives(watch, net, content, style):
    watched = watch(end=12)
    assert watched.run.start()
    assert watched.run.join(PATIENCE)
    plain = optimize(StyleTransferLoss(net, content, style), noise_like(content), steps=12)
    assert torch.equal(watched.run.result.image, plain.image)
    assert [e["total"] for e in watched.run.result.history] == [e["total"] for e in plain.history]
    assert watched.steps == list(range(1, 13))
    assert watched.states == ["running", "idle"]


def test_the_caller_is_free_while_it_runs(watch):
    watched = watch()
    began = time.monotonic()
    watched.run.start()
    assert time.monotonic() - began < 1
    watched.wait_for(lambda: len(watched.steps) > 3)
    assert watched.run.state == "running"
    assert len(alive()) == 1


def test_without_a_thread_start_returns_when_it_is_over(watch):
    watched = watch(end=5, threaded=False)
    watched.run.start()
    assert (watched.run.state, watched.steps) == ("idle", [1, 2, 3, 4, 5])
    assert not alive()


def test_pause_holds_and_start_goes_on(watch):
    watched = watch()
    watched.run.start()
    watched.wait_for(lambda: len(watched.steps) > 3)
    watched.run.pause()
    assert watched.run.state == "paused"
    time.sleep(0.1)
    count = len(watched.steps)
    time.sleep(0.2)
    assert len(watched.steps) == count
    watched.run.start()
    watched.wait_for(lambda: len(watched.steps) > count + 3)
    assert watched.steps == list(range(1, len(watched.steps) + 1))


def test_one_step_from_rest_and_from_a_pause(watch):
    watched = watch()
    for step in (1, 2, 3):
        watched.run.start(once=True)
        watched.wait_for(
            lambda step=step: watched.run.state == "paused" and watched.steps[-1] == step
        )
    time.sleep(0.1)
    assert watched.steps == [1, 2, 3]
    assert watched.images[-1][1], "it said that it waits"


def test_starting_twice_is_refused_and_does_no_harm(watch):
    watched = watch()
    assert watched.run.start()
    assert not watched.run.start()
    assert len(alive()) == 1


def test_stop_keeps_the_picture_and_start_goes_on_from_it(watch):
    watched = watch()
    watched.run.start()
    watched.wait_for(lambda: len(watched.steps) > 5)
    watched.run.stop()
    assert watched.run.state == "idle"
    assert not alive()
    stopped = watched.run.steps
    assert stopped == watched.steps[-1]
    watched.run.end = stopped + 4
    watched.run.start()
    watched.run.join(PATIENCE)
    assert watched.run.steps == stopped + 4
    assert watched.run.result.history[-1]["total"] < watched.run.result.history[0]["total"]


@pytest.mark.parametrize("state", ["idle", "running", "paused"])
def test_stop_works_in_every_state_and_twice(watch, state):
    watched = watch()
    if state != "idle":
        watched.run.start()
    if state == "paused":
        watched.run.pause()
    watched.run.stop()
    watched.run.stop()
    assert (watched.run.state, alive()) == ("idle", [])


def test_weights_are_turned_between_steps(watch):
    watched = watch()
    watched.run.start()
    watched.wait_for(lambda: len(watched.steps) > 3)

    def turn(loss):
        loss.alpha = 0.5

    watched.turn_more = turn
    watched.wait_for(lambda: watched.alphas[-1] == 0.5)
    watched.run.stop()
    assert watched.made == 1, "nothing started again"
    assert watched.run.result.history[-1]["step"] == len(watched.run.result.history)


def test_the_end_may_be_moved_while_it_runs(watch):
    watched = watch(end=100_000)
    watched.run.start()
    watched.wait_for(lambda: len(watched.steps) > 3)
    watched.run.end = 8
    watched.run.join(PATIENCE)
    assert watched.run.state == "idle"
    assert watched.run.steps >= 8


def test_a_new_loss_goes_on_with_the_same_picture(watch):
    watched = watch()
    watched.run.start()
    watched.wait_for(lambda: len(watched.steps) > 3)
    watched.run.renew()
    watched.wait_for(lambda: watched.made == 2 and len(watched.steps) > 20)
    assert watched.steps == list(range(1, len(watched.steps) + 1))
    watched.run.stop()
    history = watched.run.result.history
    assert [e["step"] for e in history] == list(range(1, len(history) + 1))


def test_what_there_is_so_far_is_a_result_of_its_own(watch):
    watched = watch()
    assert watched.run.so_far().history == []
    watched.run.start()
    watched.wait_for(lambda: len(watched.steps) > 3)
    early = watched.run.so_far()
    image, steps = early.image.clone(), len(early.history)
    watched.wait_for(lambda: len(watched.steps) > steps + 10)
    assert torch.equal(early.image, image)
    assert len(early.history) == steps
    watched.run.pause()
    paused = watched.run.so_far()
    assert len(paused.history) > steps


def test_it_can_go_on_from_what_there_was(watch, content):
    watched = watch()
    watched.run.start()
    watched.wait_for(lambda: len(watched.steps) > 10)
    early = watched.run.so_far()
    watched.run.stop()
    watched.run.result, watched.run.end = early, early.history[-1]["step"] + 5
    watched.run.start()
    watched.run.join(PATIENCE)
    history = watched.run.result.history
    assert len(history) == len(early.history) + 5
    assert history[-1]["total"] < 1.05 * early.history[-1]["total"]


def test_an_error_is_kept_and_the_picture_of_before(watch):
    watched = watch()
    before = watched.run.result
    watched.hold = 4
    watched.run.start()
    watched.run.join(PATIENCE)
    assert str(watched.run.error) == "a test's own"
    assert watched.run.state == "idle"
    assert watched.run.result is before
    watched.hold = None
    watched.run.end = 3
    watched.run.start()
    watched.run.join(PATIENCE)
    assert watched.run.error is None
    assert watched.run.steps == 3


@pytest.mark.filterwarnings("ignore:.*not finite")
def test_what_is_not_finite_ends_with_the_last_good_picture(watch):
    watched = watch()

    def spoil(loss):
        if len(watched.steps) == 6:
            loss.get_buffer("content_relu4_2").fill_(torch.nan)

    watched.turn_more = spoil
    watched.run.start()
    assert watched.run.join(PATIENCE)
    assert watched.run.error is None
    assert "not finite" in watched.run.result.stopped
    assert torch.isfinite(watched.run.result.image).all()
    assert len(watched.run.result.history) == 6


def test_ctrl_c_ends_a_run_without_a_thread(watch):
    watched = watch(threaded=False)

    def interrupt(loss):
        if len(watched.steps) == 3:
            raise KeyboardInterrupt

    watched.turn_more = interrupt
    watched.run.start()
    assert watched.run.state == "idle"
    assert watched.run.result.stopped == "interrupted"
    assert watched.run.steps == 3


def test_ctrl_c_while_waiting_stops_the_run(watch, monkeypatch):
    watched = watch()
    watched.run.start()
    watched.wait_for(lambda: len(watched.steps) > 3)
    thread, join = watched.run._thread, watched.run._thread.join
    pressed = []

    def interrupted(timeout=None):
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        join(timeout)

    monkeypatch.setattr(thread, "join", interrupted)
    assert watched.run.join()
    assert watched.run.state == "idle"


def test_the_pace_is_known_while_it_runs(watch):
    watched = watch(end=40)
    assert watched.run.steps_per_second == 0
    watched.run.start()
    watched.run.join(PATIENCE)
    history = watched.run.result.history
    plain = 29 / (history[-1]["seconds"] - history[-30]["seconds"])
    assert watched.run.steps_per_second == pytest.approx(plain, rel=0.2)


def test_a_program_may_end_while_it_runs():
    code = """
import nst_helpers as nst
net, content = nst.load_network("bundled"), nst.load_image("chelsea", 64)
loss = nst.StyleTransferLoss(net, content, content)
run = nst.LiveRun(lambda: loss, lambda loss: None, lambda progress, waits: None)
run.result, run.end = nst.Result(nst.noise_like(content)), 100_000
run.start()
while run.steps_per_second == 0:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
