"""The loop on losses whose minimum is known, on the real loss, and when things go wrong."""

import doctest
import math
import pickle
import re
import warnings
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch

from helpers import Quadratic, Total, interrupted_before_each_line, make_picture
from nst_helpers import (
    Features,
    Loss,
    LossTerms,
    Progress,
    Result,
    StyleTransferLoss,
    estimate_memory,
    noise_like,
    optimization,
    optimize,
    resize_image,
)
from nst_helpers.engine import lbfgs, memory, minimizers, objective, run

BOTH = pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
TERMS = {"total", "content", "style", "tv"}


class Weighted(Loss, Quadratic):
    """A quadratic with a weight that a callback may change."""

    weight = 1.0

    @property
    def weights(self):
        return (self.weight,)

    def __call__(self, image):
        return Total(self.weight * Quadratic.__call__(self, image).total)


class Resizable(Loss, Quadratic):
    """A quadratic for images of any size."""

    def resized(self, scale):
        return Resizable(resize_image(self.target, scale))

    def __call__(self, image):
        return Quadratic.__call__(self, image)


class NotFinite:
    """A quadratic that is not finite from one call on."""

    def __init__(self, target, call, value=math.nan, only_gradient=False):
        self.inner, self.call = Quadratic(target), call
        self.value, self.only_gradient, self.calls = value, only_gradient, 0

    def __call__(self, image):
        self.calls += 1
        total = self.inner(image).total
        if self.calls >= self.call:
            bad = (image - image.detach()).sqrt().sum() if self.only_gradient else self.value
            total = total + bad
        return Total(total)


class Interrupted(Quadratic):
    """A quadratic during whose fourth call somebody presses Ctrl-C."""

    def __call__(self, image):
        if len(self.images) == 3:
            raise KeyboardInterrupt
        return super().__call__(image)


class Scripted:
    """Values as in a list, call by call, the last one for good; always the same gradient."""

    def __init__(self, *values):
        self.values, self.calls = values, 0

    def __call__(self, image):
        value = self.values[min(self.calls, len(self.values) - 1)]
        self.calls += 1
        return Total(value + (image - image.detach()).sum((1, 2, 3)))


def totals(result):
    return [entry["total"] for entry in result.history]


@pytest.fixture
def target():
    return make_picture(8, 10, seed=3)


@pytest.fixture
def start(target):
    return noise_like(target)


@pytest.fixture(scope="module")
def loss(net, content, style):
    return StyleTransferLoss(net, content, style, tv_weight=1e-3)


# --- it lowers the loss --------------------------------------------------------------------------


@BOTH
def test_a_quadratic_is_lowered(target, start, optimizer):
    result = optimize(Quadratic(target), start, steps=60, optimizer=optimizer)
    assert totals(result)[-1] < 0.1 * totals(result)[0]


@pytest.mark.parametrize("stretch", [1.0, 30.0])
def test_lbfgs_finds_the_minimum_of_a_quadratic(target, start, stretch):
    result = optimize(Quadratic(target, stretch), start, steps=80)
    torch.testing.assert_close(result.image, target, rtol=0, atol=1e-3)


@BOTH
def test_a_style_transfer_is_lowered_from_noise(loss, content, optimizer):
    result = optimize(loss, noise_like(content), steps=40, optimizer=optimizer)
    assert loss(result.image).total.item() < 0.3 * loss(noise_like(content)).total.item()


@BOTH
def test_a_style_transfer_is_lowered_from_the_content_image(loss, content, optimizer):
    result = optimize(loss, content, steps=25, optimizer=optimizer)
    assert loss(result.image).total.item() < 0.7 * loss(content).total.item()


def test_lr_is_the_step_length_of_adam(target, start):
    quadratic = Quadratic(target)
    optimize(quadratic, start, steps=2, optimizer="adam", lr=0.003)
    change = (quadratic.images[1] - quadratic.images[0]).abs()
    torch.testing.assert_close(change, torch.full_like(change, 0.003), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
@BOTH
def test_the_scale_of_the_loss_does_not_matter(loss, content, optimizer, scale):
    def scaled(image):
        return LossTerms(*(scale * term for term in loss(image)))

    start = noise_like(content)
    result = optimize(scaled, start, steps=60, optimizer=optimizer)
    assert loss(result.image).total.item() < 0.5 * loss(start).total.item()
    assert result.unclipped.abs().max() < 5


@BOTH
@pytest.mark.parametrize("alpha", [1.0, 1e-6])
def test_the_scale_of_a_weight_alone_does_not_matter(net, content, optimizer, alpha):
    loss = StyleTransferLoss(net, content, alpha=alpha)
    result = optimize(loss, noise_like(content), steps=40, optimizer=optimizer)
    assert result.history[-1]["content"] < 0.2 * result.history[0]["content"]


@BOTH
def test_a_loss_that_is_zero_at_the_start_leaves_the_image(target, optimizer):
    result = optimize(Quadratic(target), target, steps=20, optimizer=optimizer)
    assert torch.equal(result.image, target)
    assert (result.stopped, result.ok) == ("steps", True)
    assert len(result.history) <= 20


def test_it_works_under_no_grad(target, start):
    with torch.no_grad():
        result = optimize(Quadratic(target), start, steps=3)
    assert len(result.history) == 3


# --- what a loss is ------------------------------------------------------------------------------


def test_the_example_of_a_loss_of_ones_own_runs():
    outcome = doctest.testmod(optimization)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_a_loss_that_is_derived_needs_only_a_call():
    class Own(Loss):
        def __call__(self, image):
            return Total(image.sum((1, 2, 3)))

    own = Own()
    assert isinstance(own, Loss)
    assert (own.device, own.weights, own.capturable) == (None, (), False)
    assert own.memory_needed((1, 3, 8, 8)) == 0
    with pytest.raises(ValueError, match=r"a pyramid needs a loss that has resized\(scale\)"):
        own.resized(0.5)
    with pytest.raises(NotImplementedError):
        Loss.__call__(own, torch.zeros(1, 3, 8, 8))


def test_style_transfer_offers_all_that_a_loss_may(loss, content):
    assert isinstance(loss, Loss)
    assert loss.device == torch.device("cpu")
    assert loss.weights == (pytest.approx(1e-3), 1.0, 1e-3, *[0.2] * 5)
    assert loss.capturable
    assert loss.memory_needed(content.shape) > 0
    assert loss.resized(0.5)(resize_image(content, 0.5)).total.shape == (1,)


def test_a_loss_may_have_terms_of_its_own(target, start):
    class Terms(NamedTuple):
        total: torch.Tensor
        redness: torch.Tensor

    result = optimize(
        lambda image: Terms(((image - target) ** 2).sum((1, 2, 3)), image[:, 0].mean((1, 2))),
        start,
        steps=3,
    )
    assert set(result.history[0]) == {"step", "seconds", "total", "redness"}
    assert result.history[0]["redness"] == pytest.approx(start[:, 0].mean().item())


def test_the_image_is_on_the_device_of_the_loss(target, start):
    class Arrived(Exception):
        pass

    class Elsewhere(Quadratic):
        device = torch.device("meta")

        def __call__(self, image):
            assert image.device.type == "meta"
            raise Arrived

    with pytest.raises(Arrived):
        optimize(Elsewhere(target), start, steps=1)


# --- history, image and snapshots ----------------------------------------------------------------


@BOTH
def test_every_evaluation_is_a_step_of_the_history(loss, content, optimizer):
    result = optimize(loss, noise_like(content), steps=7, optimizer=optimizer)
    assert [entry["step"] for entry in result.history] == [1, 2, 3, 4, 5, 6, 7]
    assert result.steps_done == 7
    assert all(set(entry) == {"step", "seconds"} | TERMS for entry in result.history)
    assert all(type(v) in (int, float) for entry in result.history for v in entry.values())
    seconds = [entry["seconds"] for entry in result.history]
    assert seconds[0] > 0
    assert all(b > a for a, b in pairwise(seconds))
    assert result.stopped == "steps"


@BOTH
def test_no_more_evaluations_than_asked_for(target, start, optimizer):
    quadratic = Quadratic(target, 30.0)
    optimize(quadratic, start, steps=5, optimizer=optimizer)
    assert len(quadratic.images) == 5


@BOTH
def test_the_history_holds_the_values_of_the_loss(target, start, optimizer):
    quadratic = Quadratic(target, 30.0)
    result = optimize(quadratic, start, steps=9, optimizer=optimizer)
    expected = [quadratic(image).total.item() for image in list(quadratic.images)]
    assert totals(result) == pytest.approx(expected)
    assert torch.equal(quadratic.images[0], start)


@BOTH
def test_the_result_is_the_image_of_the_lowest_loss_clipped(start, optimizer):
    target = torch.linspace(-0.5, 1.5, start.numel()).view(start.shape)  # partly out of range
    quadratic = Quadratic(target, 30.0)
    result = optimize(quadratic, start, steps=30, optimizer=optimizer, lr=0.3, range_weight=0)
    best = quadratic.images[totals(result).index(min(totals(result)))]
    assert torch.equal(result.unclipped, best)
    assert torch.equal(result.image, best.clamp(0, 1))
    assert best.min() < 0
    assert best.max() > 1


@BOTH
def test_a_loss_that_rises_again_does_not_spoil_the_result(target, start, optimizer):
    quadratic = Quadratic(target, 30.0)

    def rising(image):
        late = 1000.0 * (len(quadratic.images) >= 4)
        return Total(quadratic(image).total + late)

    result = optimize(rising, start, steps=9, optimizer=optimizer)
    lowest = totals(result).index(min(totals(result)))
    assert lowest < 4 < len(result.history)
    assert torch.equal(result.unclipped, quadratic.images[lowest])


@BOTH
def test_the_start_is_left_as_it_is(loss, content, optimizer):
    start = noise_like(content)
    before = start.clone()
    result = optimize(loss, start, steps=3, optimizer=optimizer)
    assert torch.equal(start, before)
    assert not start.requires_grad
    assert not result.image.requires_grad
    assert result.image.data_ptr() != start.data_ptr()


def test_one_step_returns_the_start(target, start):
    with pytest.warns(UserWarning, match="one step only looks at the start"):
        result = optimize(Quadratic(target), start, steps=1)
    assert (result.ok, result.problem) == (True, "")
    assert torch.equal(result.image, start)
    assert result.image.data_ptr() != start.data_ptr()


def test_snapshots_are_the_images_at_their_steps(target, start):
    quadratic = Quadratic(2 * target, 30.0)
    result = optimize(quadratic, start, steps=8, snapshots=[1, 4, 8])
    assert list(result.snapshots) == [1, 4, 8]
    for step, image in result.snapshots.items():
        assert torch.equal(image, quadratic.images[step - 1].clamp(0, 1))


@BOTH
def test_the_same_seed_gives_the_same_image_bit_for_bit(loss, content, optimizer):
    a, b = (optimize(loss, noise_like(content, seed=4), steps=6, optimizer=optimizer) for _ in "ab")
    assert torch.equal(a.image, b.image)
    assert totals(a) == totals(b)
    c = optimize(loss, noise_like(content, seed=5), steps=6, optimizer=optimizer)
    assert not torch.equal(a.image, c.image)


@BOTH
def test_the_global_generator_is_left_alone(loss, content, optimizer):
    state = torch.get_rng_state()
    optimize(loss, content, steps=3, optimizer=optimizer)
    assert torch.equal(torch.get_rng_state(), state)


# --- on an accelerator, where reading the log waits for it ---------------------------------------


@pytest.fixture
def reads(monkeypatch):
    """Steps at which the host reads the log of runs that take the CPU for an accelerator."""
    steps, read = [], objective.StepLog.read

    class Accelerated(run.Run):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.device = torch.device("cuda")

    def counted(log):
        if log.unread:
            steps.append(log.steps)
        read(log)

    monkeypatch.setattr(optimization, "Run", Accelerated)
    monkeypatch.setattr(objective.StepLog, "read", counted)
    return steps


@BOTH
def test_the_log_is_read_every_25_steps_and_is_the_same(target, start, optimizer, reads):
    result = optimize(Quadratic(target, 30.0), start, steps=60, optimizer=optimizer)
    assert reads == [1, 26, 51, 60]
    calls = []
    expected = optimize(
        Quadratic(target, 30.0), start, steps=60, optimizer=optimizer, callback=calls.append
    )
    assert reads[4:] == list(range(1, 61))  # a callback wants to know
    assert totals(result) == totals(expected)
    assert torch.equal(result.unclipped, expected.unclipped)


def test_a_non_finite_loss_is_noticed_when_the_log_is_read(target, start, reads):
    with pytest.warns(UserWarning, match="not finite at step 5"):
        result = optimize(NotFinite(target, 5), start, steps=60)
    assert (result.stopped, len(result.history), reads) == ("not finite", 4, [1, 26])


def test_a_step_is_captured_anew_when_a_callback_changes_a_weight(
    net, content, style, reads, monkeypatch
):
    """A captured step computes with the numbers of its capture, whatever they are later."""
    captures = []

    def capture(step, device):
        weights = loss.alpha
        captures.append(weights)

        def captured():
            now, loss.alpha = loss.alpha, weights
            step()
            loss.alpha = now

        return captured

    def slider(progress):
        if progress.step == 5:
            loss.alpha = 1.0

    monkeypatch.setattr(optimization, "capture_cuda_graph", capture)
    loss = StyleTransferLoss(net, content, style, alpha=1e-3)
    found = optimize(loss, content, steps=9, callback=slider)
    monkeypatch.undo()
    loss = StyleTransferLoss(net, content, style, alpha=1e-3)
    expected = optimize(loss, content, steps=9, callback=slider)
    assert captures == [1e-3, 1.0]
    assert totals(found) == totals(expected)


# --- the penalty on values outside the range -----------------------------------------------------


@pytest.fixture(scope="module")
def black_and_white(net):
    """The loss of a texture of black and white, which the optimiser would overshoot; a start."""
    image = (make_picture(64, 64, seed=5) > 0.5).float()
    return StyleTransferLoss(net, style=image), noise_like(image)


def cost_of_clipping(loss, result):
    return loss(result.image).total.item() - loss(result.unclipped).total.item()


@BOTH
def test_with_the_penalty_clipping_costs_less(black_and_white, optimizer):
    loss, start = black_and_white
    result = optimize(loss, start, steps=60, optimizer=optimizer)
    without = optimize(loss, start, steps=60, optimizer=optimizer, range_weight=0)
    assert cost_of_clipping(loss, result) < 0.7 * cost_of_clipping(loss, without)
    assert loss(result.image).total.item() < loss(without.image).total.item()


def test_resumed_runs_do_not_leave_the_range_either(black_and_white):
    loss, start = black_and_white
    pieces = optimize(loss, start, steps=30)
    for _ in range(3):
        pieces = optimize(loss, pieces, steps=30)
    assert cost_of_clipping(loss, pieces) < 1e-3 * loss(start).total.item()
    new_start = optimize(loss, Result(pieces.image), steps=30)  # knows nothing of the first one
    assert cost_of_clipping(loss, pieces) < cost_of_clipping(loss, new_start)


# --- callbacks -----------------------------------------------------------------------------------


@BOTH
def test_the_callback_is_called_after_every_step(loss, content, optimizer):
    calls = []
    result = optimize(loss, content, steps=4, optimizer=optimizer, callback=calls.append)
    assert all(isinstance(p, Progress) for p in calls)
    assert [p.step for p in calls] == [1, 2, 3, 4]
    assert {p.steps for p in calls} == {4}
    for progress, entry in zip(calls, result.history, strict=True):
        assert {"step": progress.step, "seconds": progress.seconds, **progress.terms} == entry


def test_the_image_of_a_progress_is_a_clipped_copy(target, start):
    quadratic, images = Quadratic(2 * target, 30.0), []

    def spoil(progress):
        image = progress.image()
        images.append(image.clone())
        assert not image.requires_grad
        image.fill_(math.nan)

    result = optimize(quadratic, start, steps=5, callback=spoil)
    for image, evaluated in zip(images, quadratic.images, strict=True):
        assert torch.equal(image, evaluated.clamp(0, 1))
    assert torch.isfinite(result.image).all()


@BOTH
def test_a_callback_that_returns_false_ends_the_run(target, start, optimizer):
    result = optimize(
        Quadratic(target, 30.0),
        start,
        steps=50,
        optimizer=optimizer,
        callback=lambda progress: progress.step < 3,
    )
    assert result.stopped == "callback"
    assert [entry["step"] for entry in result.history] == [1, 2, 3]


@pytest.mark.parametrize("value", [None, 0, "", True])
def test_only_false_ends_the_run(target, start, value):
    result = optimize(Quadratic(target, 30.0), start, steps=3, callback=lambda progress: value)
    assert (result.stopped, len(result.history)) == ("steps", 3)


def test_an_error_in_the_callback_is_not_swallowed(target, start):
    def fail(progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        optimize(Quadratic(target), start, steps=5, callback=fail)


def test_the_result_of_a_progress_is_that_of_a_run_that_ends_there(loss, content):
    results = {}

    def callback(progress):
        if progress.step in (3, 6):
            results[progress.step] = progress.result()

    whole = optimize(loss, noise_like(content), steps=9, callback=callback)
    for step, early in results.items():
        short = optimize(loss, noise_like(content), steps=step)
        assert torch.equal(early.image, short.image)
        assert torch.equal(early.relative_gradient, short.relative_gradient)
        assert len(early.history) == step
    assert len(whole.history) == 9


def test_the_progress_of_a_run_that_has_ended_is_that_of_its_last_step(loss, content):
    starts, calls = noise_like(content.expand(2, -1, -1, -1)), []
    result = optimize(loss, starts, steps=3, callback=calls.append)
    progress = Progress.of(result)
    for name in ("step", "steps", "terms", "seconds"):
        assert getattr(progress, name) == getattr(calls[-1], name)
    assert progress.result() is result
    assert torch.equal(progress.image(), result.image)
    for part, last in zip(progress.split(), calls[-1].split(), strict=True):
        assert part.terms == last.terms
        assert part.image().shape == content.shape


# --- how a run ends ------------------------------------------------------------------------------


def run_all_steps(target, start):
    return optimize(Quadratic(target), start, steps=3)


def converge(target, start):
    # The second image is better than the first, any other one worse.
    return optimize(Scripted(2.0, 1.0, 3.0), start, steps=200)


def press_ctrl_c(target, start):
    return optimize(Interrupted(target, 30.0), start, steps=50)


def end_by_callback(target, start):
    return optimize(Quadratic(target), start, steps=50, callback=lambda progress: False)


def become_non_finite(target, start):
    return optimize(NotFinite(target, 4), start, steps=50)


def step_too_short(target, start):
    return optimize(Quadratic(target, 30.0), start, steps=30, lr=1e-5)


@pytest.mark.parametrize(
    ("run", "steps", "stopped", "problem"),
    [
        (run_all_steps, 3, "steps", ""),
        (converge, range(10, 100), "converged", ""),
        (press_ctrl_c, 3, "interrupted", ""),
        (end_by_callback, 1, "callback", ""),
        (become_non_finite, 3, "not finite", "not finite at step 4 .*last good image.* smaller lr"),
        (
            step_too_short,
            30,
            "no progress",
            "30 steps lowered the loss by .* lr=1e-05 is too small",
        ),
    ],
)
def test_a_result_says_why_it_ended_and_warns_of_a_problem(
    target, start, run, steps, stopped, problem
):
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        result = run(target, start)
    assert result.stopped == stopped
    assert len(result.history) in (steps if isinstance(steps, range) else [steps])
    assert result.ok == (problem == "")
    assert re.search(problem, result.problem) if problem else result.problem == ""
    assert [str(record.message) for record in records] == [result.problem] * (not result.ok)
    assert all(record.filename == __file__ for record in records)
    assert torch.isfinite(result.image).all()


def test_a_run_that_converges_takes_no_further_steps(start):
    scripted = Scripted(2.0, 1.0, 3.0)
    result = optimize(scripted, start, steps=200)
    assert scripted.calls == len(result.history) < 100
    assert min(totals(result)) == pytest.approx(1)


def test_without_progress_the_start_is_returned(target, start):
    with pytest.warns(UserWarning, match="none of 30 steps lowered the loss") as caught:
        result = optimize(Quadratic(target), start, steps=30, optimizer="adam", lr=30.0)
    assert "will paint noise" in str(caught[0].message)
    assert torch.equal(result.unclipped, start)
    assert len(result.history) == 30


def test_a_good_run_warns_of_nothing(loss, content):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimize(loss, noise_like(content), steps=5)


# --- losses that are not finite ------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("call", [2, 5])
@BOTH
def test_a_non_finite_loss_returns_the_last_good_image(target, start, optimizer, call, value):
    with pytest.warns(UserWarning, match=f"not finite at step {call} .*last good image"):
        result = optimize(NotFinite(target, call, value), start, steps=50, optimizer=optimizer)
    assert result.stopped == "not finite"
    assert f"step {call}" in result.problem
    assert len(result.history) == call - 1
    assert all(math.isfinite(total) for total in totals(result))
    quadratic = Quadratic(target)
    assert quadratic(result.image).total <= quadratic(start).total


def test_a_non_finite_gradient_returns_the_last_good_image(target, start):
    with pytest.warns(UserWarning, match="not finite at step 3"):
        result = optimize(NotFinite(target, 3, only_gradient=True), start, steps=9)
    assert torch.isfinite(result.image).all()


@BOTH
def test_a_loss_that_is_not_finite_at_the_start_is_an_error(target, start, optimizer):
    with pytest.raises(ValueError, match="not finite at step 1"):
        optimize(NotFinite(target, 1), start, steps=9, optimizer=optimizer)
    broken = start.clone()
    broken[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="start has values that are not finite"):
        optimize(Quadratic(target), broken, steps=9, optimizer=optimizer)


def test_recovers_from_one_non_finite_evaluation(target, start):
    quadratic = Quadratic(target, 30.0)

    def infinite_once(image):
        total = quadratic(image).total
        return Total(total * (math.inf if len(quadratic.images) == 4 else 1))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = optimize(infinite_once, start, steps=80)
    assert [entry["step"] for entry in result.history] == [1, 2, 3, *range(5, 81)]
    torch.testing.assert_close(result.image, target, rtol=0, atol=2e-3)


@BOTH
def test_a_non_finite_image_of_a_batch_does_not_spoil_the_others(target, optimizer):
    targets = torch.cat([target, 1 - target])
    quadratic = Quadratic(targets)

    def spoilt(image):
        total = quadratic(image).total
        factors = [math.nan if len(quadratic.images) > 5 else 1.0, 1.0]
        return Total(total * torch.tensor(factors))

    with pytest.warns(UserWarning, match=r"image 0 of the batch \(from 0\)"):
        result = optimize(spoilt, noise_like(targets), steps=80, optimizer=optimizer)
    assert (result.stopped, result.ok) == ("steps", True)
    assert "image 0 of the batch" in result.problem
    assert len(result.history) == 80
    assert torch.isfinite(result.image).all()
    error = (result.image[1] - targets[1]).square().sum()
    assert error < 0.1 * (noise_like(targets)[1] - targets[1]).square().sum()


# --- Ctrl-C --------------------------------------------------------------------------------------


@BOTH
def test_ctrl_c_returns_the_result_so_far(target, start, optimizer):
    def interrupt(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    quadratic = Quadratic(target, 30.0)
    result = optimize(quadratic, start, steps=50, optimizer=optimizer, callback=interrupt)
    assert result.stopped == "interrupted"
    assert len(result.history) == 4
    best = quadratic.images[totals(result).index(min(totals(result)))]
    assert torch.equal(result.unclipped, best)


def test_ctrl_c_before_the_first_step_is_raised(start):
    def interrupted(image):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimize(interrupted, start, steps=5)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": (3,), "optimizer": "adam"},
        {"steps": (3,)},
        {"steps": (2, 2), "pyramid": (8,)},
    ],
    ids=["adam", "lbfgs", "pyramid"],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_an_interrupt_at_any_line_keeps_every_finished_step_once(options, batch):
    target = make_picture(16, 16, seed=3, batch=batch)
    start, outcomes, calls = noise_like(target), set(), []
    files = {module.__file__ for module in (optimization, lbfgs, minimizers, objective, run)}

    def descend():
        calls.clear()
        return optimize(Resizable(target), start, callback=calls.append, **options)

    for result in interrupted_before_each_line(descend, files):
        if result is None:
            assert not calls
            continue
        steps = [entry["step"] for entry in result.history]
        assert steps == list(range(1, len(steps) + 1))
        assert len(calls) <= len(steps) <= len(calls) + 1
        assert torch.isfinite(result.image).all()
        assert len(result.split()) == batch
        outcomes.add((result.stopped, len(steps)))
    assert {stopped for stopped, _ in outcomes} == {"interrupted", "steps"}
    assert {count for _, count in outcomes} == set(range(1, sum(options["steps"]) + 1))


# --- resuming ------------------------------------------------------------------------------------


@BOTH
def test_resuming_continues_history_snapshots_and_numbering(target, start, optimizer):
    quadratic = Quadratic(2 * target, 30.0)
    options = {"optimizer": optimizer, "range_weight": 0}
    first = optimize(quadratic, start, steps=4, snapshots=[2], **options)
    before = [dict(entry) for entry in first.history], first.image.clone(), first.unclipped.clone()
    calls = []
    second = optimize(quadratic, first, steps=3, snapshots=[6], callback=calls.append, **options)
    assert [entry["step"] for entry in second.history] == [1, 2, 3, 4, 5, 6, 7]
    assert (first.steps_done, second.steps_done) == (4, 7)
    assert second.history[:4] == before[0]
    seconds = [entry["seconds"] for entry in second.history]
    assert all(b > a for a, b in pairwise(seconds))
    assert [(p.step, p.steps) for p in calls] == [(5, 7), (6, 7), (7, 7)]
    assert list(second.snapshots) == [2, 6]
    # The first is as it was.
    assert (first.history, list(first.snapshots)) == (before[0], [2])
    assert torch.equal(first.image, before[1])
    assert torch.equal(first.unclipped, before[2])


@BOTH
@pytest.mark.parametrize("pieces", [2, 5, 20])
def test_pieces_end_where_one_run_ends_bit_for_bit(loss, content, optimizer, pieces):
    start = noise_like(content)
    whole = optimize(loss, start, steps=40, optimizer=optimizer)
    result = start
    for _ in range(pieces):
        result = optimize(loss, result, steps=40 // pieces, optimizer=optimizer)
    assert totals(result) == totals(whole)
    assert torch.equal(result.unclipped, whole.unclipped)


def test_one_result_may_be_resumed_twice(loss, content):
    first = optimize(loss, noise_like(content), steps=6)
    one, other = (optimize(loss, first, steps=6) for _ in range(2))
    assert totals(one) == totals(other)


def test_a_run_that_a_callback_ended_is_resumed_with_its_curvature_pairs(loss, content):
    start = noise_like(content)
    whole = optimize(loss, start, steps=20)
    stopped = optimize(loss, start, steps=50, callback=lambda p: p.step < 11)
    assert totals(optimize(loss, stopped, steps=9)) == totals(whole)


def test_a_pyramid_is_resumed_at_its_full_size(loss, content):
    start = noise_like(content)
    whole = optimize(loss, start, steps=(4, 12), pyramid=(24,))
    pieces = optimize(loss, optimize(loss, start, steps=(4, 6), pyramid=(24,)), steps=6)
    assert totals(pieces) == totals(whole)


@pytest.mark.parametrize("change", ["loss", "weights", "options", "image", "process"])
def test_another_run_restarts_from_the_best_image(target, start, change):
    quadratic, options = Weighted(2 * target, 30.0), {"range_weight": 0}
    result = optimize(quadratic, start, steps=6, **options)
    if change == "loss":
        quadratic = Weighted(2 * target, 30.0)
    elif change == "weights":
        quadratic.weight = 2.0
    elif change == "options":
        options["history_size"] = 3
    elif change == "image":
        result = replace(result, unclipped=result.unclipped + 0.1)
    else:
        copy = pickle.loads(pickle.dumps(result))
        assert copy.history == result.history
        assert copy.continuation is None
        result = copy
    quadratic.images.clear()
    optimize(quadratic, result, steps=3, **options)
    assert torch.equal(quadratic.images[0], result.unclipped)  # not clipped on the way


def test_resumes_from_a_user_made_result(target, start):
    quadratic = Quadratic(target)
    result = optimize(quadratic, Result(start), steps=2)
    assert torch.equal(quadratic.images[0], start)
    assert [entry["step"] for entry in result.history] == [1, 2]


def test_resuming_never_ends_higher(loss, content):
    result = optimize(loss, noise_like(content), steps=10)
    for _ in range(2):
        lowest = min(totals(result))
        result = optimize(loss, result, steps=3)
        assert loss(result.unclipped).total.item() <= lowest * (1 + 1e-4)


# --- weights that change while it runs -----------------------------------------------------------


def set_after_step(step, loss, **weights):
    """A callback that sets weights of the loss after a step."""

    def callback(progress):
        if progress.step == step:
            for name, value in weights.items():
                setattr(loss, name, value)

    return callback


@BOTH
def test_changed_weights_converge_to_the_new_loss(net, content, style, optimizer):
    def loss(alpha):
        return StyleTransferLoss(net, content, style, alpha=alpha)

    def run(loss, steps, callback=None):
        start = noise_like(content)
        return optimize(loss, start, steps=steps, optimizer=optimizer, callback=callback)

    changing = loss(1e-3)
    changed = run(changing, 60, set_after_step(20, changing, alpha=30))
    assert len(changed.history) == 60
    results = changed, run(loss(30), 40), run(loss(1e-3), 60)
    changed_total, new_total, old_total = (loss(30)(r.image).total.item() for r in results)
    assert changed_total < 1.25 * new_total  # from another start
    assert changed_total < 0.5 * old_total


def test_the_image_does_not_jump_when_weights_change(net, content, style):
    loss, images = StyleTransferLoss(net, content, style, alpha=1e-3), []

    def callback(progress):
        images.append(progress.image())
        if progress.step == 15:
            loss.alpha, loss.beta = 1.0, 0.0
        if progress.step == 25:
            loss.style_layer_weights["relu1_1"] = 0.0
            loss.beta = 1.0

    options = {"range_weight": 0, "callback": callback}  # the loss alone decides
    result = optimize(loss, noise_like(content), steps=40, **options)
    changes = [(b - a).abs().mean().item() for a, b in pairwise(images)]
    assert max(changes[14:17] + changes[24:27]) < 3 * 0.01 + max(changes[5:14])
    assert result.history[15]["content"] == pytest.approx(result.history[14]["content"], rel=0.2)
    # The lowest of the loss as it was at last, not of an earlier one.
    lowest = min(totals(result)[25:])
    assert loss(result.unclipped).total.item() == pytest.approx(lowest, rel=1e-3)


def test_weights_may_change_where_the_old_loss_was_already_zero(net, content, style):
    loss = StyleTransferLoss(net, content, style, alpha=1.0)
    loss.beta = 0.0
    callback = set_after_step(2, loss, alpha=1e-3, beta=1.0)
    result = optimize(loss, content, steps=30, callback=callback)
    assert totals(result)[0] == 0
    assert totals(result)[-1] < 0.5 * totals(result)[2]


def test_weights_of_a_batch_may_change_one_by_one(net, content, style):
    loss = StyleTransferLoss(net, content, style, alpha=[1e-3, 1e-3])
    starts = noise_like(content).expand(2, -1, -1, -1)
    ratios = torch.tensor([1e-3, 30.0])
    result = optimize(loss, starts, steps=40, callback=set_after_step(5, loss, alpha=ratios))
    low_alpha, high_alpha = (part.history[-1]["content"] for part in result.split())
    assert high_alpha < 0.5 * low_alpha


def test_weights_may_change_after_the_last_step_of_a_run_that_is_resumed(target, start):
    loss = Weighted(2 * target, 30.0)
    result = optimize(loss, start, steps=12, callback=set_after_step(12, loss, weight=1e6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed = optimize(loss, result, steps=12)
    assert resumed.ok
    assert min(totals(resumed)[12:]) < totals(resumed)[12]


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[
            ({"steps": value}, f"steps must be a whole number, 1 or more; got {value!r}")
            for value in (0, -5, 2.5, True, "9")
        ],
        ({"steps": (2, 2)}, "steps must be .* one for each size"),
        ({"optimizer": "sgd"}, "optimizer must be one of lbfgs, adam; got 'sgd'"),
        *[
            ({"lr": value}, f"lr must be a number > 0; got {value!r}")
            for value in (0, -1.0, math.nan, math.inf)
        ],
        *[
            ({"range_weight": value}, f"range_weight must be a number >= 0; got {value!r}")
            for value in (-1, math.nan, math.inf)
        ],
        ({"history_size": 0}, "history_size must be a whole number, 1 or more; got 0"),
        ({"precondition": -1}, "precondition must be a number >= 0; got -1"),
        ({"pyramid": (32, 16)}, "pyramid must rise"),
        ({"pyramid": (48,)}, "shorter side 48"),
        ({"pyramid": (0,)}, "pyramid must be whole numbers"),
        ({"pyramid": (16.0,)}, "pyramid must be whole numbers"),
        ({"pyramid": (8,)}, "too small for relu"),
        ({"pyramid": (24,), "steps": (2, 2, 2)}, "one for each size"),
        ({"pyramid": (24,), "steps": 1}, "at least 2"),
    ],
)
def test_bad_arguments_are_named_before_the_first_step(loss, content, options, message):
    calls = []
    with pytest.raises(ValueError, match=message):
        optimize(loss, noise_like(content), **{"steps": 4, "callback": calls.append, **options})
    assert calls == []


@pytest.mark.parametrize(
    "value", [torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), "chelsea", None, [1, 2]]
)
def test_a_start_that_is_no_image_is_refused(target, value):
    for start in (value, Result(value)):
        with pytest.raises(ValueError, match=r"start must be an image \(B, 3, H, W\) or a Result"):
            optimize(Quadratic(target), start, steps=1)


def test_a_pyramid_needs_a_loss_that_can_be_resized(target, start):
    with pytest.raises(ValueError, match=r"a pyramid needs a loss that has resized\(scale\)"):
        optimize(Quadratic(target), start, steps=4, pyramid=(4,))


# --- coarse to fine ------------------------------------------------------------------------------


def test_a_pyramid_goes_from_small_to_full(loss, content):
    calls, snapshots = [], [2, 7]
    result = optimize(
        loss,
        noise_like(content),
        steps=(4, 3, 2),
        pyramid=(24, 36),
        snapshots=snapshots,
        callback=lambda p: calls.append((p.step, p.steps, tuple(p.image().shape[2:]))),
    )
    assert result.image.shape == content.shape
    assert [entry["size"] for entry in result.history] == [24] * 4 + [36] * 3 + [48] * 2
    assert [entry["step"] for entry in result.history] == list(range(1, 10))
    shapes = [(24, 32)] * 4 + [(36, 48)] * 3 + [(48, 64)] * 2
    assert calls == [(step, 9, shape) for step, shape in enumerate(shapes, 1)]
    snapshot_shapes = {step: tuple(x.shape[2:]) for step, x in result.snapshots.items()}
    assert snapshot_shapes == {2: (24, 32), 7: (36, 48)}


def test_each_level_starts_from_the_one_before(loss, content):
    start, first = noise_like(content), {}

    def callback(progress):
        first.setdefault(progress.image().shape[2], progress.image())

    optimize(loss, start, steps=(5, 1), pyramid=(24,), callback=callback)
    small = optimize(loss.resized(0.5), resize_image(start, 0.5), steps=5)
    enlarged = resize_image(small.unclipped, 2).clamp(0, 1)
    torch.testing.assert_close(first[48], enlarged, rtol=0, atol=1e-5)


def test_a_fifth_of_the_steps_is_for_the_full_size(loss, content):
    result = optimize(loss, noise_like(content), steps=10, pyramid=(24, 36))
    assert [entry["size"] for entry in result.history] == [24] * 4 + [36] * 4 + [48] * 2


def test_a_pyramid_that_a_callback_ended_has_a_history(loss, content):
    result = optimize(
        loss, noise_like(content), steps=20, pyramid=(24,), callback=lambda p: p.step < 3
    )
    assert (result.stopped, len(result.history)) == ("callback", 3)


# --- batches -------------------------------------------------------------------------------------


@BOTH
def test_each_image_of_a_batch_is_optimised(target, optimizer):
    targets = torch.cat([target, 1 - target])
    start = noise_like(targets)
    result = optimize(Quadratic(targets), start, steps=80, optimizer=optimizer)
    assert result.image.shape == targets.shape
    before, after = ((x - targets).square().sum((1, 2, 3)) for x in (start, result.image))
    assert (after < 0.1 * before).all()


def test_the_history_of_a_batch_is_summed(loss, content):
    starts = noise_like(content.expand(2, -1, -1, -1))
    result = optimize(loss, starts, steps=1)
    for name, term in loss(starts)._asdict().items():
        assert result.history[0][name] == pytest.approx(term.sum().item(), rel=1e-5)


def test_batch_elements_are_independent(net, content, style):
    ratios = [1e-3, 1.0, 30.0]
    starts = torch.cat([noise_like(content, seed) for seed in range(3)])
    loss = StyleTransferLoss(net, content, style, alpha=ratios)
    together = optimize(loss, starts, steps=8, snapshots=[5])
    parts = together.split()
    assert len(parts) == 3
    for i, part in enumerate(parts):
        loss = StyleTransferLoss(net, content, style, alpha=ratios[i])
        alone = optimize(loss, starts[i : i + 1], steps=8)
        torch.testing.assert_close(part.image, alone.image, rtol=0, atol=2e-3)
        assert torch.equal(part.snapshots[5], together.snapshots[5][i : i + 1])
        for entry, expected in zip(part.history, alone.history, strict=True):
            assert entry["step"] == expected["step"]
            assert entry["total"] == pytest.approx(expected["total"], rel=2e-2)
    for entry, *entries in zip(together.history, *(p.history for p in parts), strict=True):
        assert entry["total"] == pytest.approx(sum(e["total"] for e in entries), rel=1e-5)


def test_the_progress_of_a_batch_can_be_split(loss, content):
    starts, calls = noise_like(content.expand(2, -1, -1, -1)), []
    optimize(loss, starts, steps=2, callback=lambda p: calls.append((p, p.split(), p.image())))
    for progress, parts, image in calls:
        assert sum(p.terms["total"] for p in parts) == pytest.approx(progress.terms["total"])
        assert [p.step for p in parts] == [progress.step] * 2
        assert image.shape[0] == 2


def test_the_result_of_a_split_progress_is_that_of_its_image(loss, content):
    starts, results = noise_like(content.expand(2, -1, -1, -1)), []
    optimize(
        loss, starts, steps=3, callback=lambda p: results.extend(q.result() for q in p.split())
    )
    assert [tuple(r.image.shape) for r in results] == [tuple(content.shape)] * 6
    assert [len(r.history) for r in results] == [1, 1, 2, 2, 3, 3]


# --- memory --------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_the_first_step(monkeypatch, loss, content):
    needed = estimate_memory(loss, content.shape)
    assert needed > estimate_memory(loss, content.shape, optimizer="adam")
    more = estimate_memory(loss, content.shape, history_size=40)
    assert more - needed == 4 * content.numel() * 20
    monkeypatch.setattr(memory, "available_memory", lambda device: needed - 1)
    calls = []
    with pytest.raises(ValueError, match=r"64 x 48 pixels need .* would fit"):
        optimize(loss, noise_like(content), steps=2, callback=calls.append)
    assert calls == []
    monkeypatch.setattr(memory, "available_memory", lambda device: needed)
    optimize(loss, noise_like(content), steps=2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_low_memory_gives_the_same_run(weights, precision):
    net = Features(weights).to_precision(precision)
    content, style = make_picture(150, 40, seed=1), make_picture(130, 50, seed=2)
    normal, low = (
        totals(optimize(StyleTransferLoss(net, content, style, memory=memory), content, steps=5))
        for memory in ("normal", "low")
    )
    assert low == pytest.approx(normal, rel=1e-4 if precision == "float32" else 2e-2)
    assert normal[-1] < 0.9 * normal[0]
