"""How the answer to an exercise is judged: right, not yet (with a hint), or not tried yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["verdict"]


def verdict(
    function: Callable[..., object],
    arguments: tuple[Any, ...],
    expected: Tensor,
    mistakes: Mapping[str, Tensor],
) -> str:
    """Call ``function``, compare what it returns, and say the result in one line. Never raises.

    Parameters
    ----------
    function : callable
        Somebody's answer to an exercise.
    arguments : tuple
        What it is called with; of a tensor, a copy that requires a gradient.
    expected : Tensor
        What it should return, in shape and value, and attached to the graph.
    mistakes : mapping of str to Tensor
        A hint to what a function returns that deserves it.

    Returns
    -------
    str
        "Right: ...", "Not yet: ..." or "Not tried yet: ...".
    """
    name = getattr(function, "__name__", "your function")
    inputs = [a.clone().requires_grad_() if torch.is_tensor(a) else a for a in arguments]
    try:
        answer = function(*inputs)
    except NotImplementedError:
        return f"Not tried yet: write {name}, and run this cell again. Or go on without."
    except Exception as error:  # reported, so that the notebook runs on
        return f"Not yet: {name} raises {type(error).__name__}: {error}"
    if not isinstance(answer, Tensor):
        return f"Not yet: {name} must return a tensor; it returned {type(answer).__name__}"
    if _is_close(answer, expected):
        if answer.requires_grad:
            return f"Right: {name} does the same as a slow loop over every number."
        return "Not yet: the numbers are right, but cut off from autograd: no detach, no item"
    for hint, value in mistakes.items():
        if _is_close(answer, value):
            return f"Not yet: {hint}"
    if answer.shape != expected.shape:
        return f"Not yet: expected shape {tuple(expected.shape)}; got {tuple(answer.shape)}"
    largest = (answer.detach() - expected).abs().max().item()
    return f"Not yet: the shape is right; one of the numbers is off by {largest:.3g}"


def _is_close(answer: Tensor, value: Tensor) -> bool:
    answer = answer.detach().to(value)
    return answer.shape == value.shape and torch.allclose(answer, value, rtol=1e-4, atol=1e-5)
