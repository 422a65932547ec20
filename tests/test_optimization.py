"""The loop on losses whose minimum is known, on the real loss, and when things go wrong."""

import math
import pickle
import sys
import warnings
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch

from helpers import make_picture
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


class OnlyTotal(NamedTuple):
    total: torch.Tensor


class Quadratic:
    """Squared distance to a target, stretched differently in each pixel; remembers its calls."""

    def __init__(self, target, stretch=1.0, scale=1.0):
        self.target, self.scale, self.seen = target, scale, []
        self.stretch = torch.linspace(1, stretch, target[0].numel()).view(target[:1].shape)

    def __call__(self, image):
        self.seen.append(image.detach().clone())
        total = (self.stretch * (image - self.target) ** 2).sum((1, 2, 3)) * self.scale
        return OnlyTotal(total)


class Weighted(Loss, Quadratic):
    """A quadratic with a weight that a callback may change."""

    weight = 1.0

    @property
    def weights(self):
        return (self.weight,)

    def __call__(self, image):
        return OnlyTotal(self.weight * Quadratic.__call__(self, image).total)


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
        return OnlyTotal(total)


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
    assert result.history[-1]["total"] < 0.1 * result.history[0]["total"]


@pytest.mark.parametrize("stretch", [1.0, 30.0])
def test_lbfgs_finds_the_minimum_of_a_quadratic(target, start, stretch):
    result = optimize(Quadratic(target, stretch), start, steps=80)
    torch.testing.assert_close(result.image, target, rtol=0, atol=1e-3)


@BOTH
def test_a_style_transfer_is_lowered(loss, content, optimizer):
    result = optimize(loss, noise_like(content), steps=40, optimizer=optimizer)
    assert loss(result.image).total.item() < 0.3 * loss(noise_like(content)).total.item()


@BOTH
def test_on_the_content_picture_the_loss_falls_too(loss, content, optimizer):
    result = optimize(loss, content, steps=25, optimizer=optimizer)
    assert loss(result.image).total.item() < 0.7 * loss(content).total.item()


def test_lr_is_the_step_of_adam(target, start):
    quadratic = Quadratic(target)
    optimize(quadratic, start, steps=2, optimizer="adam", lr=0.003)
    moved = (quadratic.seen[1] - quadratic.seen[0]).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.003), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
@BOTH
def test_a_badly_scaled_loss_neither_explodes_nor_stalls(loss, content, optimizer, scale):
    def scaled(image):
        return LossTerms(*(scale * term for term in loss(image)))

    start = noise_like(content)
    result = optimize(scaled, start, steps=60, optimizer=optimizer)
    before, after = loss(start).total.item(), loss(result.image).total.item()
    assert after < 0.5 * before
    assert result.unclipped.abs().max() < 5


@BOTH
def test_a_weight_alone_does_not_matter_to_the_picture(net, content, optimizer):
    start = noise_like(content)
    for alpha in (1.0, 1e-6):
        loss = StyleTransferLoss(net, content, alpha=alpha)
        result = optimize(loss, start, steps=40, optimizer=optimizer)
        assert result.history[-1]["content"] < 0.2 * result.history[0]["content"], alpha


# --- the record ----------------------------------------------------------------------------------


@BOTH
def test_every_evaluation_is_a_step_of_the_history(loss, content, optimizer):
    result = optimize(loss, noise_like(content), steps=7, optimizer=optimizer)
    assert [entry["step"] for entry in result.history] == [1, 2, 3, 4, 5, 6, 7]
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
    assert len(quadratic.seen) == 5


@BOTH
def test_the_history_is_what_the_loss_said(target, start, optimizer):
    quadratic = Quadratic(target, 30.0)
    result = optimize(quadratic, start, steps=9, optimizer=optimizer)
    expected = [quadratic(image).total.item() for image in list(quadratic.seen)]
    assert [entry["total"] for entry in result.history] == pytest.approx(expected)
    assert torch.equal(quadratic.seen[0], start)


@BOTH
def test_the_result_is_the_picture_of_the_lowest_loss_clipped(start, optimizer):
    target = torch.linspace(-0.5, 1.5, start.numel()).view(start.shape)  # partly out of range
    quadratic = Quadratic(target, 30.0)
    result = optimize(quadratic, start, steps=30, optimizer=optimizer, lr=0.3, range_weight=0)
    totals = [entry["total"] for entry in result.history]
    best = quadratic.seen[totals.index(min(totals))]
    assert torch.equal(result.unclipped, best)
    assert torch.equal(result.image, best.clamp(0, 1))
    assert best.min() < 0
    assert best.max() > 1


@pytest.fixture(scope="module")
def contrasty(net):
    """The loss of a texture of black and white, which the optimiser would like to overshoot."""
    picture = (make_picture(64, 64, seed=5) > 0.5).float()
    return StyleTransferLoss(net, style=picture), noise_like(picture)


def clipping_costs(loss, result):
    return loss(result.image).total.item() - loss(result.unclipped).total.item()


@BOTH
def test_clipping_costs_less(contrasty, optimizer):
    loss, start = contrasty
    result = optimize(loss, start, steps=60, optimizer=optimizer)
    free = optimize(loss, start, steps=60, optimizer=optimizer, range_weight=0)
    assert clipping_costs(loss, result) < 0.7 * clipping_costs(loss, free)
    assert loss(result.image).total.item() < loss(free.image).total.item()


def test_going_on_in_pieces_does_not_leave_the_range_either(contrasty):
    loss, start = contrasty
    pieces = optimize(loss, start, steps=30)
    for _ in range(3):
        pieces = optimize(loss, pieces, steps=30)
    assert clipping_costs(loss, pieces) < 1e-3 * loss(start).total.item()
    forgotten = optimize(loss, Result(pieces.image), steps=30)  # knows nothing of its start
    assert clipping_costs(loss, pieces) < clipping_costs(loss, forgotten)


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf])
def test_range_weights_that_make_no_sense(target, start, weight):
    with pytest.raises(ValueError, match="range_weight"):
        optimize(Quadratic(target), start, range_weight=weight)


@BOTH
def test_a_loss_that_rises_again_does_not_spoil_the_result(target, start, optimizer):
    quadratic = Quadratic(target, 30.0)

    def rising(image):
        late = 1000.0 * (len(quadratic.seen) >= 4)
        return OnlyTotal(quadratic(image).total + late)

    result = optimize(rising, start, steps=9, optimizer=optimizer)
    totals = [entry["total"] for entry in result.history]
    lowest = totals.index(min(totals))
    assert lowest < 4 < len(totals)
    assert torch.equal(result.unclipped, quadratic.seen[lowest])


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
    result = optimize(Quadratic(target), start, steps=1)
    assert torch.equal(result.image, start)
    assert result.image.data_ptr() != start.data_ptr()


def test_snapshots_are_the_pictures_at_their_steps(target, start):
    quadratic = Quadratic(2 * target, 30.0)
    result = optimize(quadratic, start, steps=8, snapshots=[1, 4, 8])
    assert list(result.snapshots) == [1, 4, 8]
    for step, picture in result.snapshots.items():
        assert torch.equal(picture, quadratic.seen[step - 1].clamp(0, 1))


def test_a_loss_may_have_terms_of_its_own(target, start):
    class Mine(NamedTuple):
        total: torch.Tensor
        redness: torch.Tensor

    result = optimize(
        lambda image: Mine(((image - target) ** 2).sum((1, 2, 3)), image[:, 0].mean((1, 2))),
        start,
        steps=3,
    )
    assert set(result.history[0]) == {"step", "seconds", "total", "redness"}
    assert result.history[0]["redness"] == pytest.approx(start[:, 0].mean().item())


def test_the_loss_says_on_which_device_the_picture_lives(target, start):
    class Elsewhere(Quadratic):
        device = torch.device("meta")

        def __call__(self, image):
            assert image.device.type == "meta"
            raise _Seen

    class _Seen(Exception):
        pass

    with pytest.raises(_Seen):
        optimize(Elsewhere(target), start, steps=1)


# --- callbacks and stopping ----------------------------------------------------------------------


@BOTH
def test_the_callback_sees_every_step(loss, content, optimizer):
    seen = []
    result = optimize(loss, content, steps=4, optimizer=optimizer, callback=seen.append)
    assert all(isinstance(p, Progress) for p in seen)
    assert [p.step for p in seen] == [1, 2, 3, 4]
    assert {p.steps for p in seen} == {4}
    for progress, entry in zip(seen, result.history, strict=True):
        assert {"step": progress.step, "seconds": progress.seconds, **progress.terms} == entry


def test_progress_image_is_a_clipped_copy(target, start):
    quadratic, pictures = Quadratic(2 * target, 30.0), []

    def spoil(progress):
        picture = progress.image()
        pictures.append(picture.clone())
        assert not picture.requires_grad
        picture.fill_(math.nan)

    result = optimize(quadratic, start, steps=5, callback=spoil)
    for picture, seen in zip(pictures, quadratic.seen, strict=True):
        assert torch.equal(picture, seen.clamp(0, 1))
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


@pytest.mark.parametrize("answer", [None, 0, "", True])
def test_only_false_ends_the_run(target, start, answer):
    result = optimize(Quadratic(target, 30.0), start, steps=3, callback=lambda progress: answer)
    assert (result.stopped, len(result.history)) == ("steps", 3)


@BOTH
def test_ctrl_c_returns_the_result_so_far(target, start, optimizer):
    def interrupt(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    quadratic = Quadratic(target, 30.0)
    result = optimize(quadratic, start, steps=50, optimizer=optimizer, callback=interrupt)
    assert result.stopped == "interrupted"
    assert len(result.history) == 4
    totals = [entry["total"] for entry in result.history]
    assert torch.equal(result.unclipped, quadratic.seen[totals.index(min(totals))])


def test_ctrl_c_inside_the_loss_returns_the_result_so_far(target, start):
    class Interrupted(Quadratic):
        def __call__(self, image):
            if len(self.seen) == 3:
                raise KeyboardInterrupt
            return super().__call__(image)

    result = optimize(Interrupted(target, 30.0), start, steps=50)
    assert (result.stopped, len(result.history)) == ("interrupted", 3)


def test_ctrl_c_before_there_is_anything_is_passed_on(start):
    def interrupted(image):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimize(interrupted, start, steps=5)


def test_an_error_in_the_callback_is_not_swallowed(target, start):
    def wrong(progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        optimize(Quadratic(target), start, steps=5, callback=wrong)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("call", [2, 5])
@BOTH
def test_a_loss_gone_wrong_returns_the_last_good_picture(target, start, optimizer, call, value):
    with pytest.warns(UserWarning, match=f"not finite at step {call} .*last good image"):
        result = optimize(NotFinite(target, call, value), start, steps=50, optimizer=optimizer)
    assert result.stopped == "not finite"
    assert f"step {call}" in result.problem
    assert len(result.history) == call - 1
    assert all(math.isfinite(entry["total"]) for entry in result.history)
    good = Quadratic(target)
    assert good(result.image).total <= good(start).total


def test_a_gradient_gone_wrong_is_noticed_too(target, start):
    with pytest.warns(UserWarning, match="not finite at step 3"):
        result = optimize(NotFinite(target, 3, only_gradient=True), start, steps=9)
    assert torch.isfinite(result.image).all()


@BOTH
def test_a_loss_wrong_at_the_start_is_an_error(target, start, optimizer):
    with pytest.raises(ValueError, match="not finite at step 1"):
        optimize(NotFinite(target, 1), start, steps=9, optimizer=optimizer)
    broken = start.clone()
    broken[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="not finite at step 1"):
        optimize(Quadratic(target), broken, steps=9, optimizer=optimizer)


def test_a_good_run_warns_of_nothing(loss, content):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimize(loss, noise_like(content), steps=5)


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
    assert second.history[:4] == before[0]
    seconds = [entry["seconds"] for entry in second.history]
    assert all(b > a for a, b in pairwise(seconds))
    assert [(p.step, p.steps) for p in calls] == [(5, 7), (6, 7), (7, 7)]
    assert list(second.snapshots) == [2, 6]
    # The first is as it was.
    assert (first.history, list(first.snapshots)) == (before[0], [2])
    assert torch.equal(first.image, before[1])
    assert torch.equal(first.unclipped, before[2])


def totals(result):
    return [entry["total"] for entry in result.history]


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


def test_a_callback_that_ends_a_run_costs_no_curvature_pairs(loss, content):
    start = noise_like(content)
    whole = optimize(loss, start, steps=20)
    stopped = optimize(loss, start, steps=50, callback=lambda p: p.step < 11)
    assert totals(optimize(loss, stopped, steps=9)) == totals(whole)


def test_a_pyramid_is_resumed_at_its_full_size(loss, content):
    start = noise_like(content)
    whole = optimize(loss, start, steps=(4, 12), pyramid=(24,))
    pieces = optimize(loss, optimize(loss, start, steps=(4, 6), pyramid=(24,)), steps=6)
    assert totals(pieces) == totals(whole)


@pytest.mark.parametrize(
    "change",
    ["another loss", "other weights", "other options", "pickled", "another image"],
)
def test_what_is_not_the_same_run_restarts_from_the_best_image(target, start, change):
    quadratic = Quadratic(2 * target, 30.0)
    options = {"range_weight": 0}
    result = optimize(quadratic, start, steps=6, **options)
    if change == "another loss":
        quadratic = Quadratic(2 * target, 30.0)
    elif change == "other weights":
        quadratic = Weighted(2 * target)
        result = optimize(quadratic, start, steps=6, **options)
        quadratic.weight = 2.0
    elif change == "other options":
        options["history_size"] = 3
    elif change == "pickled":
        result = pickle.loads(pickle.dumps(result))
    else:
        result = replace(result, unclipped=result.unclipped + 0.1)
    quadratic.seen.clear()
    optimize(quadratic, result, steps=3, **options)
    assert torch.equal(quadratic.seen[0], result.unclipped)  # not clipped on the way


def test_resumes_from_a_user_made_result(target, start):
    quadratic = Quadratic(target)
    result = optimize(quadratic, Result(start), steps=2)
    assert torch.equal(quadratic.seen[0], start)
    assert [entry["step"] for entry in result.history] == [1, 2]


def test_resuming_never_ends_higher(loss, content):
    result = optimize(loss, noise_like(content), steps=10)
    for _ in range(2):
        lowest = min(totals(result))
        result = optimize(loss, result, steps=3)
        assert loss(result.unclipped).total.item() <= lowest * (1 + 1e-4)


# --- an interrupt at any line --------------------------------------------------------------------

LOOP = {module.__file__ for module in (optimization, lbfgs, minimizers, objective, run)}


def interrupted_runs(descend):
    """Call ``descend`` again and again, each time with Ctrl-C before the next line of the loop."""
    line = 0
    while True:
        line += 1
        count, callbacks = 0, []

        def trace(frame, event, _, line=line):
            nonlocal count
            if frame.f_code.co_filename not in LOOP:
                return None
            if event == "line":
                count += 1
                if count == line:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            result = descend(callbacks.append)
        except KeyboardInterrupt:
            result = None
        finally:
            sys.settrace(None)
        if count < line:
            return
        yield result, len(callbacks)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 3, "optimizer": "adam"},
        {"steps": 3},
        {"steps": (2, 2), "pyramid": (8,)},
    ],
    ids=["adam", "lbfgs", "pyramid"],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_an_interrupt_at_any_line_keeps_every_finished_step_once(options, batch):
    target = make_picture(16, 16, seed=3, batch=batch)
    start, outcomes = noise_like(target), set()
    last = sum(options["steps"]) if "pyramid" in options else options["steps"]

    def descend(callback):
        return optimize(Resizable(target), start, callback=callback, **options)

    for result, finished in interrupted_runs(descend):
        if result is None:
            assert not finished
            continue
        steps = [entry["step"] for entry in result.history]
        assert steps == list(range(1, len(steps) + 1))
        assert finished <= len(steps) <= finished + 1
        assert torch.isfinite(result.image).all()
        assert len(result.split()) == batch
        outcomes.add((result.stopped, len(steps)))
    assert {stopped for stopped, _ in outcomes} <= {"interrupted", "steps"}
    assert {count for _, count in outcomes} == set(range(1, last + 1))


# --- batches and seeds ---------------------------------------------------------------------------


@BOTH
def test_each_picture_of_a_batch_is_optimised(target, optimizer):
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


@BOTH
def test_the_same_seed_gives_the_same_picture_bit_for_bit(loss, content, optimizer):
    a, b = (optimize(loss, noise_like(content, seed=4), steps=6, optimizer=optimizer) for _ in "ab")
    assert torch.equal(a.image, b.image)
    assert [e["total"] for e in a.history] == [e["total"] for e in b.history]
    c = optimize(loss, noise_like(content, seed=5), steps=6, optimizer=optimizer)
    assert not torch.equal(a.image, c.image)


@BOTH
def test_the_global_generator_is_left_alone(loss, content, optimizer):
    state = torch.get_rng_state()
    optimize(loss, content, steps=3, optimizer=optimizer)
    assert torch.equal(torch.get_rng_state(), state)


# --- weights turned while it runs ----------------------------------------------------------------


def turn(loss, at, **weights):
    """A callback that sets weights after a step."""

    def callback(progress):
        if progress.step == at:
            for name, value in weights.items():
                setattr(loss, name, value)

    return callback


@BOTH
def test_turned_weights_lead_to_the_new_losss_picture(net, content, style, optimizer):
    def loss(alpha):
        return StyleTransferLoss(net, content, style, alpha=alpha)

    live = loss(1e-3)
    turned = optimize(
        *(live, noise_like(content)),
        steps=60,
        optimizer=optimizer,
        callback=turn(live, 20, alpha=30),
    )
    assert len(turned.history) == 60
    straight = optimize(loss(30), noise_like(content), steps=40, optimizer=optimizer)
    unturned = optimize(loss(1e-3), noise_like(content), steps=60, optimizer=optimizer)
    judge = loss(30)
    new, aim, old = (judge(r.image).total.item() for r in (turned, straight, unturned))
    assert new < 1.25 * aim  # from another start
    assert new < 0.5 * old


def test_nothing_jumps_when_weights_are_turned(net, content, style):
    loss, seen = StyleTransferLoss(net, content, style, alpha=1e-3), []

    def callback(progress):
        seen.append(progress.image())
        if progress.step == 15:
            loss.alpha, loss.beta = 1.0, 0.0
        if progress.step == 25:
            loss.style_layer_weights["relu1_1"] = 0.0
            loss.beta = 1.0

    result = optimize(loss, noise_like(content), steps=40, callback=callback)
    changes = [(b - a).abs().mean().item() for a, b in pairwise(seen)]
    assert max(changes[14:17] + changes[24:27]) < 3 * 0.01 + max(changes[5:14])
    assert result.history[15]["content"] == pytest.approx(result.history[14]["content"], rel=0.2)
    # The lowest of the loss as it was at last, not of an earlier one.
    last = min(entry["total"] for entry in result.history[25:])
    assert loss(result.unclipped).total.item() == pytest.approx(last, rel=1e-3)


def test_weights_may_be_turned_where_the_old_loss_was_already_zero(net, content, style):
    loss = StyleTransferLoss(net, content, style, alpha=1.0)
    loss.beta = 0.0
    result = optimize(loss, content, steps=30, callback=turn(loss, 2, alpha=1e-3, beta=1.0))
    assert result.history[0]["total"] == 0
    assert result.history[-1]["total"] < 0.5 * result.history[2]["total"]


def test_weights_of_a_batch_may_be_turned_one_by_one(net, content, style):
    loss = StyleTransferLoss(net, content, style, alpha=[1e-3, 1e-3])
    starts = noise_like(content).expand(2, -1, -1, -1)
    ratios = torch.tensor([1e-3, 30.0])
    result = optimize(loss, starts, steps=40, callback=turn(loss, 5, alpha=ratios))
    styled, close = (part.history[-1]["content"] for part in result.split())
    assert close < 0.5 * styled


def test_progress_tells_the_result_so_far(loss, content):
    seen = {}

    def callback(progress):
        if progress.step in (3, 6):
            seen[progress.step] = progress.result()

    whole = optimize(loss, noise_like(content), steps=9, callback=callback)
    for step, early in seen.items():
        ended = optimize(loss, noise_like(content), steps=step)
        assert torch.equal(early.image, ended.image)
        assert torch.equal(early.relative_gradient, ended.relative_gradient)
        assert len(early.history) == step
    assert len(whole.history) == 9


def test_progress_of_a_batch_tells_each_pictures_result(loss, content):
    starts, seen = noise_like(content.expand(2, -1, -1, -1)), []
    optimize(loss, starts, steps=3, callback=lambda p: seen.extend(q.result() for q in p.split()))
    assert [tuple(r.image.shape) for r in seen] == [tuple(content.shape)] * 6
    assert [len(r.history) for r in seen] == [1, 1, 2, 2, 3, 3]


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"steps": -5},
        {"steps": 2.5},
        {"steps": True},
        {"steps": "9"},
        {"optimizer": "sgd"},
        {"lr": 0},
        {"lr": -1.0},
        {"lr": math.nan},
        {"lr": math.inf},
    ],
)
def test_arguments_that_make_no_sense_are_refused_by_name(target, start, options):
    quadratic = Quadratic(target)
    (name, value), *_ = options.items()
    with pytest.raises(ValueError, match=f"{name} must be .*{value!r}"):
        optimize(quadratic, start, **options)
    assert quadratic.seen == []


@pytest.mark.parametrize(
    "bad", [torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), "chelsea", None, [1, 2]]
)
def test_a_start_that_is_no_image_is_refused(target, bad):
    with pytest.raises(ValueError, match="start must be an image"):
        optimize(Quadratic(target), bad, steps=1)


@BOTH
def test_a_loss_that_is_already_zero_ends_by_itself(target, optimizer):
    result = optimize(Quadratic(target), target, steps=20, optimizer=optimizer)
    assert torch.equal(result.image, target)
    assert result.stopped == "steps"
    assert len(result.history) <= 20


def test_it_works_under_no_grad(target, start):
    with torch.no_grad():
        result = optimize(Quadratic(target), start, steps=3)
    assert len(result.history) == 3


# --- coarse to fine ------------------------------------------------------------------------------


def test_a_pyramid_goes_from_small_to_full(loss, content):
    seen, snapshots = [], [2, 7]
    result = optimize(
        loss,
        noise_like(content),
        steps=(4, 3, 2),
        pyramid=(24, 36),
        snapshots=snapshots,
        callback=lambda p: seen.append((p.step, p.steps, tuple(p.image().shape[2:]))),
    )
    assert result.image.shape == content.shape
    assert [entry["size"] for entry in result.history] == [24] * 4 + [36] * 3 + [48] * 2
    assert [entry["step"] for entry in result.history] == list(range(1, 10))
    shapes = [(24, 32)] * 4 + [(36, 48)] * 3 + [(48, 64)] * 2
    assert seen == [(step, 9, shape) for step, shape in enumerate(shapes, 1)]
    kept = {step: tuple(picture.shape[2:]) for step, picture in result.snapshots.items()}
    assert kept == {2: (24, 32), 7: (36, 48)}


def test_each_level_starts_from_the_one_before(loss, content):
    start = noise_like(content)
    first = {}

    def look(progress):
        first.setdefault(progress.image().shape[2], progress.image())

    optimize(loss, start, steps=(5, 1), pyramid=(24,), callback=look)
    small = optimize(loss.resized(0.5), resize_image(start, 0.5), steps=5)
    enlarged = resize_image(small.unclipped, 2).clamp(0, 1)
    torch.testing.assert_close(first[48], enlarged, rtol=0, atol=1e-5)


def test_a_fifth_of_the_steps_is_for_the_full_size(loss, content):
    result = optimize(loss, noise_like(content), steps=20, pyramid=(24, 36))
    assert [entry["size"] for entry in result.history] == [24] * 8 + [36] * 8 + [48] * 4


def test_a_pyramid_stopped_on_the_way_still_has_a_history(loss, content):
    result = optimize(
        loss, noise_like(content), steps=20, pyramid=(24,), callback=lambda p: p.step < 3
    )
    assert (result.stopped, len(result.history)) == ("callback", 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pyramid": (32, 16)}, "pyramid must rise"),
        ({"pyramid": (48,)}, "shorter side 48"),
        ({"pyramid": (0,)}, "pyramid must be whole numbers"),
        ({"pyramid": (16.0,)}, "pyramid must be whole numbers"),
        ({"pyramid": (8,)}, "too small for relu"),
        ({"pyramid": (24,), "steps": (2, 2, 2)}, "one for each size"),
        ({"pyramid": (24,), "steps": 1}, "at least 2"),
        ({"steps": (2, 2)}, "one for each size"),
        ({"history_size": 0}, "history_size must be a whole number"),
        ({"precondition": -1}, "precondition must be a number >= 0"),
    ],
)
def test_pyramids_that_make_no_sense_are_refused(loss, content, options, message):
    with pytest.raises(ValueError, match=message):
        optimize(loss, noise_like(content), **{"steps": 4, **options})


def test_a_pyramid_needs_a_loss_that_can_shrink(target, start):
    with pytest.raises(ValueError, match="resized"):
        optimize(Quadratic(target), start, steps=4, pyramid=(4,))


# --- batches, one by one -------------------------------------------------------------------------


def test_a_batch_is_what_its_pictures_are_alone(net, content, style):
    ratios = [1e-3, 1.0, 30.0]
    starts = torch.cat([noise_like(content, seed) for seed in range(3)])
    together = optimize(StyleTransferLoss(net, content, style, alpha=ratios), starts, steps=8)
    parts = together.split()
    assert len(parts) == 3
    for i, part in enumerate(parts):
        loss = StyleTransferLoss(net, content, style, alpha=ratios[i])
        alone = optimize(loss, starts[i : i + 1], steps=8)
        torch.testing.assert_close(part.image, alone.image, rtol=0, atol=2e-3)
        for mine, own in zip(part.history, alone.history, strict=True):
            assert mine["step"] == own["step"]
            assert mine["total"] == pytest.approx(own["total"], rel=2e-2)
    for entry, *own in zip(together.history, *(p.history for p in parts), strict=True):
        assert entry["total"] == pytest.approx(sum(e["total"] for e in own), rel=1e-5)


def test_progress_of_a_batch_can_be_split(loss, content):
    starts, seen = noise_like(content.expand(2, -1, -1, -1)), []
    optimize(loss, starts, steps=2, callback=lambda p: seen.append((p, p.split(), p.image())))
    for progress, parts, image in seen:
        assert sum(p.terms["total"] for p in parts) == pytest.approx(progress.terms["total"])
        assert [p.step for p in parts] == [progress.step] * 2
        assert image.shape[0] == 2


@BOTH
def test_one_bad_picture_does_not_spoil_the_batch(target, optimizer):
    targets = torch.cat([target, 1 - target])
    calls = []

    def spoilt(image):
        calls.append(1)
        total = Quadratic(targets)(image).total
        bad = torch.tensor([math.nan, 1.0]) if len(calls) > 5 else torch.ones(2)
        return OnlyTotal(total * bad)

    with pytest.warns(UserWarning, match=r"image 0 of the batch \(from 0\)"):
        result = optimize(spoilt, noise_like(targets), steps=80, optimizer=optimizer)
    assert result.stopped == "steps"
    assert len(result.history) == 80
    assert torch.isfinite(result.image).all()
    error = (result.image[1] - targets[1]).square().sum()
    assert error < 0.1 * (noise_like(targets)[1] - targets[1]).square().sum()


def test_a_single_bad_evaluation_is_gone_back_from(target, start):
    calls = []

    def once(image):
        calls.append(1)
        total = Quadratic(target, 30.0)(image).total
        return OnlyTotal(total * (math.inf if len(calls) == 4 else 1))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = optimize(once, start, steps=80)
    assert [entry["step"] for entry in result.history] == [1, 2, 3, *range(5, 81)]
    torch.testing.assert_close(result.image, target, rtol=0, atol=2e-3)


# --- memory --------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_the_work(monkeypatch, loss, content):
    needed = estimate_memory(loss, content.shape)
    assert needed > estimate_memory(loss, content.shape, optimizer="adam")
    assert (
        estimate_memory(loss, content.shape, history_size=20) - needed == 4 * content.numel() * 20
    )
    monkeypatch.setattr(memory, "available_memory", lambda device: needed - 1)
    seen = []
    with pytest.raises(ValueError, match=r"64 x 48 pixels need .* would fit"):
        optimize(loss, noise_like(content), steps=2, callback=seen.append)
    assert seen == []
    monkeypatch.setattr(memory, "available_memory", lambda device: needed)
    optimize(loss, noise_like(content), steps=2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_low_memory_gives_the_same_run(weights, precision):
    net = Features(weights).to_precision(precision)
    content, style = make_picture(150, 40, seed=1), make_picture(130, 50, seed=2)
    results = [
        optimize(StyleTransferLoss(net, content, style, memory=memory), content, steps=6)
        for memory in ("normal", "low")
    ]
    normal, low = (torch.tensor([e["total"] for e in r.history]) for r in results)
    rtol = 1e-4 if precision == "float32" else 2e-2
    torch.testing.assert_close(low, normal, rtol=rtol, atol=0)
    assert results[0].history[-1]["total"] < 0.9 * results[0].history[0]["total"]


def test_low_memory_keeps_less_for_the_way_back(weights):
    net = Features(weights)
    content = make_picture(256, 64, seed=1)
    held = {}
    for memory in ("normal", "low"):
        loss, storages = StyleTransferLoss(net, content, content, memory=memory), {}

        def pack(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            total = loss(content.clone().requires_grad_()).total
        held[memory] = sum(storages.values())
        assert torch.isfinite(total).all()
        del total
    assert held["low"] < 0.5 * held["normal"]


def test_an_unknown_memory_is_refused(net, content):
    with pytest.raises(ValueError, match="memory must be one of normal, low; got 'tiny'"):
        StyleTransferLoss(net, content, memory="tiny")
