"""The levels of a pyramid, and one level's run: how it begins, continues and ends."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from helpers import Quadratic, Total, make_picture
from nst_helpers.engine.minimizers import Adam, PreconditionedLBFGS
from nst_helpers.engine.objective import StepLog
from nst_helpers.engine.run import Level, Options, Run, pyramid_levels
from nst_helpers.optimization import Loss

OPTIONS = Options("lbfgs", 1.0, 10, 0.5, 3.0)


class Scaled(Loss, Quadratic):
    """A quadratic with a weight; a resized one only remembers its scale."""

    weight, scale = 1.0, 1.0

    @property
    def weights(self):
        return (self.weight,)

    def __call__(self, image):
        return Total(self.weight * Quadratic.__call__(self, image).total)

    def resized(self, scale):
        smaller = Scaled(self.target)
        smaller.scale = scale
        return smaller


@pytest.fixture
def loss():
    return Scaled(make_picture(8, 10, seed=3, batch=2), stretch=30.0)


@pytest.fixture
def start():
    return make_picture(8, 10, seed=1, batch=2)


def make_run(loss, start, options=OPTIONS, shape=None, **previous):
    level = Level(loss, shape or tuple(start.shape), 9, None)
    return Run(level, loss, start, options, StepLog(0, 0.0), **previous)


def take_steps(run, steps):
    for _ in range(steps):
        evaluation = run.objective(run.minimizer.image)
        run.log.append(evaluation)
        run.minimizer.step(evaluation.value, evaluation.gradient)
        run.log.steps += 1
    run.log.read()
    return run.minimizer.image.clone()


# --- the levels of a pyramid ---------------------------------------------------------------------


def test_levels_go_from_small_to_full_with_their_own_losses_and_steps(loss):
    levels = pyramid_levels(loss, (2, 3, 48, 64), 20, (24, 36))
    shapes = [(2, 3, 24, 32), (2, 3, 36, 48), (2, 3, 48, 64)]
    assert [level.shape for level in levels] == shapes
    assert [level.size for level in levels] == [24, 36, 48]
    assert [level.loss.scale for level in levels] == [0.5, 0.75, 1.0]
    assert levels[-1].loss is loss
    assert [level.steps for level in levels] == [8, 8, 4]  # a fifth for the full size


def test_without_a_pyramid_there_is_one_level_without_a_size(loss):
    assert pyramid_levels(loss, (2, 3, 48, 64), 7, ()) == [Level(loss, (2, 3, 48, 64), 7, None)]


def test_steps_may_be_given_for_each_level(loss):
    levels = pyramid_levels(loss, (1, 3, 64, 48), (5, 1, 2), (24, 36))
    assert [level.steps for level in levels] == [5, 1, 2]


def test_a_side_is_at_least_one_pixel(loss):
    levels = pyramid_levels(loss, (1, 3, 2, 400), 9, (1,))
    assert levels[0].shape == (1, 3, 1, 200)


@given(st.integers(1, 500), st.integers(1, 12))
def test_the_steps_of_all_levels_add_up_and_none_has_none(steps, count):
    assume(steps >= count)
    loss = Scaled(torch.zeros(1, 3, 1, 1))
    levels = pyramid_levels(loss, (1, 3, 64, 64), steps, tuple(range(8, 7 + count)))
    counts = [level.steps for level in levels]
    assert len(counts) == count
    assert sum(counts) == steps
    assert min(counts) >= 1
    coarse = counts[:-1]
    assert not coarse or max(coarse) - min(coarse) <= 1
    if steps >= 10 * count:
        assert not coarse or counts[-1] == round(steps / 5)


@pytest.mark.parametrize(
    ("steps", "pyramid", "message"),
    [
        (9, (32, 16), r"pyramid must rise.* got \[32, 16\]"),
        (9, (16, 16), "pyramid must rise"),
        (9, (48,), "below the image's shorter side 48"),
        (9, (0,), "pyramid must be whole numbers.*, 1 or more; got 0"),
        (9, (16.0,), r"pyramid must be whole numbers.*, 1 or more; got 16\.0"),
        (9, (True,), "pyramid must be whole numbers.*, 1 or more; got True"),
        (0, (), "steps must be a whole number, 1 or more; got 0"),
        (2.5, (), r"steps must be a whole number, 1 or more; got 2\.5"),
        ("9", (), "steps must be a whole number, 1 or more; got '9'"),
        ((2, 0), (24,), "steps must be a whole number, 1 or more; got 0"),
        ((2, 2), (), r"steps must be .* one for each size; got \(2, 2\)"),
        ((2, 2, 2), (24,), "steps must be .* one for each size"),
        (1, (24,), "steps must be at least 2, one for each size; got 1"),
    ],
)
def test_bad_steps_and_pyramids_are_named(loss, steps, pyramid, message):
    with pytest.raises(ValueError, match=message):
        pyramid_levels(loss, (1, 3, 48, 64), steps, pyramid)


# --- a run ---------------------------------------------------------------------------------------


def test_a_run_has_the_minimizer_that_the_options_name(loss, start):
    lbfgs = make_run(loss, start, Options("lbfgs", 0.5, 4, 2.0, 3.0)).minimizer
    assert isinstance(lbfgs, PreconditionedLBFGS)
    assert (lbfgs.lr, lbfgs.history_size) == (0.5, 4)
    adam = make_run(loss, start, OPTIONS._replace(optimizer="adam", lr=0.3)).minimizer
    assert isinstance(adam, Adam)
    assert adam.lr == 0.3


def test_a_run_begins_at_the_start_in_float32(loss, start):
    run = make_run(loss, (2 * start).double().requires_grad_())
    torch.testing.assert_close(run.minimizer.image, 2 * start)  # values beyond the range remain
    assert not run.minimizer.image.requires_grad


def test_a_start_of_another_size_is_resized_and_knows_nothing_of_the_earlier_gradient(loss, start):
    run = make_run(loss, start, shape=(2, 3, 16, 20), relative_gradient=torch.ones(2))
    assert run.minimizer.image.shape == (2, 3, 16, 20)
    assert 0 <= run.minimizer.image.min() < run.minimizer.image.max() <= 1
    assert run.objective.relative_gradient.tolist() == [0, 0]
    same_size = make_run(loss, start, relative_gradient=torch.ones(2))
    assert same_size.objective.relative_gradient.tolist() == [1, 1]


def test_a_restart_goes_on_from_the_best_image_with_the_new_weights(loss, start):
    run = make_run(loss, start)
    take_steps(run, 5)
    loss.weight = 7.0
    run.restart()
    assert run.weights == (7.0,)
    assert torch.equal(run.minimizer.image, run.objective.best)
    take_steps(run, 1)
    assert torch.equal(run.objective.first, run.objective.lowest)


# --- what is wrong -------------------------------------------------------------------------------


def test_a_run_that_was_never_finite_is_an_error(loss, start):
    run = make_run(loss, start)
    loss.weight = float("nan")
    take_steps(run, 2)
    with pytest.raises(ValueError, match=r"not finite at step 1 .*is the start finite"):
        run.nonfinite_problem()


def test_a_run_that_is_not_finite_any_more_says_since_when_and_what_to_try(loss, start):
    run = make_run(loss, start)
    take_steps(run, 3)
    loss.weight = float("inf")
    take_steps(run, 2)
    problem = run.nonfinite_problem()
    assert "not finite at step 4" in problem
    assert problem.endswith("Try smaller weights, a smaller lr, or optimizer='adam'")


# --- continuing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_continued_run_goes_on_as_if_there_had_been_no_pause(loss, start, optimizer):
    options = OPTIONS._replace(optimizer=optimizer, lr=0.1)
    expected = take_steps(make_run(loss, start, options), 12)
    run = make_run(loss, start, options)
    take_steps(run, 6)
    best = run.objective.best.clone()
    continuation = run.continuation(best)
    for _ in range(2):  # which changes nothing of the continuation
        later = make_run(loss, best, options, continuation=continuation)
        assert torch.equal(take_steps(later, 6), expected)


@pytest.mark.parametrize("change", ["loss", "weights", "options", "start", "shape"])
def test_a_continuation_that_does_not_fit_is_not_used(loss, start, change):
    run = make_run(loss, start)
    take_steps(run, 6)
    best, shape, options = run.objective.best.clone(), None, OPTIONS
    continuation = run.continuation(best)
    if change == "loss":
        loss = Scaled(loss.target, 30.0)
    elif change == "weights":
        loss.weight = 2.0
    elif change == "options":
        options = OPTIONS._replace(history_size=3)
    elif change == "start":
        best = best.clone()
    else:
        shape = (2, 3, 16, 20)
    later = make_run(loss, best, options, shape, continuation=continuation)
    assert later.minimizer.lbfgs is None
    assert later.objective.lowest.isinf().all()


class Slotted:
    """Takes no weak reference."""

    __slots__ = ()


def test_a_loss_that_takes_no_weak_reference_is_not_continued(loss, start):
    level = Level(loss, tuple(start.shape), 9, None)
    run = Run(level, Slotted(), start, OPTIONS, StepLog(0, 0.0))
    take_steps(run, 1)
    assert run.continuation(run.objective.best) is None
