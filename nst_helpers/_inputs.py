"""What the loss of a command compares: pictures, cut-outs and regions, in the colours asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nst_helpers._console import about, say
from nst_helpers._option_checks import style_size
from nst_helpers._outputs import as_it_is
from nst_helpers.control.colors import luminance
from nst_helpers.control.masks import load_mask_pair, load_masks, mask_colors, validate_masks
from nst_helpers.control.recolor import recolored
from nst_helpers.images import cover_image, load_alpha, load_image, noise_like

__all__ = ["Inputs", "Style", "load_inputs", "load_styles", "make_start"]


@dataclass
class Style:
    """A style as its file is, and how opaque it is."""

    file: str
    image: torch.Tensor
    alpha: torch.Tensor | None


@dataclass
class Inputs:
    """What the loss compares, and what becomes of its image.

    ``pictures`` are content and styles as their files are, ``arguments`` those of the loss.
    """

    pictures: dict[str, torch.Tensor]
    arguments: dict[str, Any]
    alpha: torch.Tensor | None
    finish: Callable[[torch.Tensor], torch.Tensor]

    @property
    def like(self) -> torch.Tensor:
        """An image of the size that the result has, with which a run may start."""
        content: torch.Tensor | None = self.arguments.get("content")
        style: list[torch.Tensor] = self.arguments.get("style", [])
        return style[0] if content is None else content


def load_styles(args: argparse.Namespace) -> list[Style]:
    """Return the styles of a command, if it has some."""
    styles = []
    for file in vars(args).get("style", ()):
        with about("style", file):
            styles.append(Style(file, *_load(file, style_size(args))))
    return styles


def load_inputs(args: argparse.Namespace, content: str | None, styles: Sequence[Style]) -> Inputs:
    """Return what the loss of a command compares.

    Parameters
    ----------
    args : argparse.Namespace
        The command's options.
    content : str or None
        A file or a sample's name.
    styles : sequence of Style
    """
    titles = ["style"] if len(styles) == 1 else [f"style {i + 1}" for i in range(len(styles))]
    pictures = {title: style.image for title, style in zip(titles, styles, strict=True)}
    images = [style.image for style in styles]
    if content is None:
        return Inputs(pictures, {"style": images}, None, as_it_is)
    with about("content", content):
        image, alpha = _load(content, args.size)
    pictures = {"content": image} | pictures
    if not styles:
        return Inputs(pictures, {"content": image}, alpha, as_it_is)
    arguments = _masks(args, image, alpha, styles)
    with about("--colors", args.colors):
        seen, images, finish = recolored(
            image,
            images,
            args.colors,
            content_mask=alpha,
            style_mask=[style.alpha for style in styles],
        )
    return Inputs(pictures, {"content": seen, "style": images, **arguments}, alpha, finish)


def make_start(args: argparse.Namespace, like: torch.Tensor) -> torch.Tensor:
    """Return where to start a run of images like that."""
    if args.init == "noise":
        return noise_like(like, args.seed)
    if args.init == "content":
        return like
    with about("--init", args.init):
        start = cover_image(load_image(args.init), *like.shape[2:])
    is_grey = vars(args).get("colors") == "luminance"
    return luminance(start).expand_as(start) if is_grey else start


def _load(file: str, size: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return a picture's image, and its alpha if it is a cut-out."""
    image, alpha = load_image(file, size), load_alpha(file, size)
    return image, alpha if bool((alpha < 1).any()) else None


# --- regions -------------------------------------------------------------------------------------


def _masks(
    args: argparse.Namespace,
    content: torch.Tensor,
    alpha: torch.Tensor | None,
    styles: Sequence[Style],
) -> dict[str, Any]:
    """Return the masks of the loss: regions, and what is transparent counts nowhere."""
    cut = [style for style in styles if style.alpha is not None]
    if args.content_mask is None:
        masks: dict[str, Any] = {} if alpha is None else {"content_mask": alpha}
        if cut:
            masks["style_mask"] = [_times(torch.ones(1, 1, 1, 1), style) for style in styles]
        return masks
    if args.style_mask:
        regions, style_regions = _partners(args, content, styles)
    else:
        regions = _regions(args, content, styles)
        style_regions = [torch.ones(1, regions.shape[1], 1, 1)] * len(styles)
    masks = {"content_mask": regions if alpha is None else regions * alpha}
    if args.style_mask or (cut and len(styles) == 1):
        each = zip(style_regions, styles, strict=True)
        masks["style_mask"] = [_times(one, style) for one, style in each]
    elif cut:
        names = ", ".join(style.file for style in cut)
        text = f"{names}: what is transparent counts as white, where each region has its own style"
        say(f"{args.command}: {text}", error=True)
    return masks


def _times(regions: torch.Tensor, style: Style) -> torch.Tensor:
    """Return regions (1, R, H or 1, W or 1) of what is opaque of a style."""
    height, width = style.image.shape[2:]
    regions = regions.expand(-1, -1, height, width)
    return regions if style.alpha is None else regions * style.alpha


def _partners(
    args: argparse.Namespace, content: torch.Tensor, styles: Sequence[Style]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the regions of content and styles, which are partners by colour, and name them."""
    regions, each = content.new_zeros(0), []
    for file, style in zip(args.style_mask, styles, strict=True):
        with about("--content-mask and --style-mask", ""):
            regions, partner = load_mask_pair(
                args.content_mask, file, content_size=args.size, style_size=style_size(args)
            )
            regions = validate_masks(regions, content.shape, args.content_mask)
            each.append(validate_masks(partner, style.image.shape, file))
    files = " and ".join(dict.fromkeys(args.style_mask))
    for color in _names(args.content_mask):
        say(f"{args.command}: {color} has the style where {files} is of that colour")
    return regions, each


def _regions(
    args: argparse.Namespace, content: torch.Tensor, styles: Sequence[Style]
) -> torch.Tensor:
    """Return the regions of the content, and say which has which style."""
    with about("--content-mask", args.content_mask):
        colors = _names(args.content_mask)
        if len(styles) not in (1, len(colors)):
            raise ValueError(
                f"{len(colors)} colours ({', '.join(colors)}) for {len(styles)} styles: there must "
                "be a colour for each style, or a --style-mask for each"
            )
        masks = load_masks(args.content_mask, args.size)
        masks = validate_masks(masks, content.shape, args.content_mask)
    files = [style.file for style in styles] * (len(colors) if len(styles) == 1 else 1)
    pairs = ", ".join(f"{color} {file}" for color, file in zip(colors, files, strict=True))
    say(f"{args.command}: colours of {args.content_mask}, and their styles: {pairs}")
    return masks


def _names(file: str) -> list[str]:
    """Return the colours of a picture of masks as people write them, dark before bright."""
    levels = mask_colors(file).mul(255).round().to(torch.uint8)
    return [f"#{bytes(color).hex()}" for color in levels.tolist()]
