"""The loss of an image: content and style, over their layers.

A thin module that holds the targets; the numbers are made in ``layer_losses``.

References
----------
.. [1] Gatys, Ecker & Bethge 2015, "Texture synthesis using convolutional neural networks"
.. [2] Gatys, Ecker & Bethge 2016, "Image style transfer using convolutional neural networks"
.. [3] Gatys, Ecker, Bethge, Hertzmann & Shechtman 2017, "Controlling perceptual factors in neural
   style transfer"
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import nn

from nst_helpers import _convert, _validate
from nst_helpers.control.targets import StyleTargets, StyleWeights
from nst_helpers.engine.devices import PRECISIONS, own_modes
from nst_helpers.engine.memory import network_memory, require_memory, target_memory
from nst_helpers.engine.scales import scale_content, scale_style
from nst_helpers.images import noise_like, resize_image
from nst_helpers.layer_losses import Convention as Convention
from nst_helpers.layer_losses import content_loss, gram_matrix, style_loss, total_variation
from nst_helpers.network.features import Features, NamedMaps, map_size
from nst_helpers.network.strips import sums_in_strips, values_per_pixel
from nst_helpers.network.texture import warn_of_no_texture

__all__ = ["CONTENT_LAYERS", "STYLE_LAYERS", "LossTerms", "StyleTransferLoss"]

Memory = Literal["normal", "low"]
LayerLosses = dict[str, torch.Tensor]  # (B,) of each layer

CONTENT_LAYERS = ("relu4_2",)
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
RATIOS = (1e-4, 1e-3, 1e-2, 1e-1)  # alpha/beta of the lecture's sweep, and of [2]_, Fig. 4


class LossTerms(NamedTuple):
    """The loss and its parts, (B,) each: total = alpha content + beta style + tv_weight tv."""

    total: torch.Tensor
    content: torch.Tensor
    style: torch.Tensor
    tv: torch.Tensor


class StyleTransferLoss(nn.Module):
    """alpha L_content + beta L_style ([2]_, equation 7), as a function of an image.

    Parameters
    ----------
    net : Features
        See ``load_network``.
    content : torch.Tensor, optional
        (B, 3, H, W) in [0, 1], a Pillow picture or an array. Without it: texture synthesis [1]_.
    style : torch.Tensor, optional
        (1, 3, any height, any width) in [0, 1], a picture or an array; or a list of such images,
        of any sizes, whose Gram matrices are blended; or (B, 3, H', W'), one for each image.
        Without it: content reconstruction.
    alpha, beta : float, or sequence of B floats
        Weights of content and style, for all images or for each. Only their ratio matters to the
        result; with the defaults 1e-4 is nearly all style, 1e-1 nearly all content ([2]_, Fig. 4).
    content_layers, style_layers : iterable of str
        By name. The content loss is averaged over its layers.
    style_layer_weights : mapping of str to float, or sequence, optional
        w_l of equation 5; 1 / L for each of L layers by default.
    tv_weight : float
        Of ``total_variation``; 0 as in the paper.
    convention : {"normalised", "paper", "lecture"}
        See the table of ``nst_helpers.layer_losses``.
    memory : {"normal", "low"}
        "low" holds less of each evaluation and recomputes it in the backward pass.
    style_weights : sequence of K floats, or mapping of str to such, optional
        Of the styles of a list, for all style layers or for each by name; only their ratios matter,
        and they are equal by default. ``loss.style_weights`` may be set anew at any time.
    styles_per_image : bool
        A list is not a blend, but has one style for each image of a batch.
    content_mask : torch.Tensor, optional
        (B or 1, R, H, W) in [0, 1], as ``load_masks`` returns it: the regions of the content [3]_,
        which are painted apart. What is in none (transparent pixels) has no style.
    style_mask : torch.Tensor, or list of one for each style, optional
        (1, R, H', W') each: region r of the content is painted in region r of the style. Without
        it, R styles are for one region each, and of a single style all is for every region.
    region_weights : sequence of R floats, optional
        A factor for the style of each region; 1 by default.

    Raises
    ------
    ValueError
        If there is nothing to match, a weight is negative or not finite, a layer is unknown, an
        image is too small, not finite or far outside [0, 1], or styles, masks and weights differ.
    """

    # Equal shapes at every call, and no host synchronisation: a CUDA graph may capture it.
    capturable: ClassVar[bool] = True

    @own_modes()
    def __init__(
        self,
        net: Features,
        content: torch.Tensor | None = None,
        style: torch.Tensor | Sequence[torch.Tensor] | None = None,
        *,
        alpha: float | Sequence[float] | torch.Tensor = 1e-3,
        beta: float | Sequence[float] | torch.Tensor = 1.0,
        content_layers: Iterable[str] = CONTENT_LAYERS,
        style_layers: Iterable[str] = STYLE_LAYERS,
        style_layer_weights: Mapping[str, float] | Iterable[float] | None = None,
        tv_weight: float = 0.0,
        convention: Convention = "normalised",
        memory: Memory = "normal",
        style_weights: StyleWeights | None = None,
        styles_per_image: bool = False,
        content_mask: torch.Tensor | None = None,
        style_mask: torch.Tensor | Sequence[torch.Tensor] | None = None,
        region_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        _validate.instance("net", net, Features, "a network, as load_network returns it")
        _validate.one_of("convention", convention, get_args(Convention))
        _validate.one_of("memory", memory, get_args(Memory))
        self.net, self.convention, self.memory = net, convention, memory
        self.alpha = _validate.weight("alpha", alpha, net.device)
        self.beta = _validate.weight("beta", beta, net.device)
        self.tv_weight = _validate.number_at_least("tv_weight", tv_weight, 0)
        self.content_layers = _validate.names("content_layers", content_layers, _validate.LAYERS)
        self.style_layers = _validate.names("style_layers", style_layers, _validate.LAYERS)
        self.style_layer_weights = _validate.weights_by_name(
            "style_layer_weights", style_layer_weights, self.style_layers
        )
        contents = [] if content is None else [_convert.image("content", content)]
        styles = [] if style is None else _convert.images("style", style)
        if not (contents and torch.as_tensor(self.alpha, device=net.device).any()):
            self.content_layers = ()
        if not (styles and torch.as_tensor(self.beta, device=net.device).any()):
            self.style_layers = ()
        if not self.content_layers and not self.style_layers:
            raise ValueError(
                "nothing to match: give a content image with alpha > 0, or a style image with "
                f"beta > 0, and layers (alpha={self.alpha}, beta={self.beta})"
            )
        net.named("content_layers", self.content_layers)
        net.named("style_layers", self.style_layers)
        shape = contents[0].shape if contents else None
        regions = content_mask, style_mask, region_weights
        self.styles = StyleTargets(
            styles, self.style_layers, shape, style_weights, styles_per_image, *regions
        )
        self._contents = contents if self.content_layers else []
        self._set_targets()
        grams = {name: self.styles.target(name) for name in self.style_layers}
        warn_of_no_texture(net, contents, styles, grams, self.style_layer_weights)

    def _set_targets(self) -> None:
        """Hold what is to be matched; as buffers, so that .to(device) moves them along."""
        for image in self._contents:
            for name, maps in self._maps("content", image, self.content_layers):
                self.register_buffer(f"content_{name}", maps)  # (B, N, H', W')
        style_maps = partial(self._maps, "style", layers=self.style_layers)
        self.styles.measure(style_maps, gram_matrix, map_size)
        self._valid_shape: torch.Size | None = None

    @property
    def device(self) -> torch.device:
        """Where images must be."""
        return self.net.device

    @property
    def weights(self) -> tuple[float, ...]:
        """All weights as they are now: ``optimize`` restarts where a callback changes them."""
        new = partial(torch.as_tensor, dtype=torch.float32, device=self.device)
        ratio = [new(weight).flatten() for weight in (self.alpha, self.beta)]
        layers = (*self.style_layer_weights.values(), *self.styles.flat_weights())
        return (*torch.cat(ratio).tolist(), self.tv_weight, *layers)

    @property
    def style_weights(self) -> Mapping[str, tuple[float, ...]]:
        """Of each style layer, the shares of the styles that are blended; may be set anew."""
        return self.styles.weights

    @style_weights.setter
    def style_weights(self, weights: StyleWeights) -> None:
        self.styles.set_weights(weights)

    @own_modes()
    def forward(self, image: torch.Tensor) -> LossTerms:
        """Return the loss of each image of a batch (B, 3, H, W), whose values may pass [0, 1]."""
        # An image that is being optimised is looked at once: else its device would have to wait.
        if not (getattr(image, "requires_grad", False) and image.shape == self._valid_shape):
            self._validate_image(image)
        losses = self._layer_losses_in_strips if self.memory == "low" else self._layer_losses
        content_losses, style_losses = losses(image)
        content = style = image.new_zeros(image.shape[0])
        for loss in content_losses.values():
            content = content + loss / len(self.content_layers)
        for name, loss in style_losses.items():
            style = style + self.style_layer_weights[name] * loss  # equation 5
        if self.convention == "normalised":
            # Not in the paper: with it, 1e-4 to 1e-1 go from style to content on any network.
            content = self.net.content_scale * content
        tv = total_variation(image) if self.tv_weight else torch.zeros_like(content)
        total = self.alpha * content + self.beta * style + self.tv_weight * tv
        return LossTerms(total, content, style, tv)

    def _layer_losses(self, image: torch.Tensor) -> tuple[LayerLosses, LayerLosses]:
        """Return content and style loss, (B,), of each of their layers."""
        content, style, masks = {}, {}, self.styles.masks
        for name, maps in self.net.activations(image, {*self.content_layers, *self.style_layers}):
            if name in self.content_layers:
                target = self.get_buffer(f"content_{name}")
                content[name] = content_loss(maps, target, self.convention)
            if name in self.style_layers:
                regions = masks.get(name), self.styles.region_weights
                style[name] = style_loss(maps, self.styles.target(name), self.convention, *regions)
        return content, style

    def _layer_losses_in_strips(self, image: torch.Tensor) -> tuple[LayerLosses, LayerLosses]:
        """Return the same from sums over strips of the maps, which are never there as a whole."""
        targets = {name: self.get_buffer(f"content_{name}") for name in self.content_layers}
        masks = self.styles.masks
        squares, products = sums_in_strips(self.net, image, targets, self.style_layers, masks)
        content, style = {}, {}
        for name, total in squares.items():
            content[name] = scale_content(total, targets[name][0].numel(), self.convention)
        for name, gram in products.items():
            target, positions = self.styles.target(name), math.prod(map_size(name, image.shape))
            regions = masks.get(name), self.styles.region_weights
            style[name] = scale_style(gram, target, positions, self.convention, *regions)
        return content, style

    @own_modes()
    def resized(self, scale: float) -> StyleTransferLoss:
        """Return the same loss for images ``scale`` times as large, content and style alike."""
        other = copy.copy(self)
        other._buffers, other._modules = {}, dict(self._modules)
        other.style_layer_weights = dict(self.style_layer_weights)
        other._contents = [resize_image(image, scale) for image in self._contents]
        other.styles = self.styles.resized(scale)
        other._set_targets()
        return other

    @torch.no_grad()
    def explain(self, image: torch.Tensor) -> str:
        """Return what weights may leave an image as it is, for people; "" if these do not."""
        _, content, style, _ = self(noise_like(image).to(self.device))
        ratio = ((self.alpha * content).sum() / (self.beta * style).sum()).item()
        text = f"the content weighs {ratio:.3g} times the style, by their losses of white noise"
        return f"{text}: try a smaller alpha" if self.style_layers and ratio > 1 else ""

    def memory_needed(self, shape: Iterable[int]) -> int:
        """Return about how many bytes an evaluation of an image (B, 3, H, W) takes at its peak."""
        values = values_per_pixel(self.net, {*self.content_layers, *self.style_layers})
        size, strips = PRECISIONS[self.net.precision].itemsize, self.memory == "low"
        regions = self.styles.memory_needed(shape := tuple(shape), strips)
        return regions + network_memory(values, shape, bytes_per_value=size, strips=strips)

    def _validate_image(self, image: torch.Tensor) -> None:
        _validate.tensor("image", image, _validate.IMAGE, "B3HW")
        _validate.same_device("image", image, self.device)
        self.net.validate({*self.content_layers, *self.style_layers}, image.shape)
        for name in self.content_layers:
            target = self.get_buffer(f"content_{name}")
            _validate.same_batch(image, target, "content targets")
            size = map_size(name, image.shape)
            _validate.same_positions(name, size, target.shape[2:], "the content")
        self.styles.validate(image, map_size)
        for weight in (self.alpha, self.beta):
            if isinstance(weight, torch.Tensor):
                _validate.same_batch(image, weight, "weights (alpha or beta)")
        require_memory(self.memory_needed(image.shape), image.shape, self.device)
        if not image.requires_grad:
            _validate.finite_within("image", image, _validate.UNCLIPPED)
        self._valid_shape = image.shape

    @torch.no_grad()
    def _maps(self, kind: str, image: torch.Tensor, layers: tuple[str, ...]) -> NamedMaps:
        """Yield each layer's maps of a content or style image."""
        self.net.validate(layers, image.shape, kind)
        needed = target_memory(values_per_pixel(self.net, layers), image.shape)
        require_memory(needed, image.shape, self.device)
        yield from self.net.activations(image.to(self.device), layers)
