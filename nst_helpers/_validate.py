"""Every check of an argument, once: each names the argument, what it must be, and what came."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import torch


def positive_int(name: str, value: Any, what: str = "a whole number") -> int:
    """Return ``value`` if it is a whole number, 1 or more."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be {what}, 1 or more; got {value!r}")
    return int(value)


def positive_number(name: str, value: Any) -> float:
    """Return ``value`` if it is a finite number above 0."""
    if not (_is_finite_number(value) and value > 0):
        raise ValueError(f"{name} must be a number > 0; got {value!r}")
    return float(value)


def number_at_least(name: str, value: Any, least: float) -> float:
    """Return ``value`` if it is a finite number of at least ``least``."""
    if not (_is_finite_number(value) and value >= least):
        raise ValueError(f"{name} must be a number >= {least:g}; got {value!r}")
    return float(value)


def number_between(name: str, value: Any, least: float, most: float) -> float:
    """Return ``value`` if it is a number from ``least`` to ``most``."""
    if not (_is_finite_number(value) and least <= value <= most):
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}; got {value!r}")
    return float(value)


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    return value


def image(name: str, value: Any, what: str = "an image (B, 3, H, W)") -> torch.Tensor:
    """Return ``value`` if it is a tensor (B, 3, H, W)."""
    if not torch.is_tensor(value) or value.dim() != 4 or value.shape[1] != 3:
        got = tuple(value.shape) if torch.is_tensor(value) else repr(value)
        raise ValueError(f"{name} must be {what}; got {got}")
    return value


def _is_finite_number(value: Any) -> bool:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
