"""Regions of a picture: from a picture whose colours are the regions, or from an array.

*Masks* are a tensor (B or 1, R, H, W) in [0, 1]: how much of a pixel is in each of R regions. A
picture of masks is painted in flat colours, at most eight, one for each region. Pixels between two
colours, which drawing programs leave along edges, belong to both in part; what JPEG adds is taken
off. Two pictures of masks, for content and style, have the same colours: equal colour, same region.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F

from nst_helpers import _validate
from nst_helpers.control.flat_colors import MAX_REGIONS, are_same, flat_colors, shares_of_colors
from nst_helpers.images import load_image

__all__ = [
    "load_mask_pair",
    "load_masks",
    "mask_colors",
    "resize_masks",
    "validate_masks",
    "validate_partners",
]

Picture: TypeAlias = str | os.PathLike[str] | bytes | memoryview

SHAPE_TOLERANCE = 0.02  # of the ratio of sides: sizes that were rounded


def load_masks(
    source: Any,
    size: int | Sequence[int] | None = None,
    regions: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the masks of a picture or of an array.

    Parameters
    ----------
    source : path, bytes, torch.Tensor or array
        - A picture whose flat colours (or greys) are the regions, dark before bright.
        - (B or 1, R, H, W) in [0, 1], or bool: masks as they are.
        - (H, W) in [0, 1], or bool: the mask of one region.
        - (H, W) of whole numbers: labels; each number is a region, in rising order.
    size : int or (int, int), optional
        Length of the shorter side, or (height, width). The source's own by default.
    regions : torch.Tensor, optional
        (R, 3) RGB in [0, 1]: the colours of a picture's regions, in order, as ``mask_colors``
        returns those of another picture. By default those that are found.

    Returns
    -------
    torch.Tensor
        (B or 1, R, H, W) float32 in [0, 1]. Those of a picture or of labels add up to 1.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a picture of flat colours, there are more than 8 regions, a region of
        ``regions`` is not in it, or an array is none of the above.
    """
    if not isinstance(source, str | os.PathLike | bytes | memoryview):
        if regions is not None:
            raise ValueError("regions are colours of a picture; an array has its own regions")
        masks = _from_array(source)
        return masks if size is None else _resized(masks, _sides(size, masks.shape))
    image = load_image(source)
    sides = _sides(image.shape[2:] if size is None else size, image.shape)
    # A photograph's size is seconds of work: twice the size asked for tells the edges as well.
    image = F.avg_pool2d(image, max(1, min(image.shape[2:]) // (2 * min(sides))), ceil_mode=True)
    palette = flat_colors(image) if regions is None else _colors(regions)
    masks = _resized(shares_of_colors(image, palette), sides)
    return masks if regions is None else validate_masks(masks, (1, 3, *sides), "the picture")


def mask_colors(source: Picture) -> torch.Tensor:
    """Return the colours of the regions of a picture of masks.

    Parameters
    ----------
    source : path or bytes
        As for ``load_image``.

    Returns
    -------
    torch.Tensor
        (R, 3) RGB in [0, 1], dark before bright.
    """
    return flat_colors(load_image(source))


def load_mask_pair(
    content: Picture, style: Picture, *, content_size: Any = None, style_size: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the masks of content and style, whose regions are partners by colour.

    Parameters
    ----------
    content, style : path or bytes
        Pictures of flat colours; equal colour, same region.
    content_size, style_size : int or (int, int), optional
        As for ``load_masks``.

    Returns
    -------
    content : torch.Tensor
        (1, R, H, W), with the regions in the order of its colours, dark before bright.
    style : torch.Tensor
        (1, R, H, W), with the regions in the same order.

    Raises
    ------
    ValueError
        If a region of one has no partner in the other, and as ``load_masks`` does.
    """
    colors, others = mask_colors(content), mask_colors(style)
    near = are_same(colors, others)  # (R, R')
    for name, palette, partners in (
        ("content", colors, near.sum(1)),
        ("style", others, near.sum(0)),
    ):
        alone = [_hex(color) for color, count in zip(palette, partners, strict=True) if count != 1]
        if alone:
            raise ValueError(
                f"a {name} region without a partner: {', '.join(alone)}. The content's mask has "
                f"{', '.join(map(_hex, colors))}, the style's {', '.join(map(_hex, others))}: "
                "paint regions that belong together in the same colour"
            )
    partner = others[near.int().argmax(1)]  # each in its own file's shade
    return load_masks(content, content_size, colors), load_masks(style, style_size, partner)


def validate_masks(
    masks: torch.Tensor, shape: Sequence[int], name: str = "content_mask"
) -> torch.Tensor:
    """Return masks at an image's size, if they are masks for it.

    Parameters
    ----------
    masks : torch.Tensor
        (B or 1, R, H, W) in [0, 1], 1 to 8 regions.
    shape : sequence of int
        The image's, (B, 3, H, W). Masks of another size are resized if their sides have the same
        ratio, to 2 %.
    name : str
        What to call them in messages.

    Returns
    -------
    torch.Tensor
        (B or 1, R, H, W) float32.

    Raises
    ------
    ValueError
        If shape, number or values are wrong, or a region is empty.
    """
    what = "masks (B or 1, R, H, W), as load_masks returns them"
    is_bool = isinstance(masks, torch.Tensor) and masks.dtype == torch.bool
    masks = _validate.tensor(name, masks.float() if is_bool else masks, what, "BRHW")
    count, regions, height, width = masks.shape
    if not 1 <= regions <= MAX_REGIONS:
        raise ValueError(f"{name} must have 1 to {MAX_REGIONS} regions; got {regions}")
    if count not in (1, shape[0]):
        raise ValueError(
            f"{name} is for {count} images, and there are {shape[0]}: give masks for all, or for "
            "each"
        )
    masks = masks.detach().cpu().float()
    if not masks.isfinite().all():
        raise ValueError(f"{name} has values that are not finite (NaN or infinity)")
    least, most = masks.min().item(), masks.max().item()
    if least < 0 or most > 1:
        raise ValueError(f"{name} must be in [0, 1]; got values from {least:g} to {most:g}")
    ratio = (width / height) / (shape[3] / shape[2])
    # Sides of few pixels are rounded by more.
    if abs(ratio - 1) > max(SHAPE_TOLERANCE, 1 / min(height, width, *shape[2:])):
        raise ValueError(
            f"{name} is {width} x {height} pixels (width x height) and the image {shape[3]} x "
            f"{shape[2]}: it must have the image's shape, at any size"
        )
    masks = _resized(masks, (shape[2], shape[3]))
    for i, region in (masks.sum((2, 3)) == 0).nonzero().tolist():
        where = f" for image {i}" if count > 1 else ""
        raise ValueError(f"region {region} of {name} (counted from 0) is empty{where}")
    return masks


def resize_masks(masks: torch.Tensor, scale: float) -> torch.Tensor:
    """Return masks, smaller or larger by a factor, at the size that ``resize_image`` gives.

    Parameters
    ----------
    masks : torch.Tensor
        (B, R, H, W).
    scale : float
        Of both sides.
    """
    height, width = (max(1, round(side * scale)) for side in masks.shape[2:])
    return _resized(masks, (height, width))


def validate_partners(content: torch.Tensor, style: torch.Tensor) -> None:
    """Raise ValueError unless each region of the content's masks has one in the style's.

    Parameters
    ----------
    content, style : torch.Tensor
        (B or 1, R, H, W), of any size.
    """
    painted, given = content.shape[1], style.shape[1]
    if painted != given:
        alone, mask = ("style", "style_mask") if given > painted else ("content", "content_mask")
        first, last = min(painted, given), max(painted, given) - 1
        numbers = f"region {first}" if first == last else f"regions {first} to {last}"
        raise ValueError(
            f"a {alone} region without a partner: {numbers} of {mask} (counted from 0); "
            f"content_mask has {painted} regions and style_mask {given}, being "
            f"{tuple(content.shape)} and {tuple(style.shape)}"
        )


# --- from arrays ---------------------------------------------------------------------------------


def _from_array(source: Any) -> torch.Tensor:
    try:
        values = torch.as_tensor(source)
    except (TypeError, ValueError, RuntimeError):
        raise _validate.wrong("masks", "a picture file, a tensor or an array", source) from None
    if values.dim() not in (2, 4) or not values.numel():
        raise _validate.wrong("masks", "(B or 1, R, H, W) or (H, W)", source)
    if values.dim() == 4:
        return validate_masks(values, values.shape, "the array")
    if values.dtype == torch.bool or values.is_floating_point():
        return validate_masks(values[None, None], (1, 3, *values.shape), "the array")
    labels: torch.Tensor = values.unique()
    if len(labels) > MAX_REGIONS:
        raise ValueError(
            f"labels must be at most {MAX_REGIONS} different whole numbers; got {len(labels)}. A "
            "soft mask is a float array in [0, 1]"
        )
    masks: torch.Tensor = (values == labels[:, None, None]).float()[None]
    return masks


def _colors(regions: torch.Tensor) -> torch.Tensor:
    """Return colours (R, 3) in [0, 1], on the CPU, if they are some."""
    _validate.tensor("regions", regions, "colours (R, 3), as mask_colors returns them", "R3")
    return regions.detach().cpu().float()


def _sides(size: Any, shape: Sequence[int]) -> tuple[int, int]:
    """Return height and width that ``size`` asks for, of masks of ``shape``."""
    if isinstance(size, Sequence) and not isinstance(size, str):
        if len(size) != 2:
            raise ValueError(f"size must be one number or (height, width); got {size!r}")
        height, width = (_validate.positive_int("each of size", side) for side in size)
        return height, width
    shorter = _validate.positive_int("size", size, "a whole number of pixels")
    scale = shorter / min(shape[2:])
    height, width = (max(shorter, round(side * scale)) for side in shape[2:])
    return height, width


def _resized(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    # Bilinear: weights that add up to 1 and are not negative keep masks masks.
    if masks.shape[2:] == size:
        return masks
    return F.interpolate(masks, size, mode="bilinear", antialias=True).clamp(0, 1)


def _hex(color: torch.Tensor) -> str:
    return "#" + "".join(f"{round(value * 255):02x}" for value in color.tolist())
