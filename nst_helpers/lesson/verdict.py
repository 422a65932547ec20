"""How the answer to an exercise is judged: right, not yet (with a hint), or not tried yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from nst_helpers.language import N_, _

__all__ = ["attempt", "name_of", "not_yet", "verdict"]

RIGHT, NOT_YET = N_("Right: {}"), N_("Not yet: {}")
NOT_TRIED = N_("Not tried yet: write {name}, and run this cell again. Or go on without.")
RAISES = N_("{name} raises {error}")
YOURS = N_("your function")


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
        A hint, marked for translation, to what a function returns that deserves it.

    Returns
    -------
    str
        "Right: ...", "Not yet: ..." or "Not tried yet: ...", in the language in force.
    """
    name = name_of(function)
    inputs = [a.clone().requires_grad_() if torch.is_tensor(a) else a for a in arguments]
    answer, failure = attempt(function, inputs)
    if failure:
        return failure
    if not isinstance(answer, Tensor):
        hint = N_("{name} must return a tensor; it returned {kind}")
        return not_yet(hint, name=name, kind=type(answer).__name__)
    if _is_close(answer, expected):
        if answer.requires_grad:
            same = _("{name} does the same as a slow loop over every number.")
            return _(RIGHT).format(same.format(name=name))
        return not_yet(N_("the numbers are right, but cut off from autograd: no detach, no item"))
    for hint, value in mistakes.items():
        if _is_close(answer, value):
            return not_yet(hint)
    if answer.shape != expected.shape:
        hint, shapes = N_("expected shape {}; got {}"), (expected.shape, answer.shape)
        return not_yet(hint, *map(tuple, shapes))
    largest = (answer.detach() - expected).abs().max().item()
    return not_yet(N_("the shape is right; one of the numbers is off by {:.3g}"), largest)


def name_of(function: Callable[..., object]) -> str:
    """Return what to call somebody's function.

    Parameters
    ----------
    function : callable
    """
    name: str = getattr(function, "__name__", _(YOURS))
    return name


def attempt(function: Callable[..., object], inputs: Iterable[Any]) -> tuple[object, str]:
    """Call somebody's function; return its answer, and in one line what went wrong, if it did.

    Parameters
    ----------
    function : callable
    inputs : iterable
        What it is called with.

    Returns
    -------
    tuple of object and str
        It never raises, so that the notebook runs on.
    """
    name = name_of(function)
    try:
        return function(*inputs), ""
    except NotImplementedError:
        return None, _(NOT_TRIED).format(name=name)
    except Exception as error:
        return None, not_yet(RAISES, name=name, error=f"{type(error).__name__}: {error}")


def not_yet(hint: str, *values: object, **named: object) -> str:
    """Return "Not yet: " and a hint, in the language in force.

    Parameters
    ----------
    hint : str
        Marked for translation.
    *values, **named : object
        What is put in for its braces; a hint without any stays as it is.
    """
    hint = _(hint)
    return _(NOT_YET).format(hint.format(*values, **named) if values or named else hint)


def _is_close(answer: Tensor, value: Tensor) -> bool:
    answer = answer.detach().to(value)
    return answer.shape == value.shape and torch.allclose(answer, value, rtol=1e-4, atol=1e-5)
