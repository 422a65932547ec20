"""Every check of an argument, once: each names the argument, what it must be, and what came."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, cast

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


def same_batch(images: torch.Tensor, targets: torch.Tensor) -> None:
    """Raise unless there is one target for all images (or their feature maps), or one for each."""
    if targets.shape[0] not in (1, images.shape[0]):
        raise ValueError(
            f"{targets.shape[0]} targets for {images.shape[0]} images: give one for all, or one "
            "for each"
        )


def weight(
    name: str, value: float | Sequence[float] | torch.Tensor, device: torch.device
) -> float | torch.Tensor:
    """Return a number >= 0, or several as a tensor on the device."""
    try:
        values = torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be a number >= 0; got {value!r}") from None
    if values.dim() > 1 or not (values.isfinite().all() and (values >= 0).all()):
        raise ValueError(f"{name} must be a number >= 0; got {value!r}")
    return values.to(device) if values.dim() else float(cast(float, value))


def weights_by_name(
    argument: str, weights: Mapping[str, float] | Iterable[float] | None, names: Sequence[str]
) -> dict[str, float]:
    """Return a number >= 0 for each name: as a mapping or a sequence gives them; None: all equal.

    Names that a mapping leaves out get 0.
    """
    if weights is None:
        return dict.fromkeys(names, 1 / max(1, len(names)))
    if not isinstance(weights, Mapping):
        values = list(weights)
        if len(values) != len(names):
            raise ValueError(f"{argument} must be {len(names)} numbers; got {len(values)}")
        weights = dict(zip(names, values, strict=True))
    if unknown := set(weights) - set(names):
        raise ValueError(
            f"{argument} must name some of {', '.join(names)}; got {', '.join(sorted(unknown))}"
        )
    return {
        name: number_at_least(f"the weight of {name}", weights.get(name, 0.0), 0) for name in names
    }


def names(value: Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple; a single one may come as it is."""
    return (value,) if isinstance(value, str) else tuple(value)


def _is_finite_number(value: Any) -> bool:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
