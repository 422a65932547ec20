"""What people have for an image, to an image: Pillow pictures and arrays are taken as well."""

from __future__ import annotations

import os
from typing import Any

import torch

from nst_helpers import _validate
from nst_helpers.images import to_image


def image(
    name: str,
    value: Any,
    what: str = _validate.IMAGE,
    bounds: tuple[float, float] = _validate.RANGE,
) -> torch.Tensor:
    """Return a tensor (B, 3, H, W) as it is, in float32; a Pillow picture or an array converted."""
    if isinstance(value, str | bytes | os.PathLike):
        raise _validate.wrong(name, what, value, ": read a file with load_image first")
    is_array = hasattr(value, "__array_interface__") and getattr(value, "ndim", 2) >= 2
    if not isinstance(value, torch.Tensor) and is_array:
        try:
            value = to_image(value)
        except (TypeError, ValueError) as error:
            raise _validate.wrong(name, what, value, f": {error}") from error
    return _validate.image(name, value, what, bounds)


def images(
    name: str, value: Any, bounds: tuple[float, float] = _validate.RANGE
) -> list[torch.Tensor]:
    """Return one image, or each of a list, converted."""
    if not _validate.is_listed(value):
        return [image(name, value, f"{_validate.IMAGE}, or a list of them", bounds)]
    values = [image(f"{name}[{i}]", each, bounds=bounds) for i, each in enumerate(value)]
    if not values:
        raise _validate.wrong(name, f"{_validate.IMAGE}, or a list of them", value)
    return values


def each(name: str, value: Any, bounds: tuple[float, float]) -> list[torch.Tensor]:
    """Return the images (1, 3, H, W) of a list, of a batch, or of one picture."""
    if isinstance(value, torch.Tensor) and value.dim() == 4:
        values = [*_validate.tensor(name, value, _validate.IMAGE, "B3HW")]
    elif hasattr(value, "__array_interface__") and getattr(value, "ndim", 3) in (2, 3):
        values = [value]  # an array of one, or one of Pillow's
    elif isinstance(value, torch.Tensor):
        values = [value]
    else:
        is_batch = getattr(value, "ndim", 0) == 4
        values = [*value] if is_batch else _validate.listed(name, value, "a list of images")
    what = "one RGB image, (1, 3, H, W) or (3, H, W)"
    images = []
    for i, one in enumerate(values):
        if isinstance(one, torch.Tensor) and one.dim() == 3:
            one = one[None]
        named = f"{name}[{i}]" if len(values) > 1 else name
        images.append(image(named, one, what, bounds))
        if len(images[-1]) > 1:
            raise _validate.wrong(named, what, one)
    return images
