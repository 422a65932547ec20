"""Every check of an argument, once: each names the argument, what it must be, and what came."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch

LARGEST = 3.4e38  # about the largest of float32, in which everything is computed
LARGEST_INT = 2**63 - 1
MOST_VALUES = 2**36  # a tensor of more is one that was expanded by mistake
RANGE = (-0.5, 1.5)  # of an image: room for what bicubic resizing overshoots
UNCLIPPED = (-20.0, 20.0)  # what an optimiser makes of an image before it is clipped
IMAGE = "an image (B, 3, H, W)"  # what messages call them
MAPS = "feature maps (B, N, H, W)"
GRAM = "a Gram matrix (B, N, N)"
LAYERS = "names of layers, such as 'relu4_2'"


def shown(value: Any) -> str:
    """Return a value for a message, in less than a line or two."""
    shape, dtype = _attribute(value, "shape"), _attribute(value, "dtype")
    if isinstance(value, torch.Tensor):
        if shape is None:
            return "a nested tensor"
        layout = "sparse " if value.layout is not torch.strided else ""
        kind = layout + "meta " * value.is_meta + "quantised " * value.is_quantized
        if not kind and value.numel() <= 4 and value.dim() < 2:
            return repr(value.detach())
        return f"a {kind}tensor of shape {tuple(shape)}, {str(dtype).removeprefix('torch.')}"
    if isinstance(shape, tuple) and shape and dtype is not None:
        return f"an array of shape {shape}, {dtype}"
    try:
        # Where something lies in memory says nothing, and differs from run to run.
        text = re.sub(" at 0x[0-9a-fA-F]+(?=>)", "", " ".join(repr(value).split("\n")))
    except Exception:  # whatever somebody's own __repr__ does
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 160 else f"{text[:160]}..."


def wrong(name: str, requirement: str, value: Any, advice: str = "") -> ValueError:
    """Return the error of an argument: what it must be, and what came."""
    return ValueError(f"{name} must be {requirement}; got {shown(value)}{advice}")


def warn(message: str) -> None:
    """Warn whoever called the package, however deep in it the warning is."""
    frame, level = sys._getframe(1), 2
    ours = ("nst_helpers", "contextlib", "torch")  # decorators and modules stand between
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in ours:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # a nested tensor has no shape, and says so in many words
        return None


# --- numbers -------------------------------------------------------------------------------------


def positive_int(name: str, value: Any, what: str = "a whole number") -> int:
    """Return ``value`` if it is a whole number, 1 or more."""
    number = python_number(value)
    if isinstance(number, bool) or not isinstance(number, Integral) or int(number) < 1:
        raise wrong(name, f"{what}, 1 or more", value)
    if int(number) > LARGEST_INT:
        raise wrong(name, f"{what}, at most {LARGEST_INT}", value)
    return int(number)


def positive_ints(name: str, values: Any, what: str) -> list[int]:
    """Return a list or the like of whole numbers, each 1 or more."""
    return [positive_int(name, value, what) for value in listed(name, values, what)]


def positive_number(name: str, value: Any) -> float:
    """Return ``value`` if it is a finite number above 0."""
    return _number(name, value, "a number > 0", math.ulp(0.0))


def number_at_least(name: str, value: Any, least: float) -> float:
    """Return ``value`` if it is a finite number of at least ``least``."""
    return _number(name, value, f"a number >= {least:g}", least)


def number_between(name: str, value: Any, least: float, most: float) -> float:
    """Return ``value`` if it is a number from ``least`` to ``most``."""
    return _number(name, value, f"a number from {least:g} to {most:g}", least, most)


def _number(name: str, value: Any, what: str, least: float, most: float = LARGEST) -> float:
    number: Any = python_number(value)
    is_number = isinstance(number, Real) and not isinstance(number, bool)
    if not is_number or not least <= number:
        raise wrong(name, what, value)
    if number > most:
        raise wrong(
            name,
            what if most < LARGEST or number == math.inf else f"{what}, at most {most:g}",
            value,
        )
    return float(number)


def python_number(value: Any) -> Any:
    """Return Python's number for one of NumPy's, or for a tensor of one; else what came."""
    if _attribute(value, "ndim") != 0:
        return value
    try:
        return value.item()
    except Exception:  # a tensor without values
        return value


def weight(name: str, value: Any, device: torch.device) -> float | torch.Tensor:
    """Return a number >= 0, or several as a tensor on the device."""
    what = "a number >= 0"
    if not is_listed(value):
        return _number(name, value, what, 0)
    try:
        numbers = [_number(name, number, what, 0) for number in value]
    except ValueError:
        numbers = []
    if not numbers:
        raise wrong(name, f"{what}, or one for each image", value)
    return torch.tensor(numbers, dtype=torch.float32, device=device)


def weights_by_name(
    argument: str, weights: Mapping[str, float] | Iterable[float] | None, names: Sequence[str]
) -> dict[str, float]:
    """Return a number >= 0 for each name: as a mapping or a sequence gives them; None: all equal.

    Names that a mapping leaves out get 0.
    """
    if weights is None:
        return dict.fromkeys(names, 1 / max(1, len(names)))
    if not isinstance(weights, Mapping):
        values = listed(argument, weights, f"{len(names)} numbers, or a mapping of layers to them")
        if len(values) != len(names):
            raise ValueError(
                f"{argument} must be {len(names)} numbers; got {len(values)}: {shown(weights)}"
            )
        weights = dict(zip(names, values, strict=True))
    if unknown := [name for name in weights if name not in names]:
        got = ", ".join(sorted(name if isinstance(name, str) else shown(name) for name in unknown))
        raise ValueError(
            f"{argument} must name some of {', '.join(names) or 'no layer'}; got {got}"
        )
    return {
        name: number_at_least(f"{argument}: the weight of {name}", weights.get(name, 0.0), 0)
        for name in names
    }


def number_of_each(name: str, value: Any, count: int, each: str) -> tuple[float, ...]:
    """Return numbers >= 0, not all 0: one for each of ``count``, which messages call ``each``."""
    what = f"{count} numbers, one per {each}"
    given = listed(name, value, what)
    if len(given) != count:
        raise ValueError(f"{name} must be {what}; got {len(given)}: {shown(given)}")
    numbers = tuple(number_at_least(f"{name}[{i}]", number, 0) for i, number in enumerate(given))
    if not any(numbers):
        raise ValueError(f"{name} must not all be 0; got {numbers}")
    return numbers


# --- choices, lists and the like -----------------------------------------------------------------


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise wrong(name, f"one of {', '.join(choices)}", value)
    return value


def flag(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False."""
    value = python_number(value)
    if not isinstance(value, bool):
        raise wrong(name, "True or False", value)
    return value


def instance(name: str, value: Any, kind: type | tuple[type, ...], what: str) -> Any:
    """Return ``value`` if it is of a kind that messages call ``what``."""
    if not isinstance(value, kind):
        raise wrong(name, what, value)
    return value


def function(name: str, value: Any, what: str, *, or_none: bool = False) -> Any:
    """Return ``value`` if it can be called and is no class."""
    if not (or_none and value is None) and (not callable(value) or isinstance(value, type)):
        raise wrong(name, what, value)
    return value


def listed(name: str, value: Any, what: str) -> list[Any]:
    """Return what a list, generator or the like has in it; a text is none."""
    if not is_listed(value):
        raise wrong(name, what, value)
    return list(value)


def names(name: str, value: Any, what: str = "names") -> tuple[str, ...]:
    """Return names as a tuple, each of which is there once; a single one may come as it is."""
    value = tuple(value) if isinstance(value, Mapping) else value
    values = (value,) if isinstance(value, str) else listed(name, value, what)
    for text in values:
        if not isinstance(text, str):
            raise wrong(name, what, text if isinstance(value, Iterable) else value)
        if values.count(text) > 1:
            raise ValueError(
                f"{name} must name each only once; got {text!r} {values.count(text)} times"
            )
    return tuple(values)


def history(name: str, value: Any, terms: Iterable[str]) -> list[Mapping[str, float]]:
    """Return ``value`` if it is the record of a run: of each step, its number and loss terms."""
    what = "a Result, or its history: a list of dicts of numbers, each with its step"
    records = listed(name, value, what)
    for record in records:
        if not (isinstance(record, Mapping) and "step" in record):
            raise wrong(name, what, record)
        for term in ("step", *terms):
            number = python_number(record.get(term, 0))
            if not isinstance(number, int | float) or LARGEST < abs(number) < math.inf:
                raise wrong(f"{name}: {term}", "a number", number)
    return records


def is_listed(value: Any) -> bool:
    """Return whether a value is a list, generator or the like; a text or mapping is none."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return False
    return _attribute(value, "ndim") in (None, 1) and not isinstance(value, type)


# --- tensors -------------------------------------------------------------------------------------


def tensor(name: str, value: Any, what: str, shape: str | None = None) -> torch.Tensor:
    """Return ``value`` if it is an ordinary tensor of floats; ``shape`` as in "N3HW", if given.

    A letter stands for any size above 0. Its values are not looked at: nothing waits for a device.
    """
    if not isinstance(value, torch.Tensor):
        raise wrong(name, what, value)
    ordinary = value.layout is torch.strided and not (value.is_meta or value.is_quantized)
    if not ordinary or value.is_nested:
        raise wrong(name, f"{what}, an ordinary tensor with values", value)
    sides = value.shape
    if shape is not None and (
        len(sides) != len(shape)
        or any(str(side) != c for side, c in zip(sides, shape, strict=True) if c.isdigit())
    ):
        raise wrong(name, what, value)
    if not value.numel():
        raise wrong(name, f"{what} that is not empty", value)
    if not value.is_floating_point():
        full = {torch.uint8: 255, torch.uint16: 65535}.get(value.dtype)
        advice = f": for an image, divide by {full}" if full else ": turn it into floats"
        raise wrong(name, f"{what} of floats", value, advice)
    if value.numel() > MOST_VALUES:
        raise wrong(name, f"{what} that fits into memory", value)
    return value


def image(
    name: str, value: Any, what: str = IMAGE, bounds: tuple[float, float] = RANGE
) -> torch.Tensor:
    """Return ``value`` in float32 if it is a tensor (B, 3, H, W) with values in [0, 1], nearly."""
    checked = tensor(name, value, what, "B3HW")
    finite_within(name, checked, bounds)
    return checked.float()


def finite_within(name: str, value: torch.Tensor, bounds: tuple[float, float]) -> None:
    """Raise unless an image's values are finite and within bounds; waits for its device."""
    one_of_each = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.stride())
    low, high = (x.item() for x in value.detach()[one_of_each].aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} has values that are not finite (NaN or infinity): {shown(value)}")
    if low < bounds[0] or high > bounds[1]:
        full = next((full for full in (255, 65535) if low >= -1 and 2 < high <= 1.05 * full), None)
        advice = f"divide by {full}" if full else "undo what normalised it (mean and std, or -1..1)"
        raise ValueError(
            f"{name} must have values in [0, 1]; got {low:.4g} to {high:.4g}: {advice}"
        )


def shape_of_images(name: str, value: Any) -> tuple[int, ...]:
    """Return ``value`` as (B, 3, H, W)."""
    what = "the shape of images, (B, 3, H, W)"
    sides = positive_ints(name, value, what)
    if len(sides) != 4 or sides[1] != 3:
        raise wrong(name, what, value)
    return tuple(sides)


def same_batch(images: torch.Tensor, targets: torch.Tensor, what: str = "targets") -> None:
    """Raise unless there is one target for all images (or their feature maps), or one for each."""
    if targets.shape[0] not in (1, images.shape[0]):
        raise ValueError(
            f"{targets.shape[0]} {what} for {images.shape[0]} images: give one for all, or one "
            "for each"
        )


def same_device(name: str, value: torch.Tensor, device: torch.device) -> None:
    """Raise unless a tensor is on a device."""
    if value.device != device:
        raise ValueError(f"{name} must be on {device}; got {shown(value)} on {value.device}")


def maps_and_target(features: Any, target: Any, *, or_gram: bool = False) -> None:
    """Raise unless these are feature maps (B, N, H, W) and what they are compared with."""
    tensor("features", features, MAPS, "BNHW")
    if or_gram and isinstance(target, torch.Tensor) and target.dim() == 3:
        tensor("target", target, GRAM, "BNN")
    else:
        tensor("target", target, f"{MAPS}, or {GRAM}" if or_gram else MAPS, "BNHW")
    same_batch(features, target)
    same_device("target", target, features.device)


def same_positions(layer: str, image: Sequence[int], target: Sequence[int], what: str) -> None:
    """Raise unless the maps (H', W') of an image and of what it is compared with are as large."""
    if tuple(image) != tuple(target):
        raise ValueError(
            f"at {layer} the image has {image[0]} x {image[1]} positions and {what} "
            f"{target[0]} x {target[1]}: they must not differ in shape"
        )
