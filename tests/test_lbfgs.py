"""L-BFGS against SciPy's and torch's, on functions whose minimum is known and on the real loss."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from helpers import make_picture
from nst_helpers import StyleTransferLoss, noise_like
from nst_helpers.engine.lbfgs import LBFGS


def rosenbrock(x):
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


def quadratic(condition, size, seed=0):
    """x A x / 2 with eigenvalues from 1 to ``condition`` and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(size, size, dtype=torch.float64, generator=generator)
    vectors, _ = torch.linalg.qr(random)
    values = torch.logspace(0, math.log10(condition), size).double()
    matrix = vectors @ torch.diag(values) @ vectors.T
    return lambda x: ((x @ matrix) * x).sum(1) / 2


def value_and_gradient(function, x):
    x = x.detach().requires_grad_()
    value = function(x)
    return value.detach(), torch.autograd.grad(value.sum(), x)[0]


def evaluations(function, start, goal, history_size=10, most=5000):
    """How many evaluations until the value is at most ``goal``."""
    minimiser = LBFGS(torch.as_tensor(start)[None], first_step=0.01, history_size=history_size)
    for count in range(1, most + 1):
        minimiser.tell(*value_and_gradient(function, minimiser.point))
        if minimiser.lowest.item() <= goal:
            return count
    pytest.fail(f"only {minimiser.lowest.item():.3g} after {most} evaluations")


def evaluations_of(minimise, function, start, goal):
    """The same for another library's minimiser."""
    values = []

    def evaluate(x):
        value, gradient = value_and_gradient(function, torch.as_tensor(x)[None])
        values.append(value.item())
        return value.item(), gradient[0].numpy()

    minimise(evaluate, start)
    return next(i for i, value in enumerate(values, 1) if value <= goal)


def scipy_lbfgs(evaluate, start):
    optimize = pytest.importorskip("scipy.optimize")
    options = {"maxcor": 10, "maxiter": 9999, "maxfun": 9999, "ftol": 0, "gtol": 0}
    optimize.minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options)


def torch_lbfgs(evaluate, start):
    x = torch.as_tensor(start).clone().requires_grad_()
    other = torch.optim.LBFGS(
        *([x],),
        max_iter=9999,
        tolerance_grad=0,
        tolerance_change=0,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def closure():
        value, gradient = evaluate(x.detach().numpy())
        x.grad = torch.as_tensor(gradient)
        return torch.tensor(value, dtype=torch.float64)

    other.step(closure)


RNG = np.random.default_rng(0)
PROBLEMS = {
    "rosenbrock": (rosenbrock, [np.array([-1.2, 1.0]), np.array([2.0, -3.0])], 1e-8),
    "rosenbrock in 10": (rosenbrock, [RNG.normal(size=10) for _ in range(3)], 1e-8),
    "rosenbrock in 100": (rosenbrock, [RNG.normal(size=100)], 1e-8),
    "a mild quadratic": (quadratic(1e2, 50), [RNG.normal(size=50) for _ in range(3)], 1e-8),
    "a hard quadratic": (quadratic(1e4, 50), [RNG.normal(size=50) for _ in range(3)], 1e-6),
}


@pytest.mark.parametrize("other", [scipy_lbfgs, torch_lbfgs])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_needs_hardly_more_evaluations_than_scipy_and_torch(problem, other):
    function, starts, goal = PROBLEMS[problem]
    ours = sum(evaluations(function, start, goal) for start in starts)
    theirs = sum(evaluations_of(other, function, start, goal) for start in starts)
    assert ours <= 1.1 * theirs


def test_converges_to_the_minimum_of_rosenbrocks_function():
    minimiser = LBFGS(torch.zeros(1, 6, dtype=torch.float64), first_step=0.01)
    for _ in range(200):
        minimiser.tell(*value_and_gradient(rosenbrock, minimiser.point))
    torch.testing.assert_close(minimiser.point, torch.ones_like(minimiser.point))


def test_the_direction_equals_the_two_loop_recursion():
    # Nocedal & Wright 2006, algorithm 7.4, with plain lists.
    function, minimiser = (
        quadratic(30, 8),
        LBFGS(torch.ones(1, 8).double(), first_step=0.1, history_size=3),
    )
    pairs, before = [], None
    for _ in range(9):
        x = minimiser.point.clone()
        value, gradient = value_and_gradient(function, x)
        minimiser.tell(value, gradient)
        if before is not None:
            pairs = [*pairs, (x[0] - before[0][0], gradient[0] - before[1][0])][-3:]
        before = x, gradient
        if not pairs:
            continue
        q, alphas = gradient[0].clone(), []
        for s, y in reversed(pairs):
            alphas.append((s @ q) / (s @ y))
            q -= alphas[-1] * y
        s, y = pairs[-1]
        q *= (s @ y) / (y @ y)
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q += s * (alpha - (y @ q) / (s @ y))
        torch.testing.assert_close(minimiser.point[0] - x[0], -q, rtol=1e-6, atol=1e-9)


def lowest_with_torch(loss, start, evaluations):
    """The lowest loss that torch's own L-BFGS meets, with a strong Wolfe line search."""
    x, losses = start.clone().requires_grad_(), []
    other = torch.optim.LBFGS(
        [x], max_iter=999, max_eval=evaluations, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure():
        value, gradient = value_and_gradient(lambda image: loss(image).total, x)
        losses.append(value.item())
        x.grad = 1e4 * gradient.contiguous()
        return 1e4 * value.sum()

    other.step(closure)
    return min(losses[:evaluations])


def test_a_style_transfer_gets_as_low_as_with_torch(net, content):
    # From one start the ratio is anything from 0.6 to 1.7: the mean over eight.
    loss = StyleTransferLoss(net, content, make_picture(64, 48, seed=2))
    logarithms = []
    for seed in range(8):
        start = noise_like(content, seed)
        minimiser = LBFGS(start, first_step=0.01)
        for _ in range(60):
            value, gradient = value_and_gradient(lambda x: loss(x).total, minimiser.point)
            minimiser.tell(1e4 * value, 1e4 * gradient)
        ratio = minimiser.lowest.item() / 1e4 / lowest_with_torch(loss, start, 60)
        logarithms.append(math.log(ratio))
    assert math.exp(sum(logarithms) / len(logarithms)) < 1.2


@pytest.mark.parametrize(("curvature", "growth"), [(-1e-3, 2), (1e-9, 10), (1.0, None)])
def test_steps_grow_by_no_more_than_a_factor_while_there_is_little_curvature(curvature, growth):
    # Newton's step is 1 / curvature long, 1e9 in the second case; there is none in the first.
    minimiser = LBFGS(torch.zeros(2, 4).double(), first_step=0.01)
    lengths = []
    for _ in range(6):
        before = minimiser.point.clone()
        value, gradient = value_and_gradient(
            lambda x: (x + curvature * x**2 / 2).sum(1), minimiser.point
        )
        minimiser.tell(value, gradient)
        lengths.append((minimiser.point - before).abs().mean().item())
    assert lengths[0] == pytest.approx(0.01)
    if growth is None:
        assert minimiser.point.sum().item() == pytest.approx(-8)  # the minimum
    else:
        ratios = [b / a for a, b in itertools.pairwise(lengths)]
        assert ratios == pytest.approx([growth] * 5, rel=1e-6)


# --- batches -------------------------------------------------------------------------------------


def differently_scaled(x):
    scale = torch.tensor([1e-6, 1.0, 1e6], dtype=x.dtype)[: x.shape[0]]
    return scale * quadratic(50, 12)(x - 1)


def test_batch_elements_are_independent():
    starts = torch.randn(3, 12, generator=torch.Generator().manual_seed(1)).double()
    together = LBFGS(starts, first_step=0.01)
    for _ in range(40):
        together.tell(*value_and_gradient(differently_scaled, together.point))
    for i in range(3):
        alone = LBFGS(starts[i : i + 1], first_step=0.01)
        for _ in range(40):
            value, gradient = value_and_gradient(lambda x: quadratic(50, 12)(x - 1), alone.point)
            scale = (1e-6, 1.0, 1e6)[i]
            alone.tell(scale * value, scale * gradient)
        torch.testing.assert_close(together.point[i : i + 1], alone.point, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(alone.point, torch.ones_like(alone.point), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_batch_element_does_not_affect_the_others(bad):
    starts = torch.zeros(2, 12).double()
    minimiser = LBFGS(starts, first_step=0.01)
    for i in range(40):
        value, gradient = value_and_gradient(lambda x: quadratic(50, 12)(x - 1), minimiser.point)
        if i >= 4:
            value[0], gradient[0] = bad, math.nan
        minimiser.tell(value, gradient)
    assert minimiser.lowest[1] < 1e-8
    assert minimiser.point.isfinite().all()
    assert minimiser.lowest.isfinite().all()


def test_recovers_from_non_finite_evaluations():
    minimiser = LBFGS(torch.zeros(1, 12).double(), first_step=0.01)
    for i in range(60):
        value, gradient = value_and_gradient(lambda x: quadratic(50, 12)(x - 1), minimiser.point)
        minimiser.tell(value * (math.nan if i in (1, 5, 6, 9) else 1), gradient)
    assert minimiser.lowest.item() < 1e-6


def test_line_search_backs_off_from_a_non_finite_region():
    # Infinite beyond 0.5, where the steps of a quadratic lead.
    def infinite_beyond(x):
        value = ((x - 1) ** 2).sum(1)
        return torch.where((x > 0.5).any(1), torch.inf, value)

    minimiser = LBFGS(torch.zeros(1, 3).double(), first_step=0.3)
    for _ in range(60):
        value, gradient = value_and_gradient(infinite_beyond, minimiser.point)
        minimiser.tell(value, gradient)
    assert minimiser.lowest.item() < 1.05 * 3 * 0.25


# --- precision and the device --------------------------------------------------------------------


def test_noise_of_half_precision_does_not_stall_it():
    function, generator = quadratic(30, 40), torch.Generator().manual_seed(3)
    minimiser = LBFGS(torch.ones(1, 40).double(), first_step=0.01)
    for _ in range(80):
        value, gradient = value_and_gradient(function, minimiser.point)
        noise = 1 + 4e-3 * torch.randn(2, 1, generator=generator).double()
        minimiser.tell(noise[0] * value, noise[1] * gradient)
    start = function(torch.ones(1, 40).double()).item()
    assert function(minimiser.point).item() < 1e-6 * start


def test_a_step_does_not_wait_for_the_device():
    # Fake tensors have no values: whatever needs one on the host (item, bool, nonzero) fails.
    with FakeTensorMode():
        minimiser = LBFGS(torch.empty(2, 3, 8, 8), first_step=0.01)
        for _ in range(3):
            minimiser.tell(torch.empty(2), torch.empty(2, 3, 8, 8))


def test_the_point_is_always_the_same_tensor():
    minimiser = LBFGS(torch.zeros(2, 3, 4, 5), first_step=0.01)
    place = minimiser.point.data_ptr()
    for _ in range(3):
        minimiser.tell(torch.ones(2), torch.ones(2, 3, 4, 5))
    assert minimiser.point.data_ptr() == place


def test_the_start_is_left_alone():
    start = torch.zeros(1, 4)
    minimiser = LBFGS(start, first_step=0.5)
    minimiser.tell(torch.ones(1), torch.ones(1, 4))
    assert torch.equal(start, torch.zeros(1, 4))
    torch.testing.assert_close(minimiser.point, torch.full((1, 4), -0.5))


@pytest.mark.parametrize("history_size", [0, -1, 2.5, True, None])
def test_a_bad_history_size_is_named(history_size):
    with pytest.raises(ValueError, match="history_size must be a whole number"):
        LBFGS(torch.zeros(1, 4), first_step=0.01, history_size=history_size)


@pytest.mark.parametrize("history_size", [1, 2, 30])
def test_minimises_with_any_history_size(history_size):
    assert evaluations(quadratic(20, 10), np.ones(10), 1e-8, history_size=history_size) < 200


def test_is_stalled_where_no_step_lowers_the_value():
    minimiser = LBFGS(torch.zeros(1, 3), first_step=0.01)
    for _ in range(40):
        minimiser.tell((minimiser.point != 0).any(1) + 1.0, torch.ones(1, 3))
        if minimiser.stalled.all():
            return
    pytest.fail("never stalled")
