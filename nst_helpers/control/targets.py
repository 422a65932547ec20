"""What the style loss matches: Gram matrices of one style or several, whole or by regions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import nn

from nst_helpers import _validate
from nst_helpers.control.blending import blend_grams, validate_style_weights
from nst_helpers.control.guidance import LayerMasks, guide
from nst_helpers.control.masks import resize_masks, validate_masks, validate_partners
from nst_helpers.engine.memory import STRIP_ROWS
from nst_helpers.engine.scales import region_numbers
from nst_helpers.images import resize_image

__all__ = ["StyleTargets", "StyleWeights", "weights_by_layer"]

StyleWeights: TypeAlias = Sequence[float] | Mapping[str, Sequence[float]]
Masks: TypeAlias = torch.Tensor | None
Maps: TypeAlias = Callable[[torch.Tensor], Iterable[tuple[str, torch.Tensor]]]
GramMatrix: TypeAlias = Callable[..., torch.Tensor]
MapSize: TypeAlias = Callable[[str, Sequence[int]], tuple[int, ...]]


class StyleTargets(nn.Module):
    """The styles' Gram matrices, and the masks of the content's regions, at each style layer.

    Parameters
    ----------
    images : list of torch.Tensor
        The styles, (B, 3, H, W) each.
    layers : sequence of str
        The style layers.
    shape : sequence of int, optional
        The content's, (B, 3, H, W).
    style_weights, styles_per_image, content_mask, style_mask, region_weights
        As for ``StyleTransferLoss``.

    Raises
    ------
    ValueError
        If styles, weights and masks do not fit each other.
    """

    def __init__(
        self,
        images: list[torch.Tensor],
        layers: Sequence[str],
        shape: Sequence[int] | None = None,
        style_weights: StyleWeights | None = None,
        styles_per_image: bool = False,
        content_mask: Masks = None,
        style_mask: Any = None,
        region_weights: Any = None,
    ) -> None:
        super().__init__()
        self.layers, self.images, self.quiet = tuple(layers), images if layers else [], False
        per_image = _validate.flag("styles_per_image", styles_per_image)
        per_image = per_image or (len(images) == 1 and images[0].shape[0] > 1)
        _validate_images(images, shape, per_image)
        self.content_mask, self.style_masks = _masks(
            images, shape, content_mask, style_mask, per_image
        )
        self.by_style = (
            self.content_mask is not None
            and self.style_masks[0].shape[1] < self.content_mask.shape[1]
        )
        self.region_weights = self._whole_or_weights(region_weights)
        self._blended = 0 if per_image or self.by_style else len(images)
        self._weights: dict[str, tuple[float, ...]] = {}
        if self._blended or style_weights is not None:
            self.set_weights(style_weights)

    def _whole_or_weights(self, region_weights: Any) -> tuple[float, ...] | None:
        """Return the regions' weights; without masks if they are whole and make no difference."""
        if self.content_mask is None:
            if region_weights is not None:
                raise ValueError("region_weights need a content_mask: the regions they are for")
            return None
        masks = (self.content_mask, *self.style_masks)
        weights = region_numbers(region_weights, self.content_mask.shape[1])
        if weights == (1,) and all((mask == 1).all() for mask in masks):
            self.content_mask, self.style_masks = None, []
            return None
        return weights

    # --- what is blended -------------------------------------------------------------------------

    @property
    def weights(self) -> Mapping[str, tuple[float, ...]]:
        """Of each layer, the shares of the styles that are blended; none if none are."""
        return MappingProxyType(self._weights)

    def set_weights(self, weights: StyleWeights | None) -> None:
        """Blend anew, from the next evaluation on.

        Parameters
        ----------
        weights : sequence of float, or mapping of str to sequence of float, optional
            K numbers, for all layers or for each; equal by default.

        Raises
        ------
        ValueError
            If they are not one number >= 0 for each style, all are 0, or there is no blend.
        """
        if not self._blended:
            kind = "a style for each region" if self.by_style else "no list of styles, or each is"
            kind += "" if self.by_style else " for an image of its own"
            raise ValueError(f"style_weights blend the styles of a list, and there is {kind}")
        self._weights = weights_by_layer("style_weights", weights, self.layers, self._blended)

    def flat_weights(self) -> list[float]:
        """Return all weights that can make a difference."""
        return [x for shares in self._weights.values() if len(shares) > 1 for x in shares]

    # --- what is matched -------------------------------------------------------------------------

    def measure(self, maps: Maps, gram_matrix: GramMatrix, size: MapSize) -> None:
        """Hold each style's Gram matrices and the content's masks at each layer, as buffers.

        Parameters
        ----------
        maps : callable
            Given a style, yields each style layer's name and its feature maps.
        gram_matrix : callable
            That of ``layer_losses``.
        size : callable
            ``map_size``.
        """
        guides, style_guides = self._guides(size)
        grams: dict[str, list[torch.Tensor]] = {layer: [] for layer in self.layers}
        for image, masks in zip(self.images, style_guides, strict=True):
            for layer, values in maps(image):
                mask = masks[layer].to(values.device) if masks else None
                grams[layer].append(gram_matrix(values, masks=mask))
        for layer, each in grams.items():
            # (K or B, [R,] N, N); of styles that have a region each, (1, R, N, N).
            self.register_buffer(f"grams_{layer}", torch.cat(each, 1 if self.by_style else 0))
            if guides:
                self.register_buffer(f"masks_{layer}", guides[layer].to(each[0].device))

    def target(self, layer: str) -> torch.Tensor:
        """Return what to match now, (B or 1, N, N), or (B or 1, R, N, N) with regions.

        Parameters
        ----------
        layer : str
            A style layer.
        """
        grams = self.get_buffer(f"grams_{layer}")
        return blend_grams(grams, self._weights[layer]) if self._blended > 1 else grams

    @property
    def masks(self) -> dict[str, torch.Tensor]:
        """The content's regions at each style layer, (B or 1, R, H', W'); {} without any."""
        if self.content_mask is None:
            return {}
        return {layer: self.get_buffer(f"masks_{layer}") for layer in self.layers}

    def validate(self, image: torch.Tensor, size: MapSize) -> None:
        """Raise ValueError unless targets and masks are for this image.

        Parameters
        ----------
        image : torch.Tensor
            (B, 3, H, W).
        size : callable
            ``map_size``.
        """
        for layer in self.layers if self._blended < 2 else ():
            _validate.same_batch(image, self.get_buffer(f"grams_{layer}"), "style targets")
        for layer, masks in self.masks.items():
            _validate.same_batch(image, masks, "masks")
            sides = size(layer, image.shape)
            _validate.same_positions(layer, sides, masks.shape[2:], "content_mask")

    def resized(self, scale: float) -> StyleTargets:
        """Return targets of images ``scale`` times as large, with the same weights.

        They are not measured, and say nothing of layers too coarse for a region.

        Parameters
        ----------
        scale : float
            As for ``resize_image``.
        """
        other = copy.copy(self)
        other._buffers, other._weights, other.quiet = {}, dict(self._weights), True
        other.images = [resize_image(image, scale) for image in self.images]
        if self.content_mask is not None:
            other.content_mask = resize_masks(self.content_mask, scale)
            other.style_masks = [resize_masks(masks, scale) for masks in self.style_masks]
        return other

    def memory_needed(self, shape: Sequence[int], strips: bool) -> int:
        """Return about how many bytes regions take beyond the rest of an evaluation.

        Parameters
        ----------
        shape : sequence of int
            (B, 3, H, W) of the image.
        strips : bool
            As for ``network_memory``.
        """
        share = min(1, STRIP_ROWS / shape[2]) if strips else 1
        # A float32 copy of the largest maps.
        values = [
            masks[0, 0].numel() * self.get_buffer(f"grams_{layer}").shape[-1]
            for layer, masks in self.masks.items()
        ]
        return round(4 * shape[0] * share * max(values, default=0))

    def _guides(self, size: MapSize) -> tuple[LayerMasks, Sequence[LayerMasks]]:
        """Return the masks of content and styles at each layer; {} without regions."""
        if self.content_mask is None:
            return {}, [{} for _ in self.images]
        sizes, *style_sizes = (
            {layer: size(layer, mask.shape) for layer in self.layers}
            for mask in (self.content_mask, *self.style_masks)
        )
        if not self.images:
            return {}, []
        return guide(self.content_mask, self.style_masks, sizes, style_sizes, self.quiet)


def weights_by_layer(
    name: str, weights: StyleWeights | None, layers: Sequence[str], count: int
) -> dict[str, tuple[float, ...]]:
    """Return each layer's shares of ``count`` styles, which add up to 1.

    Parameters
    ----------
    name : str
        What to call them in messages.
    weights : sequence of float, or mapping of str to sequence of float, optional
        For all layers or for each; equal by default.
    layers : sequence of str
    count : int
    """
    if not isinstance(weights, Mapping):
        shares = validate_style_weights([1] * count if weights is None else weights, count, name)
        return dict.fromkeys(layers, shares)
    given = ", ".join(sorted(map(str, weights)))
    if set(weights) != set(layers) and layers:
        raise ValueError(
            f"{name} must name each style layer, {', '.join(layers)}; got {given or 'none'}"
        )
    each = {
        layer: validate_style_weights(values, count, f"{name}: those of {layer}")
        for layer, values in weights.items()
    }
    return {layer: each[layer] for layer in layers}


def _validate_images(
    images: Sequence[torch.Tensor], shape: Sequence[int] | None, per_image: bool
) -> None:
    """Raise unless the styles can be blended, or there is one for each image."""
    counts = [len(image) for image in images]
    if not per_image and any(count > 1 for count in counts):
        raise ValueError(
            "styles that are blended must be single images, (1, 3, H, W); got batches of "
            f"{', '.join(map(str, counts))}: for one style per image give styles_per_image=True"
        )
    if per_image and shape and shape[0] > 1 and sum(counts) not in (0, 1, shape[0]):
        raise ValueError(
            f"{sum(counts)} styles for {shape[0]} content images: give one for all, or one for each"
        )


def _masks(
    images: Sequence[torch.Tensor],
    shape: Sequence[int] | None,
    content_mask: Masks,
    style_mask: Any,
    per_image: bool,
) -> tuple[Masks, list[torch.Tensor]]:
    """Return the masks of content and styles at their sizes, if there are any."""
    if content_mask is None and style_mask is None:
        return None, []
    if not images:
        raise ValueError("content_mask and style_mask say where styles go, and there is no style")
    if shape is None:
        raise ValueError("content_mask and style_mask need a content image: where styles go")
    style_masks = None if style_mask is None else _style_masks(images, style_mask)
    if content_mask is not None:
        content_mask = validate_masks(content_mask, shape)
    elif style_masks and {len(masks[0]) for masks in style_masks} == {1}:
        content_mask = torch.ones(1, 1, *shape[2:])
    else:
        raise ValueError("style_mask has several regions and needs a content_mask: where they go")
    if style_masks is None:
        regions = _regions_of_styles(len(images), content_mask.shape[1], per_image)
        style_masks = [torch.ones(1, regions, *image.shape[2:]) for image in images]
    else:
        for masks in style_masks:
            validate_partners(content_mask, masks)
    return content_mask, style_masks


def _style_masks(images: Sequence[torch.Tensor], style_mask: Any) -> list[torch.Tensor]:
    each = list(style_mask) if isinstance(style_mask, list | tuple) else [style_mask]
    if len(each) != len(images):
        raise ValueError(
            f"style_mask must be a list of {len(images)}, one for each style; got {len(each)}"
        )
    names = [f"style_mask[{i}]" if len(each) > 1 else "style_mask" for i in range(len(each))]
    return [
        validate_masks(masks, image.shape, name)
        for masks, image, name in zip(each, images, names, strict=True)
    ]


def _regions_of_styles(styles: int, regions: int, per_image: bool) -> int:
    """Return how many regions each style is for, without a mask of its own."""
    if per_image or 1 in (styles, regions):
        return regions
    if styles != regions:
        raise ValueError(
            f"content_mask has {regions} regions and there are {styles} styles: give as many "
            "styles as regions, or a style_mask for each style"
        )
    return 1
