"""Both minimisers against plain loops, and the preconditioner against its definition."""

import copy
import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from helpers import Quadratic, make_picture
from nst_helpers.engine.lbfgs import LBFGS
from nst_helpers.engine.minimizers import (
    FIRST_CHANGE,
    LOWEST_FREQUENCY,
    Adam,
    PreconditionedLBFGS,
    spectral_preconditioner,
)

BOTH = pytest.mark.parametrize("make", ["make_lbfgs", "make_adam"])
EXPONENTS = pytest.mark.parametrize("exponent", [0, 0.5, 2.0])
SIZES = pytest.mark.parametrize("size", [(8, 10), (7, 9), (1, 6)])


def make_lbfgs(image, lr=1.0, history_size=10, exponent=0.5):
    return PreconditionedLBFGS(image, lr=lr, history_size=history_size, exponent=exponent)


def make_adam(image, lr=0.02):
    return Adam(image, lr=lr)


@pytest.fixture
def minimizer(make, start):
    return globals()[make](start)


@pytest.fixture
def start():
    return make_picture(8, 10, seed=1, batch=2)


@pytest.fixture
def loss():
    return Quadratic(make_picture(8, 10, seed=3, batch=2), stretch=30.0)


def value_and_gradient(function, x):
    leaf = x.detach().clone().requires_grad_()
    value = function(leaf)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def path(minimizer, loss, steps):
    """The images that are evaluated, one after the other."""
    images = []
    for _ in range(steps):
        images.append(minimizer.image.clone())
        minimizer.step(*value_and_gradient(lambda x: loss(x).total, minimizer.image))
    return torch.stack(images)


# --- the interface that both have ----------------------------------------------------------------


@BOTH
def test_it_begins_at_the_start_and_moves_one_and_the_same_tensor(minimizer, loss, start):
    before, place = start.clone(), minimizer.image.data_ptr()
    images = path(minimizer, loss, 5)
    assert torch.equal(images[0], before)
    assert torch.equal(start, before)
    assert minimizer.image.data_ptr() == place
    assert not minimizer.image.requires_grad
    assert loss(images[-1]).total.sum() < loss(before).total.sum()


@BOTH
def test_after_a_restart_it_is_a_new_minimizer(minimizer, make, loss, start):
    path(minimizer, loss, 5)
    other = make_picture(8, 10, seed=5, batch=2)
    minimizer.restart(other)
    fresh = globals()[make](other)
    assert torch.equal(path(minimizer, loss, 5), path(fresh, loss, 5))


@BOTH
def test_a_copy_goes_on_as_the_original_does(minimizer, loss):
    path(minimizer, loss, 4)
    other = copy.deepcopy(minimizer)
    expected = path(minimizer, loss, 4)
    assert torch.equal(path(other, loss, 4), expected)
    assert other.image.data_ptr() != minimizer.image.data_ptr()


@BOTH
def test_a_minimizer_that_descends_is_not_stalled(minimizer, loss):
    assert not minimizer.stalled()
    path(minimizer, loss, 5)
    assert not minimizer.stalled()


# --- Adam ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [0.02, 0.3])
def test_adam_is_torchs(loss, start, lr):
    x, expected = start.clone().requires_grad_(), []
    adam = torch.optim.Adam([x], lr=lr)
    for _ in range(12):
        expected.append(x.detach().clone())
        adam.zero_grad()
        loss(x).total.sum().backward()
        adam.step()
    assert torch.equal(path(make_adam(start, lr), loss, 12), torch.stack(expected))


# --- L-BFGS with its preconditioner --------------------------------------------------------------


def test_without_a_preconditioner_it_is_lbfgs(loss, start):
    minimizer = make_lbfgs(start, lr=0.7, history_size=4, exponent=0)
    lbfgs, expected = LBFGS(start, first_step=FIRST_CHANGE, lr=0.7, history_size=4), []
    for _ in range(12):
        expected.append(lbfgs.point.clone())
        lbfgs.tell(*value_and_gradient(lambda x: loss(x).total, lbfgs.point))
    images = path(minimizer, loss, 12)
    torch.testing.assert_close(images, torch.stack(expected), rtol=0, atol=1e-5)


def test_the_preconditioner_is_a_change_of_variables(loss, start):
    p = spectral_preconditioner(start, 0.5)

    def loss_of_z(z):  # autograd goes through P by itself
        return loss(start + p(z)).total

    minimizer = make_lbfgs(start)
    z, expected = torch.zeros_like(start), []
    images = path(minimizer, loss, 1)
    lbfgs = LBFGS(z, first_step=minimizer.lbfgs.first_step)
    for _ in range(10):
        expected.append(start + p(lbfgs.point))
        lbfgs.tell(*value_and_gradient(loss_of_z, lbfgs.point))
    images = torch.cat([images, path(minimizer, loss, 9)])
    torch.testing.assert_close(images, torch.stack(expected), rtol=0, atol=1e-4)


@EXPONENTS
def test_the_first_change_has_one_size_whatever_the_preconditioner(loss, start, exponent):
    images = path(make_lbfgs(start, exponent=exponent), loss, 2)
    change = (images[1] - images[0]).abs().mean((1, 2, 3))
    torch.testing.assert_close(change, torch.full((2,), FIRST_CHANGE))


def test_a_gradient_of_zero_moves_nothing(start):
    minimizer = make_lbfgs(start)
    for _ in range(3):
        minimizer.step(torch.zeros(2), torch.zeros_like(start))
    assert torch.equal(minimizer.image, start)


@pytest.mark.parametrize("one_descends", [False, True])
def test_lbfgs_is_stalled_where_no_step_lowers_the_value_of_any_image(start, one_descends):
    minimizer, stalled = make_lbfgs(start), []
    for step in range(40):
        value = torch.tensor([1.0, 1.0]) + (step > 0)  # any other image is worse than the start
        if one_descends:
            value[1] = -step
        minimizer.step(value, torch.ones_like(start))
        stalled.append(minimizer.stalled())
    assert any(stalled) == (not one_descends)


def test_a_step_of_lbfgs_does_not_wait_for_the_device():
    # Fake tensors have no values: whatever needs one on the host (item, bool, nonzero) fails.
    with FakeTensorMode():
        minimizer = make_lbfgs(torch.empty(2, 3, 8, 8))
        for _ in range(3):
            minimizer.step(torch.empty(2), torch.empty(2, 3, 8, 8))
    assert PreconditionedLBFGS.capturable
    assert not Adam.capturable  # torch's counts its steps on the host


# --- the preconditioner itself -------------------------------------------------------------------


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


@EXPONENTS
@SIZES
def test_the_preconditioner_is_linear_and_symmetric(size, exponent):
    x, y = (random(2, 3, *size, seed=seed) for seed in range(2))
    p = spectral_preconditioner(x, exponent)
    assert (p(x) * y).sum().item() == pytest.approx((x * p(y)).sum().item(), rel=1e-5)
    torch.testing.assert_close(p(2 * x - 3 * y), 2 * p(x) - 3 * p(y), rtol=1e-5, atol=1e-5)
    assert (p(x) * x).sum() > 0


@SIZES
def test_an_exponent_of_0_is_the_identity(size):
    x = random(1, 3, *size, seed=0)
    assert torch.equal(spectral_preconditioner(x, 0)(x), x)


@EXPONENTS
@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("cycles", [0, 1, 5, 16])  # of 32 pixels: 16 is the Nyquist frequency
def test_the_gain_falls_with_frequency_to_1_at_nyquist(axis, cycles, exponent):
    phase = 2 * math.pi * cycles / 32 * torch.arange(32, dtype=torch.float64)
    wave = torch.cos(phase).view((1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1))
    wave = wave.expand(1, 3, 32, 32).clone()
    frequency = math.hypot(cycles / 32, LOWEST_FREQUENCY)
    gain = (frequency / math.hypot(0.5, LOWEST_FREQUENCY)) ** (-exponent / 2)
    assert gain == pytest.approx(1) if cycles == 16 or not exponent else gain > 1
    preconditioned = spectral_preconditioner(wave, exponent)(wave)
    torch.testing.assert_close(preconditioned, gain * wave, rtol=1e-5, atol=1e-5)
