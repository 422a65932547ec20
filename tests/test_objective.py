"""The objective against autograd written out, and the log of its evaluations against the rows."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from helpers import Quadratic, Total, interrupted_before_each_line, make_picture
from nst_helpers.engine.objective import SYNC_EVERY, Evaluation, Objective, StepLog


def image_beyond_range(seed=0):
    """A batch of two with values from -0.5 to 1.5."""
    return 2 * make_picture(6, 5, seed=seed, batch=2) - 0.5


@pytest.fixture
def loss():
    return Quadratic(make_picture(6, 5, seed=9, batch=2), stretch=30.0)


def written_out(loss, image, range_weight, first_image):
    """Value and gradient of total + penalty / 2 * outside^2, over the first gradient's size."""
    leaf = first_image.clone().requires_grad_()
    (first_gradient,) = torch.autograd.grad(loss(leaf).total.sum(), leaf)
    scale = first_gradient.abs().mean((1, 2, 3))
    leaf = image.clone().requires_grad_()
    outside = torch.relu(-leaf) + torch.relu(leaf - 1)
    value = (loss(leaf).total + range_weight * scale / 2 * (outside**2).sum((1, 2, 3))) / scale
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


# --- value and gradient --------------------------------------------------------------------------


@pytest.mark.parametrize("range_weight", [0, 3.0])
def test_value_and_gradient_are_those_of_loss_and_penalty_written_out(loss, range_weight):
    first_image = image_beyond_range()
    objective = Objective(loss, first_image, range_weight)
    for image in (first_image, image_beyond_range(1), image_beyond_range(2)):
        evaluation = objective(image)
        value, gradient = written_out(loss, image, range_weight, first_image)
        torch.testing.assert_close(evaluation.value, value)
        torch.testing.assert_close(evaluation.gradient, gradient)
        torch.testing.assert_close(evaluation.terms, {"total": loss(image).total})
        assert evaluation.finite.tolist() == [True, True]


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
def test_the_first_gradient_of_each_image_is_1_on_average(loss, factor):
    factors = torch.tensor([factor, 5 * factor])
    start = make_picture(6, 5, seed=1, batch=2)  # in range: the loss alone sets the scale
    objective = Objective(lambda x: Total(factors * loss(x).total), start, 3.0)
    gradient = objective(start).gradient
    torch.testing.assert_close(gradient.abs().mean((1, 2, 3)), torch.ones(2))


def test_a_resumed_run_measures_the_penalty_by_the_first_gradient_of_all(loss):
    start, later = make_picture(6, 5, seed=1, batch=2), image_beyond_range()
    first = Objective(loss, start, 3.0)
    first(start)
    relative_gradient = first.gradient_scale / loss(later).total
    resumed = Objective(loss, later, 3.0, relative_gradient)
    evaluation = resumed(later)
    expected, _ = written_out(loss, later, 3.0, start)
    torch.testing.assert_close(resumed.gradient_scale, first.gradient_scale)
    torch.testing.assert_close(resumed.relative_gradient, relative_gradient)
    torch.testing.assert_close(
        evaluation.value / resumed.loss_scale, expected * first.gradient_scale
    )


def test_it_works_under_no_grad_and_leaves_the_image_alone(loss):
    image = image_beyond_range()
    before = image.clone()
    with torch.no_grad():
        evaluation = Objective(loss, image, 3.0)(image)
    assert evaluation.gradient.abs().min() > 0
    assert torch.equal(image, before)
    assert not image.requires_grad


# --- the best so far -----------------------------------------------------------------------------


def test_best_and_lowest_are_kept_for_each_image_of_a_batch(loss):
    images = [image_beyond_range(seed) for seed in range(5)]
    objective, places = Objective(loss, images[0], 3.0), set()
    for image in images:
        objective(image)
        places.add((objective.image.data_ptr(), objective.best.data_ptr()))
        assert torch.equal(objective.image, image)
    values = torch.stack([written_out(loss, image, 3.0, images[0])[0] for image in images])
    lowest, which = values.min(0)
    assert which[0] != which[1]  # or the test would show little
    torch.testing.assert_close(objective.lowest, lowest * objective.gradient_scale)
    torch.testing.assert_close(objective.first, values[0] * objective.gradient_scale)
    for i in range(2):
        assert torch.equal(objective.best[i], images[which[i]][i])
    assert len(places) == 1  # always the same tensors


def test_an_image_that_is_best_only_before_it_is_clipped_is_not_the_best(loss):
    start, target = loss.target, torch.full_like(loss.target, 1.4)
    quadratic = Quadratic(target)
    objective = Objective(quadratic, start, 100.0)
    objective(start)
    objective(target)  # the loss is 0, the penalty is not
    assert torch.equal(objective.best, start)


def test_it_is_known_which_images_of_a_batch_have_improved(loss):
    start = image_beyond_range()
    objective = Objective(loss, start, 3.0)
    objective(start)
    assert objective.improved().tolist() == [False, False]
    objective(2 * start - loss.target)  # further away
    assert objective.improved().tolist() == [False, False]
    objective(torch.stack([start[0], loss.target[1]]))
    assert objective.improved().tolist() == [False, True]


def test_a_flat_loss_counts_as_improved(loss):
    objective = Objective(loss, loss.target, 3.0)
    objective(loss.target)
    assert objective.improved().tolist() == [True, True]


# --- non-finite evaluations ----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "only the gradient"])
def test_a_non_finite_image_of_a_batch_leaves_the_other_alone(loss, bad):
    start, image = image_beyond_range(), loss.target.clone()
    clean, objective = (Objective(loss, start, 3.0) for _ in range(2))
    clean(start)
    objective(start)

    def spoilt(x):
        if bad == "only the gradient":  # the square root's is infinite at 0
            first = torch.sqrt(x[:1] - x[:1].detach()).sum((1, 2, 3))
        else:
            first = torch.tensor([bad])
        return Total(loss(x).total + torch.cat([first, torch.zeros(1)]))

    objective.loss = spoilt
    expected, evaluation = clean(image), objective(image)
    assert evaluation.finite.tolist() == [False, True]
    assert evaluation.value[0].isnan()
    assert torch.equal(evaluation.gradient[0], torch.zeros_like(image[0]))
    torch.testing.assert_close(evaluation.value[1], expected.value[1])
    torch.testing.assert_close(evaluation.gradient[1], expected.gradient[1])
    assert torch.equal(objective.best, torch.stack([start[0], image[1]]))
    assert objective.lowest[0] == clean.first[0]


# --- restart and resuming ------------------------------------------------------------------------


def times(factor, loss):
    return lambda image: Total(factor * loss(image).total)


def test_after_a_restart_the_next_evaluation_is_the_first_one(loss):
    start, image = image_beyond_range(), image_beyond_range(1)
    objective = Objective(loss, start, 0)
    objective(start)
    objective((start + loss.target) / 2)
    objective.restart()
    assert torch.equal(objective.best, (start + loss.target) / 2)  # until there is another
    assert objective.lowest.isinf().all()
    objective.loss = times(1e6, loss)
    evaluation = objective(image)
    torch.testing.assert_close(evaluation.gradient.abs().mean((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(objective.first, 1e6 * loss(image).total)
    assert torch.equal(objective.best, image)
    assert not objective.improved().any()


def test_a_restart_from_a_flat_loss_forgets_its_scale(loss):
    image = image_beyond_range()
    objective = Objective(times(0.0, loss), image, 3.0)
    objective(image)
    objective.restart()
    objective.loss = loss
    objective(image)
    fresh = Objective(loss, image, 3.0)
    fresh(image)
    torch.testing.assert_close(objective.gradient_scale, fresh.gradient_scale)


def test_an_objective_goes_on_from_anothers_state_dict(loss):
    images = [image_beyond_range(seed) for seed in range(4)]
    one = Objective(loss, images[0], 3.0)
    one(images[0])
    one(images[1])
    resumed, unrelated = (Objective(loss, one.best, 3.0) for _ in range(2))
    for other in (resumed, unrelated):
        other.load_state_dict(one.state_dict())
    lowest = one.lowest.clone()
    assert (unrelated(loss.target).terms["total"] < lowest).all()
    assert torch.equal(one.lowest, lowest)  # each has a state of its own
    for image in images[2:]:
        torch.testing.assert_close(resumed(image), one(image), rtol=0, atol=0)
        torch.testing.assert_close(resumed.state_dict(), one.state_dict(), rtol=0, atol=0)
        assert torch.equal(resumed.best, one.best)


def test_evaluating_and_logging_do_not_wait_for_the_device():
    # Fake tensors have no values: whatever needs one on the host (item, bool, nonzero) fails.
    with FakeTensorMode():
        image = torch.empty(2, 3, 8, 8)
        objective, log = Objective(Quadratic(torch.empty(2, 3, 8, 8)), image, 3.0), StepLog(0, 0.0)
        for _ in range(3):
            log.append(objective(image))
        objective.restart()
        log.append(objective(image))


# --- the log -------------------------------------------------------------------------------------


def evaluation_of(totals, styles, finite=(True, True)):
    terms = {"total": torch.tensor(totals), "style": torch.tensor(styles)}
    return Evaluation(terms["total"], torch.zeros(2, 3, 1, 1), terms, torch.tensor(finite))


def row(step):
    return [float(step), step / 2], [100.0 + step, -float(step)]


def logged(steps, read_every, steps_before=0, seconds_before=0.0):
    log = StepLog(steps_before, seconds_before)
    for step in range(1, steps + 1):
        log.append(evaluation_of(*row(step)))
        log.steps += 1
        if step % read_every == 0:
            log.read()
    log.read()
    return log


@pytest.mark.parametrize("read_every", [1, 2, 7, 24, 25])
def test_the_records_are_the_rows_that_were_appended(read_every):
    records = logged(60, read_every, steps_before=40, seconds_before=9.0).records
    assert [record.step for record in records] == list(range(41, 101))
    for step, record in enumerate(records, 1):
        totals, styles = row(step)
        assert record.terms == {"total": totals, "style": styles}
        assert record.sums() == {"total": sum(totals), "style": sum(styles)}
        assert (record.finite, record.problem) == ([True, True], "")
    seconds = [9.0, *(record.seconds for record in records)]
    assert sorted(set(seconds)) == seconds


def test_the_log_is_full_before_a_row_would_be_overwritten():
    log = StepLog(0, 0.0)
    for step in range(1, SYNC_EVERY + 1):
        assert not log.is_full
        log.append(evaluation_of(*row(step)))
        log.steps += 1
    assert (log.is_full, log.unread) == (True, SYNC_EVERY)
    log.read()
    assert (log.is_full, log.unread) == (False, 0)
    log.read()
    assert len(log.records) == SYNC_EVERY


def test_an_evaluation_that_is_not_counted_is_no_record():
    log = logged(3, 1)
    log.append(evaluation_of(*row(4)))
    log.read()
    assert [record.step for record in log.records] == [1, 2, 3]


@pytest.mark.parametrize("read_every", [1, 25])
def test_a_non_finite_image_has_its_last_finite_terms(read_every):
    log = StepLog(0, 0.0)
    rows = [
        ([1.0, 2.0], [3.0, 4.0], [True, True]),
        ([math.nan, 5.0], [6.0, 7.0], [False, True]),
        ([8.0, math.inf], [math.nan, 9.0], [False, False]),
        ([10.0, math.inf], [11.0, 12.0], [True, False]),
    ]
    for step, values in enumerate(rows, 1):
        log.append(evaluation_of(*values))
        log.steps += 1
        if step % read_every == 0:
            log.read()
    log.read()
    assert [record.terms for record in log.records] == [
        {"total": [1.0, 2.0], "style": [3.0, 4.0]},
        {"total": [1.0, 5.0], "style": [3.0, 7.0]},
        {"total": [1.0, 5.0], "style": [3.0, 7.0]},
        {"total": [10.0, 5.0], "style": [11.0, 7.0]},
    ]
    assert [record.finite for record in log.records] == [finite for *_, finite in rows]
    problems = [record.problem for record in log.records]
    assert problems == ["", "", problems[2], ""]
    message = "the loss or its gradient is not finite at step 3 (total inf, style nan)"
    assert problems[2] == message


def test_non_finite_evaluations_in_a_row_are_counted_from_the_last():
    log = StepLog(0, 0.0)
    counts = []
    for ok in (True, False, False, True, False):
        log.append(evaluation_of([1.0, 1.0], [1.0, 1.0], [ok, False]))
        log.steps += 1
        log.read()
        counts.append(log.nonfinite_in_a_row)
    assert counts == [0, 1, 2, 0, 1]


def log_with_two_to_read():
    log = logged(30, 25)
    for step in (31, 32):
        log.append(evaluation_of(*row(step)))
        log.steps += 1
    return log


def test_an_interrupt_before_any_line_of_reading_keeps_each_record_once():
    logs, files = [log_with_two_to_read()], {StepLog.read.__code__.co_filename}
    for _ in interrupted_before_each_line(lambda: logs[-1].read(), files):
        logs[-1].read()
        assert [record.step for record in logs[-1].records] == list(range(1, 33))
        logs.append(log_with_two_to_read())
    assert len(logs) > 10
