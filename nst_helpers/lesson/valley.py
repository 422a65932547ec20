"""A narrow valley in two dimensions: gradient descent zigzags, L-BFGS goes along it."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure

from nst_helpers import _validate
from nst_helpers.plots import FONT, TITLE

__all__ = ["draw_valley", "valley", "walk"]

START = (-4.2, 0.2)
STEEP, FLAT = 25.0, 1.0  # second derivatives across the valley and along it
TURN = math.radians(25)
RATE = 1.85 / STEEP  # longer than 2 / STEEP, and every step would end higher up


def valley(point: torch.Tensor) -> torch.Tensor:
    """Return the height of a narrow straight valley, 0 at its lowest point, (0, 0).

    Parameters
    ----------
    point : torch.Tensor
        (..., 2).
    """
    x, y = point[..., 0], point[..., 1]
    along, across = math.cos(TURN) * x + math.sin(TURN) * y, math.cos(TURN) * y - math.sin(TURN) * x
    return 0.5 * (FLAT * along**2 + STEEP * across**2)


def walk(method: str, evaluations: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Walk down the valley from the same start.

    Parameters
    ----------
    method : {"gradient descent", "L-BFGS"}
        With a learning rate just below the largest possible one, or torch's own.
    evaluations : int
        Of the height and its gradient.

    Returns
    -------
    tuple of torch.Tensor
        The points where it looked, (evaluations, 2), and their heights, (evaluations,).
    """
    _validate.one_of("method", method, ("gradient descent", "L-BFGS"))
    count = _validate.positive_int("evaluations", evaluations)
    point = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    points: list[torch.Tensor] = []
    heights: list[torch.Tensor] = []

    def look() -> torch.Tensor:
        point.grad = None
        height = valley(point)
        height.backward()
        points.append(point.detach().clone())
        heights.append(height.detach())
        return height

    optimizer: torch.optim.Optimizer = torch.optim.SGD([point], lr=RATE)
    if method == "L-BFGS":
        optimizer = torch.optim.LBFGS([point], lr=1, max_iter=count, line_search_fn="strong_wolfe")
    while len(points) < count:
        optimizer.step(look)  # type: ignore[arg-type]
    return torch.stack(points[:count]), torch.stack(heights[:count])


def draw_valley(evaluations: int = 25) -> Figure:
    """Return a figure of both walks, from above and by height.

    Parameters
    ----------
    evaluations : int
        Of each.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    above, side = figure.subplots(1, 2, width_ratios=(1.7, 1))
    x, y = torch.meshgrid(torch.linspace(-5, 2, 200), torch.linspace(-3, 2.4, 160), indexing="xy")
    levels = [4.0**k for k in range(-3, 5)]
    ground = valley(torch.stack((x, y), -1)).numpy()
    above.contour(x.numpy(), y.numpy(), ground, levels, colors="#bbbbbb", linewidths=1)
    for method, colour in (("gradient descent", "#CC79A7"), ("L-BFGS", "#000000")):
        points, heights = walk(method, evaluations)
        above.plot(*points.T.numpy(), "o-", color=colour, label=method, markersize=5, linewidth=1.6)
        side.semilogy(heights.clamp(min=1e-12).numpy(), "o-", color=colour, markersize=5)
    above.plot(0, 0, "*", color="#009E73", markersize=18, zorder=5)
    above.plot(*START, "o", color="white", markeredgecolor="black", markersize=9, zorder=5)
    above.annotate("start", START, (-4.5, 0.75), fontsize=TITLE)
    above.annotate("lowest point", (0, 0), (0.2, -0.55), fontsize=TITLE)
    above.set(xlim=(-5.4, 2.2), ylim=(-3.1, 1.5))
    above.set(xticks=[], yticks=[], aspect="equal")
    above.set_title("from above: lines of equal height", fontsize=TITLE)
    above.legend(fontsize=TITLE, loc="lower right", frameon=False)
    side.set_title("height, the loss", fontsize=TITLE)
    side.set_xlabel("step", fontsize=TITLE)
    side.tick_params(labelsize=FONT)
    side.grid(alpha=0.3)
    side.set_ylim(1e-9, 200)
    return figure
