"""L-BFGS for a batch of pictures, without a word between the device and Python.

The paper's optimiser (Gatys et al. 2016, section 2) asks the device for one number after the
other, because its decisions are made in Python; on a GPU that waiting costs as much as the network.
Here everything is a tensor: each picture of a batch has its own memory of the curvature and its own
step length, the decisions are ``torch.where``, and a direction takes two products with the memory.
"""

from __future__ import annotations

import torch

__all__ = ["LBFGS"]

SUFFICIENT = 1e-4  # of the fall that the slope promises (Armijo's condition)
NOISE = 1e-2  # of the lowest value: how much higher a step may end
CURVED = 1e-7  # of |s| |y|: less curvature than this is rounding
TRIES = 12  # steps that fail before the memory is dropped


class LBFGS:
    """Limited-memory BFGS (Nocedal 1980; Liu & Nocedal 1989), as a conversation.

    It says which ``point`` to evaluate, and is told what was found there:

    >>> minimiser = LBFGS(start, first_step=0.01)
    >>> for _ in range(100):
    ...     minimiser.tell(*value_and_gradient(minimiser.point))

    Parameters
    ----------
    start : torch.Tensor
        (B, ...); each of the B points is minimised by itself. Copied.
    first_step : float or torch.Tensor
        Mean absolute change of a coordinate in the very first step, one number or (B,). Later
        steps go by the curvature.
    lr : float
        How much of each step to try first; 1 is the step of Newton's method.
    history : int
        How many steps the memory of the curvature goes back. ``LBFGS.memory`` says what it costs:
        with the default 25 MB for a picture of 256 x 256 pixels, 400 MB for 1024 x 1024.

    Attributes
    ----------
    point : torch.Tensor
        (B, ...), where to evaluate next; always the same tensor, overwritten by ``tell``.
    lowest : torch.Tensor
        (B,), the lowest values so far.
    stuck : torch.Tensor
        (B,) of bool: no step down the gradient, of any length, lowers this one any more.

    Notes
    -----
    A step of full length is tried first, then shorter ones by a cubic through values and slopes,
    until the value has fallen enough; a pair of step and change of gradient is remembered where
    it shows positive curvature. That takes little more than one evaluation for each step. A step
    may also end up to 1 % above the lowest value: with half-precision networks the values
    themselves are no more certain than that, and a line search that insists would stall. A value
    or gradient that is not finite counts as far too high, so the picture goes back to where it was
    good and tries a shorter step; the others of the batch do not notice.

    The direction is the compact form of Byrd, Nocedal & Schnabel 1994 (theorem 2.2), with pairs
    scaled so that s^T y = 1. The memory is a ring: the newest pair overwrites the oldest.
    """

    def __init__(
        self,
        start: torch.Tensor,
        *,
        first_step: float | torch.Tensor,
        lr: float = 1.0,
        history: int = 10,
    ) -> None:
        if isinstance(history, bool) or not isinstance(history, int) or history < 1:
            raise ValueError(f"history must be a whole number, 1 or more; got {history!r}")
        self.point = start.detach().clone(memory_format=torch.contiguous_format)
        batch = self.point.shape[0]
        self._trial = self.point.view(batch, -1)  # (B, n), the same memory as point
        self.first_step, self.lr, self.history = first_step, lr, history
        new = self._trial.new_zeros
        # Where it stands: x, with its value and gradient; and where it looks: x + length * d.
        self._x, self._value = self._trial.clone(), new(batch).fill_(torch.inf)
        self._gradient, self._direction = new(self._trial.shape), new(self._trial.shape)
        self._length, self._slope, self._tries = new(batch), new(batch), new(batch)
        self.lowest, self.stuck = new(batch).fill_(torch.inf), new(batch, dtype=torch.bool)
        # The memory: S and Y in one (B, 2, m, n), S Y^T and Y Y^T, and which slots are in use.
        self._pairs = new(batch, 2, history, self._trial.shape[1])
        self._sy, self._yy = new(batch, history, history), new(batch, history, history)
        self._newest, self._used = new(batch, dtype=torch.long), new(batch, history) > 0
        self._slots = torch.arange(history, device=start.device)
        self._each = torch.arange(batch, device=start.device)

    @staticmethod
    def memory(numbers: int, history: int = 10) -> int:
        """Return how many bytes it takes to minimise ``numbers`` float32 numbers.

        Parameters
        ----------
        numbers : int
            B times the size of a point.
        history : int
            As above.
        """
        # The pairs, and beside them what it and the loop around it hold for a moment.
        return 4 * numbers * (2 * history + 12)

    @torch.no_grad()
    def tell(self, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Take in what was found at ``point``, and move it to the next place to look.

        Parameters
        ----------
        value : torch.Tensor
            (B,).
        gradient : torch.Tensor
            (B, ...), of the point's shape.
        """
        gradient = gradient.reshape(self._trial.shape)
        finite = value.isfinite() & gradient.isfinite().all(1)
        value = torch.where(finite, value, torch.inf)
        gradient = torch.where(finite[:, None], gradient, 0.0)
        promised = self._length * self._slope
        slope = _dot(gradient, self._direction)
        moved = value <= self._value + SUFFICIENT * promised
        moved |= value <= self.lowest + NOISE * self.lowest.abs()
        moved &= finite
        self._remember(moved, gradient, slope)
        shorter = _cubic_minimum(self._value, promised, value, self._length * slope)
        for mine, found in (
            (self._x, self._trial),
            (self._gradient, gradient),
            (self._value, value),
            (self.lowest, torch.minimum(value, self.lowest)),
        ):
            torch.where(moved.view(-1, *[1] * (mine.dim() - 1)), found, mine, out=mine)
        self._turn(moved, shorter)
        torch.addcmul(self._x, self._length[:, None], self._direction, out=self._trial)

    def _remember(self, moved: torch.Tensor, gradient: torch.Tensor, slope: torch.Tensor) -> None:
        """Put step and change of gradient into the ring, for those that moved and learnt."""
        change = gradient - self._gradient
        curvature = self._length * (slope - self._slope)  # s^T y
        size = self._length * self._direction.norm(dim=1) * change.norm(dim=1)
        moved = moved & (curvature > CURVED * size)
        scale = torch.where(moved, curvature, 1.0).rsqrt()[:, None]  # s^T y = 1 in the memory
        pair = torch.stack((scale * self._length[:, None] * self._direction, scale * change), 1)
        slot = torch.where(moved, (self._newest + 1) % self.history, self._newest)
        place = self._each, slice(None), slot  # (B, 2, n)
        self._pairs[place] = torch.where(moved[:, None, None], pair, self._pairs[place])
        with_y = (self._pairs.flatten(1, 2) @ pair[:, 1, :, None]).unflatten(1, (2, -1))
        here = (self._slots == slot[:, None]) & moved[:, None]  # (B, m)
        column, row = here[:, None, :], here[:, :, None]
        torch.where(column, with_y[:, 0], self._sy, out=self._sy)
        torch.where(column, with_y[:, 1], self._yy, out=self._yy)
        torch.where(row, with_y[:, 1].mT, self._yy, out=self._yy)
        self._used |= here
        self._newest.copy_(slot)

    def _turn(self, moved: torch.Tensor, shorter: torch.Tensor) -> None:
        """Choose the next step: a new direction for those that moved, a shorter one for others."""
        self._tries.copy_(torch.where(moved, 0.0, self._tries + 1))
        lost = self._tries >= TRIES
        self.stuck.copy_(lost & ~self._used.any(1))
        self._used &= ~lost[:, None]
        direction = -self._times_inverse_hessian()
        # Rounding may turn it uphill; then the memory has nothing more to say.
        size = direction.norm(dim=1) * self._gradient.norm(dim=1)
        self._used &= (_dot(direction, self._gradient) < -1e-6 * size)[:, None]
        fresh = ~self._used.any(1)
        first = self.first_step / self._gradient.abs().mean(1).clamp(min=1e-30)
        direction = torch.where(fresh[:, None], -first[:, None] * self._gradient, direction)
        again = moved | lost
        self._tries.copy_(torch.where(lost, 0.0, self._tries))
        torch.where(again[:, None], direction, self._direction, out=self._direction)
        self._length.copy_(torch.where(again, self.lr, self._length * shorter))
        self._slope.copy_(_dot(self._direction, self._gradient))

    def _times_inverse_hessian(self) -> torch.Tensor:
        """Return H g, what the memory makes of the gradient, (B, n)."""
        age = (self._newest[:, None] + 1 + self._slots) % self.history  # slots, oldest first

        def in_order(matrix: torch.Tensor) -> torch.Tensor:
            on = self._used[:, :, None] & self._used[:, None, :]
            rows = torch.where(on, matrix, 0.0).take_along_dim(age[:, :, None], 1)
            return rows.take_along_dim(age[:, None, :], 2)

        pairs = self._pairs.flatten(1, 2)
        unit = torch.eye(self.history, dtype=pairs.dtype, device=pairs.device)
        with_g = (pairs @ self._gradient[:, :, None]).unflatten(1, (2, -1))
        with_g = torch.where(self._used[:, None, :, None], with_g, 0.0)
        s_g, y_g = with_g.take_along_dim(age[:, None, :, None], 2).unbind(1)  # (B, m, 1)
        newest = self._yy.diagonal(dim1=1, dim2=2).gather(1, self._newest[:, None])
        gamma = torch.where(self._used.any(1, keepdim=True), 1 / newest, 1.0)[:, :, None]
        r = in_order(self._sy).triu(1) + unit  # 1 on the diagonal: the pairs' scale
        u = torch.linalg.solve_triangular(r, s_g, upper=True)
        inner = u + gamma * (in_order(self._yy) @ u - y_g)
        v = torch.linalg.solve_triangular(r.mT, inner, upper=False)
        slot = (self._slots - self._newest[:, None] - 1) % self.history  # and back again
        weights = torch.stack((v, -gamma * u), 1).take_along_dim(slot[:, None, :, None], 2)
        weights = torch.where(self._used[:, None, :, None], weights, 0.0)
        return gamma[:, 0] * self._gradient + (weights.flatten(1)[:, None] @ pairs)[:, 0]


def _cubic_minimum(
    value: torch.Tensor, slope: torch.Tensor, end_value: torch.Tensor, end_slope: torch.Tensor
) -> torch.Tensor:
    """Return where, as a share of the step, the cubic through both ends is lowest; 0.1 to 0.5."""
    bend = slope + end_slope - 3 * (end_value - value)
    root = (bend.square() - slope * end_slope).clamp(min=0).sqrt()
    share = 1 - (end_slope + root - bend) / (end_slope - slope + 2 * root)
    return torch.where(share.isfinite(), share, 0.1).clamp(0.1, 0.5)


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum(1)
