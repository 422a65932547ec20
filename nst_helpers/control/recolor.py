"""Whose colours a transfer has, as one choice: what is done before it, and what after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args, overload

import torch
import torch.nn.functional as F

from nst_helpers import _validate
from nst_helpers.control.colors import luminance, match_colors, match_luminance, restore_colors

__all__ = ["Colors", "recolored"]

Colors = Literal["style", "keep", "match", "luminance"]
Mask: TypeAlias = torch.Tensor | None
Finish: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


@overload
def recolored(
    content: torch.Tensor,
    style: torch.Tensor,
    mode: Colors = ...,
    *,
    content_mask: Mask = ...,
    style_mask: Mask = ...,
) -> tuple[torch.Tensor, torch.Tensor, Finish]: ...


@overload
def recolored(
    content: torch.Tensor,
    style: Sequence[torch.Tensor],
    mode: Colors = ...,
    *,
    content_mask: Mask = ...,
    style_mask: Sequence[Mask] | None = ...,
) -> tuple[torch.Tensor, list[torch.Tensor], Finish]: ...


def recolored(
    content: torch.Tensor,
    style: torch.Tensor | Sequence[torch.Tensor],
    mode: Colors = "style",
    *,
    content_mask: torch.Tensor | None = None,
    style_mask: Any = None,
) -> tuple[torch.Tensor, Any, Finish]:
    """Return content and style as the transfer is to see them, and what to do with its pictures.

    Parameters
    ----------
    content : torch.Tensor
        (B, 3, H, W) in [0, 1].
    style : torch.Tensor, or list of torch.Tensor
        (B or 1, 3, any height, any width) in [0, 1]; of a list, each is treated by itself.
    mode : {"style", "keep", "match", "luminance"}
        See Notes.
    content_mask, style_mask : torch.Tensor, optional
        (B or 1, 1, H, W), as ``load_alpha`` returns them: pixels whose colours count. For a list
        of styles, a list.

    Returns
    -------
    content : torch.Tensor
        As it was, or grey.
    style : torch.Tensor, or list of torch.Tensor
        As it was, in the content's colours, or grey.
    finish : callable
        Takes an image (B, 3, any height, any width) of the transfer, and returns it as it is to be
        shown; at any step.

    Raises
    ------
    ValueError
        If there is no such mode, something is not an image, or a mask leaves no pixel.

    Notes
    -----
    ===========  ===========================  ====================================
    mode         before                       after
    ===========  ===========================  ====================================
    "style"      nothing                      nothing
    "keep"       nothing                      ``restore_colors``
    "match"      ``match_colors`` of style    nothing
    "luminance"  both grey, equally bright    ``restore_colors``
    ===========  ===========================  ====================================
    """
    _validate.one_of("colors", mode, get_args(Colors))
    _validate.image("content", content)
    is_one = isinstance(style, torch.Tensor)
    styles = [style] if is_one else _validate.listed("style", style, "images (1, 3, H, W)")
    masks = [None] * len(styles) if style_mask is None else [style_mask] if is_one else style_mask
    seen, finish = content, _restore_from(content) if mode in ("keep", "luminance") else _as_it_is
    if mode == "luminance":
        seen = luminance(content).expand_as(content)
    each = [
        _recolored(content, _validate.image("style", one), mode, content_mask, mask)
        for one, mask in zip(styles, masks, strict=True)
    ]
    return seen, each[0] if is_one else each, finish


def _recolored(
    content: torch.Tensor, style: torch.Tensor, mode: Colors, content_mask: Mask, style_mask: Mask
) -> torch.Tensor:
    """Return a style as the transfer is to see it."""
    if mode == "match":
        return match_colors(style, content, image_mask=style_mask, reference_mask=content_mask)
    if mode == "luminance":
        greys = luminance(style), luminance(content)
        grey = match_luminance(*greys, mask=style_mask, reference_mask=content_mask)
        return grey.clamp(0, 1).expand(-1, 3, -1, -1)
    return style


def _as_it_is(image: torch.Tensor) -> torch.Tensor:
    return image


def _restore_from(content: torch.Tensor) -> Finish:
    def restore(image: torch.Tensor) -> torch.Tensor:
        size = image.shape[2:]  # a smaller one of a pyramid, too
        colors = content
        if content.shape[2:] != size:
            colors = F.interpolate(content, size, mode="bilinear", antialias=True)
        return restore_colors(image.clamp(0, 1), colors.to(image))

    return restore
