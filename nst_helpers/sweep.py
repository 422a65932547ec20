"""Many runs, one knob: the alpha/beta sweep of Gatys et al. 2016, Fig. 4."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from nst_helpers.features import Features
from nst_helpers.images import noise_like
from nst_helpers.losses import StyleTransferLoss
from nst_helpers.optimize import Progress, Result, optimize

__all__ = ["alpha_beta_sweep"]


def alpha_beta_sweep(
    net: Features,
    content: torch.Tensor,
    style: torch.Tensor,
    ratios: Iterable[float] = (1e-4, 1e-3, 1e-2, 1e-1),
    *,
    steps: int = 300,
    start: torch.Tensor | None = None,
    seed: int = 0,
    optimizer: str = "lbfgs",
    lr: float | None = None,
    callback: Callable[[int, Progress], object] | None = None,
    **loss_options: Any,
) -> list[Result]:
    """Transfer the same style with one ratio alpha/beta after the other.

    Parameters
    ----------
    net, content, style
        As for ``StyleTransferLoss``, which also takes ``loss_options``.
    ratios : iterable of float
        alpha/beta; beta is 1.
    steps, optimizer, lr
        As for ``optimize``.
    start : torch.Tensor, optional
        Where every run starts; white noise of ``seed`` by default.
    callback : callable, optional
        Called after each step with the run's number, from 0, and its ``Progress``.

    Returns
    -------
    list of Result
        In the order of ``ratios``. Ctrl-C ends the sweep with the results so far.
    """
    start = noise_like(content, seed) if start is None else start
    results = []
    for run, ratio in enumerate(ratios):
        each = None if callback is None else lambda progress, run=run: callback(run, progress)
        try:
            loss = StyleTransferLoss(net, content, style, alpha=ratio, beta=1.0, **loss_options)
            result = optimize(loss, start, steps=steps, optimizer=optimizer, lr=lr, callback=each)
        except KeyboardInterrupt:  # before this run's first step
            if not results:
                raise
            break
        results.append(result)
        if result.stopped in ("interrupted", "callback"):
            break
    return results
