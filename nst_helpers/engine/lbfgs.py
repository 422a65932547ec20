"""L-BFGS for a batch of images, without a host synchronisation.

The paper's optimiser (Gatys et al. 2016, section 2) reads one number after the other from the
device, because its decisions are made in Python; on a GPU that wait costs as much as the network.
Here everything is a tensor: each image of a batch has curvature pairs and a step length of its own,
the decisions are ``torch.where``, and a direction takes two products with the pairs.

References
----------
.. [1] Nocedal 1980, "Updating quasi-Newton matrices with limited storage"
.. [2] Liu & Nocedal 1989, "On the limited memory BFGS method for large scale optimization"
.. [3] Byrd, Nocedal & Schnabel 1994, "Representations of quasi-Newton matrices and their use in
   limited memory methods", theorem 2.2
"""

from __future__ import annotations

import torch

from nst_helpers import _validate
from nst_helpers.engine.threads import sum_per_image

__all__ = ["LBFGS"]

ARMIJO_C1 = 1e-4  # share of the decrease that the directional derivative predicts
NONMONOTONE_TOLERANCE = 1e-2  # of the lowest value: how much higher a step may end
CURVATURE_EPS = 1e-7  # of |s| |y|: less curvature than this is rounding
GROWTH = 2  # of steps along the gradient, while there are no curvature pairs
LARGEST_GROWTH = 10  # of a step over the one before it
MAX_BACKTRACKS = 12  # rejected steps before the curvature pairs are dropped


class LBFGS:
    """Limited-memory BFGS [1]_, [2]_, with an ask-and-tell interface.

    Evaluate ``point``, ``tell`` its value and gradient, and ``point`` is the next one to evaluate:

    >>> lbfgs = LBFGS(start, first_step=0.01)
    >>> for _ in range(100):
    ...     lbfgs.tell(*value_and_gradient(lbfgs.point))

    Parameters
    ----------
    start : torch.Tensor
        (B, ...); each of the B points is minimised by itself. Copied.
    first_step : float or torch.Tensor
        Mean absolute change of a coordinate in the very first step, one number or (B,). Later
        steps go by the curvature; where none is known yet, each is twice as long as the one before.
    lr : float
        Step length that is tried first; 1 is the step of Newton's method.
    history_size : int
        How many curvature pairs are held: the step s and the change of the gradient y, of each of
        the last steps. ``bytes_needed`` says what they cost: with 30 of them 57 MB for an image of
        256 x 256 pixels, 900 MB for 1024 x 1024.

    Attributes
    ----------
    point : torch.Tensor
        (B, ...), where to evaluate next; always the same tensor, overwritten by ``tell``.
    lowest : torch.Tensor
        (B,), the lowest values so far.
    stalled : torch.Tensor
        (B,) of bool: no step down the gradient, of any length, lowers this one any more.

    Notes
    -----
    The line search backtracks: the full step is tried first, then shorter ones by a cubic through
    values and directional derivatives, until the value has decreased enough (Armijo's condition);
    a curvature pair is stored where s^T y > 0. That takes little more than one evaluation for each
    step. It is non-monotone: a step may end up to 1 % above the lowest value, because with
    half-precision networks the values themselves are no more certain than that, and a line search
    that insists would stall. A value or gradient that is not finite counts as far too high, so the
    line search backs off to where it is finite; the rest of the batch is not affected.

    The direction is the compact form of [3]_, with pairs scaled so that s^T y = 1. They lie in a
    ring buffer: the newest pair overwrites the oldest.
    """

    def __init__(
        self,
        start: torch.Tensor,
        *,
        first_step: float | torch.Tensor,
        lr: float = 1.0,
        history_size: int = 10,
    ) -> None:
        history_size = _validate.positive_int("history_size", history_size)
        self.point = start.detach().clone(memory_format=torch.contiguous_format)
        batch = self.point.shape[0]
        self._trial = self.point.view(batch, -1)  # (B, n), the same memory as point
        self.first_step, self.lr, self.history_size = first_step, lr, history_size
        new = self._trial.new_zeros
        # The accepted x with its value and gradient; the trial point is x + length * direction.
        self._x, self._value = self._trial.clone(), new(batch).fill_(torch.inf)
        self._gradient, self._direction = new(self._trial.shape), new(self._trial.shape)
        self._length, self._derivative, self._backtracks = new(batch), new(batch), new(batch)
        self.lowest, self.stalled = new(batch).fill_(torch.inf), new(batch, dtype=torch.bool)
        # The curvature pairs S and Y, their products S Y^T and Y Y^T, and the slots in use.
        self._pairs = new(batch, 2, history_size, self._trial.shape[1])  # (B, 2, m, n)
        self._sy, self._yy = (new(batch, history_size, history_size) for _ in range(2))  # (B, m, m)
        self._with_g = new(batch, 2, history_size)  # S g and Y g, of the accepted gradient
        self._newest, self._used = new(batch, dtype=torch.long), new(batch, history_size) > 0
        self._slots = torch.arange(history_size, device=start.device)
        self._batch = torch.arange(batch, device=start.device)

    @staticmethod
    def bytes_needed(numbers: int, history_size: int = 10) -> int:
        """Return how many bytes it takes to minimise a function of ``numbers`` float32 numbers.

        Parameters
        ----------
        numbers : int
            B times the size of a point.
        history_size : int
            As above.
        """
        # The pairs; the dozen is what it and the loop around it hold at the same time, measured.
        return 4 * numbers * (2 * history_size + 12)

    @torch.no_grad()
    def tell(self, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Take value and gradient at ``point``, and move it to the next point to evaluate.

        Parameters
        ----------
        value : torch.Tensor
            (B,).
        gradient : torch.Tensor
            (B, ...), of the point's shape.
        """
        gradient = gradient.reshape(self._trial.shape)  # (B, n)
        finite = value.isfinite() & gradient.isfinite().all(1)
        value = torch.where(finite, value, torch.inf)
        gradient = torch.where(finite[:, None], gradient, 0.0)
        expected_change = self._length * self._derivative
        derivative = _dot(gradient, self._direction)  # along the direction, at the trial point
        accepted = value <= self._value + ARMIJO_C1 * expected_change
        accepted |= value <= self.lowest + NONMONOTONE_TOLERANCE * self.lowest.abs()
        accepted &= finite
        self._update_pairs(accepted, gradient, derivative)
        backtrack_factor = _cubic_minimum(
            self._value, expected_change, value, self._length * derivative
        )
        for current, trial in (
            (self._x, self._trial),
            (self._gradient, gradient),
            (self._value, value),
            (self.lowest, torch.minimum(value, self.lowest)),
        ):
            mask = accepted.view(-1, *[1] * (current.dim() - 1))
            torch.where(mask, trial, current, out=current)
        self._next_direction(accepted, backtrack_factor)
        torch.addcmul(self._x, self._length[:, None], self._direction, out=self._trial)

    def _update_pairs(
        self, accepted: torch.Tensor, gradient: torch.Tensor, derivative: torch.Tensor
    ) -> None:
        """Store the pair (s, y) where the step was accepted and s^T y > eps |s| |y|."""
        y = gradient - self._gradient
        curvature = self._length * (derivative - self._derivative)  # s^T y
        size = self._length * _norm(self._direction) * _norm(y)
        stored = accepted & (curvature > CURVATURE_EPS * size)
        scale = torch.where(stored, curvature, 1.0).rsqrt()[:, None]  # makes s^T y = 1
        pair = torch.stack((scale * self._length[:, None] * self._direction, scale * y), 1)
        slot = torch.where(stored, (self._newest + 1) % self.history_size, self._newest)
        place = self._batch, slice(None), slot  # (B, 2, n)
        self._pairs[place] = torch.where(stored[:, None, None], pair, self._pairs[place])
        is_new = (self._slots == slot[:, None]) & stored[:, None]  # (B, m)
        with_g = _products(self._pairs, gradient)
        # The products with y need no second pass over the pairs: y is a difference of gradients.
        own = torch.stack((torch.ones_like(curvature), _dot(pair[:, 1], pair[:, 1])), 1)
        with_y = scale[:, None] * (with_g - self._with_g)  # (B, 2, m)
        with_y = torch.where(is_new[:, None], own[:, :, None], with_y)[..., None]
        torch.where(accepted[:, None, None], with_g, self._with_g, out=self._with_g)
        column, row = is_new[:, None, :], is_new[:, :, None]
        torch.where(column, with_y[:, 0], self._sy, out=self._sy)
        torch.where(column, with_y[:, 1], self._yy, out=self._yy)
        torch.where(row, with_y[:, 1].mT, self._yy, out=self._yy)
        self._used |= is_new
        self._newest.copy_(slot)

    def _next_direction(self, accepted: torch.Tensor, backtrack_factor: torch.Tensor) -> None:
        """Take a new direction where the step was accepted; elsewhere, backtrack along the old."""
        self._backtracks.copy_(torch.where(accepted, 0.0, self._backtracks + 1))
        exhausted = self._backtracks >= MAX_BACKTRACKS
        stalled = exhausted & ~self._used.any(1)
        self.stalled.logical_or_(stalled).logical_and_(~accepted)
        self._used &= ~exhausted[:, None]
        before = self._length / self.lr * _mean_abs(self._direction)
        is_first = exhausted | (before == 0)
        direction = -self._times_inverse_hessian()
        # By rounding it may be no descent direction: then drop the curvature pairs.
        size = _norm(direction) * _norm(self._gradient)
        self._used &= (_dot(direction, self._gradient) < -1e-6 * size)[:, None]
        steepest_descent = ~self._used.any(1)
        direction = torch.where(steepest_descent[:, None], -self._gradient, direction)
        # The inverse of hardly any curvature may be a step of any length.
        limit = torch.where(steepest_descent, GROWTH, LARGEST_GROWTH) * before
        limit = torch.where(is_first, self.first_step, limit)
        factor = limit / _mean_abs(direction).clamp(min=1e-30)
        factor = torch.where(steepest_descent, factor, factor.clamp(max=1))
        direction = factor[:, None] * direction
        new_direction = accepted | exhausted
        self._backtracks.copy_(torch.where(exhausted, 0.0, self._backtracks))
        torch.where(new_direction[:, None], direction, self._direction, out=self._direction)
        self._length.copy_(torch.where(new_direction, self.lr, self._length * backtrack_factor))
        self._derivative.copy_(_dot(self._direction, self._gradient))

    def _times_inverse_hessian(self) -> torch.Tensor:
        """Return H g, the approximate inverse Hessian times the gradient, (B, n)."""
        age = (self._newest[:, None] + 1 + self._slots) % self.history_size  # slots, oldest first

        def in_order(matrix: torch.Tensor) -> torch.Tensor:
            used = self._used[:, :, None] & self._used[:, None, :]
            rows = torch.where(used, matrix, 0.0).take_along_dim(age[:, :, None], 1)
            return rows.take_along_dim(age[:, None, :], 2)

        identity = torch.eye(self.history_size, dtype=self._sy.dtype, device=self._sy.device)
        with_g = torch.where(self._used[:, None], self._with_g, 0.0)[..., None]
        s_g, y_g = with_g.take_along_dim(age[:, None, :, None], 2).unbind(1)  # (B, m, 1)
        newest = self._yy.diagonal(dim1=1, dim2=2).gather(1, self._newest[:, None])
        gamma = torch.where(self._used.any(1, keepdim=True), 1 / newest, 1.0)[:, :, None]
        r = in_order(self._sy).triu(1) + identity  # 1 on the diagonal: the pairs' scale
        u = torch.linalg.solve_triangular(r, s_g, upper=True)
        inner = u + gamma * (in_order(self._yy) @ u - y_g)
        v = torch.linalg.solve_triangular(r.mT, inner, upper=False)
        slot = (self._slots - self._newest[:, None] - 1) % self.history_size  # back to slots
        weights = torch.stack((v, -gamma * u), 1).take_along_dim(slot[:, None, :, None], 2)
        weights = torch.where(self._used[:, None, :, None], weights, 0.0)
        return gamma[:, 0] * self._gradient + _combination(self._pairs, weights[..., 0])


def _products(pairs: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Return the products of pairs (B, 2, m, n) with a vector (B, n), (B, 2, m)."""
    if pairs.device.type == "cpu":
        # A product with one vector is one thread's; of several, such as S's and Y's, each is.
        return (vector[:, None, None] @ pairs.mT)[:, :, 0]
    return (pairs.flatten(1, 2) @ vector[:, :, None]).view(pairs.shape[:3])


def _combination(pairs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the sum of pairs (B, 2, m, n), times their weights (B, 2, m): (B, n)."""
    if pairs.device.type == "cpu":
        return (weights[:, :, None] @ pairs)[:, :, 0].sum(1)
    return (weights.flatten(1)[:, None] @ pairs.flatten(1, 2))[:, 0]


def _cubic_minimum(
    value: torch.Tensor, change: torch.Tensor, end_value: torch.Tensor, end_change: torch.Tensor
) -> torch.Tensor:
    """Return where, as a share of the step, the cubic through both ends is lowest: 0.1 to 0.5."""
    bend = change + end_change - 3 * (end_value - value)
    root = (bend.square() - change * end_change).clamp(min=0).sqrt()
    share = 1 - (end_change + root - bend) / (end_change - change + 2 * root)
    return torch.where(share.isfinite(), share, 0.1).clamp(0.1, 0.5)


def _mean_abs(a: torch.Tensor) -> torch.Tensor:
    return sum_per_image(a.abs()) / a.shape[1]


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return sum_per_image(a * b)


def _norm(a: torch.Tensor) -> torch.Tensor:
    return sum_per_image(a.square()).sqrt()
