"""How runs end: those that come to nothing say so and why, and no other does."""

import warnings

import pytest
import torch

from helpers import Quadratic, Total, make_picture
from nst_helpers import Loss, Result, StyleTransferLoss, noise_like, optimize, resize_image
from nst_helpers.engine.ending import Ending, end_of_all

TARGET = make_picture(16, 20, seed=3)


def warned(call):
    """What a call returns, and what it warns of, from this file."""
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        result = call()
    assert all(record.filename == __file__ for record in records)
    return result, [str(record.message) for record in records]


NOTHING = {
    "Adam, far too large": (
        Quadratic,
        {"optimizer": "adam", "lr": 30.0},
        "none of 30 steps",
        "large",
    ),
    "Adam, too small": (Quadratic, {"optimizer": "adam", "lr": 1e-5}, "changed the image", "small"),
    "L-BFGS, too small": (Quadratic, {"lr": 1e-4}, "lowered the loss by only|lowered", "too small"),
}


@pytest.mark.parametrize("case", NOTHING)
def test_a_run_that_comes_to_nothing_says_so_with_the_likely_cause(case):
    make_loss, options, what, cause = NOTHING[case]
    result, messages = warned(
        lambda: optimize(make_loss(TARGET), noise_like(TARGET), steps=30, **options)
    )
    assert (result.stopped, result.ok) == ("no progress", False)
    assert messages[-1] == result.problem
    assert any(part in result.problem for part in what.split("|"))
    assert cause in result.problem
    assert f"lr={options['lr']:g}" in result.problem
    assert "pixels are in 0..1" in result.problem


class Flat(Loss):
    """One, and hardly more."""

    def __call__(self, image):
        return Total(1 + 1e-6 * (image - TARGET).square().sum((1, 2, 3)))


class Explained(Flat):
    def explain(self, image):
        return f"of {tuple(image.shape)}, the content weighs 9 times the style"


@pytest.mark.parametrize(
    ("loss", "cause"), [(Flat(), "lr below 1"), (Explained(), r"of \(1, 3, 16, 20\), the content")]
)
def test_a_loss_that_knows_the_cause_is_asked(loss, cause):
    with pytest.warns(UserWarning, match=f"steps lowered the loss by.*{cause}"):
        result = optimize(loss, noise_like(TARGET), steps=40)
    assert (result.stopped, result.ok) == ("no progress", False)


def test_too_much_content_is_named_as_the_cause(net):
    content, style = make_picture(64, 64, seed=1), make_picture(64, 64, seed=2)
    loss = StyleTransferLoss(net, content, style, alpha=1e6)
    result, messages = warned(lambda: optimize(loss, content, steps=30))
    assert messages == [result.problem]
    assert "the content weighs" in result.problem
    assert "try a smaller alpha" in result.problem
    terms = loss(noise_like(content))
    ratio = 1e6 * terms.content.item() / terms.style.item()
    assert f"{ratio:.3g} times the style" in result.problem
    assert StyleTransferLoss(net, content, style, alpha=1e-6).explain(content) == ""
    assert StyleTransferLoss(net, content, alpha=1.0).explain(content) == ""


def test_adams_far_steps_are_told_of_at_once_though_the_loss_falls():
    calls = []
    start = noise_like(TARGET)
    loss = Quadratic(TARGET)
    _, messages = warned(
        lambda: optimize(loss, start, steps=1, optimizer="adam", lr=1.0, callback=calls.append)
    )
    assert len(messages) == 1
    assert "lr=1 is too large and will paint noise" in messages[0]
    assert "0.02" in messages[0]
    _, messages = warned(lambda: optimize(loss, start, steps=2, optimizer="adam", lr=0.3))
    assert messages == []


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("steps", [2, 9, 20, 60])
@pytest.mark.parametrize("start", ["noise", "content", "optimum", "rounded optimum"])
def test_a_run_that_does_its_work_is_not_accused(net, optimizer, steps, start):
    content, style = make_picture(64, 64, seed=1), make_picture(64, 64, seed=2)
    if "optimum" in start:
        loss = StyleTransferLoss(net, content, alpha=1.0)
    else:
        loss = StyleTransferLoss(net, content, style)
    image = {"noise": noise_like(content), "rounded optimum": (255 * content).round() / 255}
    result, messages = warned(
        lambda: optimize(loss, image.get(start, content), steps=steps, optimizer=optimizer)
    )
    assert (messages, result.problem, result.ok) == ([], "", True)


def test_going_on_from_where_nothing_is_left_to_do_is_fine():
    loss, results = Quadratic(TARGET, 30.0), []
    results.append(optimize(loss, noise_like(TARGET), steps=80))
    for _ in range(3):
        result, messages = warned(lambda: optimize(loss, results[-1], steps=25))
        results.append(result)
        assert messages == []
        assert result.ok
    other, messages = warned(lambda: optimize(Quadratic(TARGET, 30.0), results[-1], steps=25))
    assert (messages, other.ok) == ([], True)


def test_going_on_with_a_step_that_only_makes_it_worse_is_told():
    first = optimize(Quadratic(TARGET, 30.0), noise_like(TARGET), steps=4)
    result, messages = warned(
        lambda: optimize(Quadratic(TARGET, 30.0), first, steps=20, optimizer="adam", lr=30.0)
    )
    assert not result.ok
    assert messages[-1].startswith("none of 20 steps lowered")


def test_of_a_pyramid_one_level_with_progress_is_enough(net):
    content, style = make_picture(64, 64, seed=1), make_picture(64, 64, seed=2)
    loss = StyleTransferLoss(net, content, style)
    result, messages = warned(
        lambda: optimize(loss, noise_like(content), steps=(60, 20), pyramid=(48,))
    )
    assert (messages, result.ok) == ([], True)
    result, messages = warned(
        lambda: optimize(loss, content, steps=(20, 20), pyramid=(48,), optimizer="adam", lr=1e-5)
    )
    assert (len(messages), result.stopped) == (1, "no progress")


def test_each_part_of_a_batch_has_its_own_ending():
    targets = torch.cat([TARGET] * 3)
    loss = Quadratic(targets)

    def mixed(image):
        total = loss(image).total
        late = len(loss.images) > 10
        flat = 1e6 + 1e-9 * total  # nothing to gain
        bad = torch.full_like(total, torch.nan) if late else total
        return Total(torch.stack([total[0], flat[1], total[2] + bad[2]]))

    start = noise_like(targets)
    result, messages = warned(lambda: optimize(mixed, start, steps=40, optimizer="adam"))
    assert messages == [result.problem]
    assert (result.stopped, result.ok) == ("steps", True)
    assert "image 1 of the batch (from 0): none of 40 steps lowered the loss" in result.problem
    assert "image 2 of the batch (from 0): the loss or its gradient is not" in result.problem
    parts = result.split()
    assert [part.stopped for part in parts] == ["steps", "no progress", "not finite"]
    assert [part.ok for part in parts] == [True, False, False]
    assert parts[0].problem == ""
    assert all(part.problem in result.problem for part in parts)
    assert parts[1].split() == [parts[1]]


def test_a_batch_of_which_nothing_came_says_so_once():
    same = [Ending("no progress", "x")] * 2
    assert end_of_all(same, "steps") == Ending("no progress", "x")
    parts = [Ending("no progress", "x"), Ending("not finite", "y"), Ending("no progress", "z")]
    assert end_of_all(parts, "steps") == Ending(
        "no progress", "image 0, 2 of the batch (from 0): x; image 1 of the batch (from 0): y"
    )
    assert end_of_all([Ending("converged")] * 2, "converged") == Ending("converged")
    made_by_hand = Result(torch.cat([TARGET] * 2), stopped="callback", problem="p")
    assert [part.problem for part in made_by_hand.split()] == ["p", "p"]


def test_a_resized_loss_says_nothing_twice(net):
    loss = StyleTransferLoss(net, style=make_picture(64, 64, seed=2))
    _, messages = warned(lambda: loss.resized(0.5)(resize_image(make_picture(64, 64), 0.5)))
    assert messages == []
