"""Feature maps to numbers: content, style and total loss.

Pure functions first, then one thin module that holds the targets. Symbols as in [2]_: F are the
feature maps of the image that is optimised, P those of the content image, G and A the Gram matrices
of the image and of the style image; N is the number of filters, M = H * W the number of positions.

The losses of a batch are (B,) tensors. Three conventions are in use, which differ by constants:

============  =========================  ==============================  ========================
convention    content loss               style loss of one layer         who
============  =========================  ==============================  ========================
normalised    mean (F - P)^2             mean (G - A)^2, G = F F^T / M   the default here
paper         1/2 sum (F - P)^2          sum (G - A)^2 / (4 N^2 M^2),    [2]_, equations 1 and 4
                                         G = F F^T
lecture       mean (F - P)^2             mean (G - A)^2 / (N M),         the lecture's code
                                         G = F F^T
============  =========================  ==============================  ========================

References
----------
.. [1] Gatys, Ecker & Bethge 2015, "Texture synthesis using convolutional neural networks"
.. [2] Gatys, Ecker & Bethge 2016, "Image style transfer using convolutional neural networks"
.. [3] Mahendran & Vedaldi 2015, "Understanding deep image representations by inverting them"
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
from nst_helpers.engine.devices import PRECISIONS, own_modes
from nst_helpers.engine.memory import network_memory, require_memory, target_memory
from nst_helpers.engine.sums import sum_of_products, sum_of_squares
from nst_helpers.engine.threads import sum_per_image
from nst_helpers.images import noise_like, resize_image
from nst_helpers.network.features import Features, NamedMaps, map_size
from nst_helpers.network.strips import sums_in_strips, values_per_pixel
from nst_helpers.network.texture import warn_of_no_texture

__all__ = [
    "CONTENT_LAYERS",
    "STYLE_LAYERS",
    "LossTerms",
    "StyleTransferLoss",
    "content_loss",
    "gram_matrix",
    "style_loss",
    "total_variation",
]

Convention = Literal["normalised", "paper", "lecture"]
Memory = Literal["normal", "low"]
LayerLosses = dict[str, torch.Tensor]  # (B,) of each layer

CONTENT_LAYERS = ("relu4_2",)
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
RATIOS = (1e-4, 1e-3, 1e-2, 1e-1)  # alpha/beta of the lecture's sweep, and of [2]_, Fig. 4


def gram_matrix(features: torch.Tensor, normalise: bool = True) -> torch.Tensor:
    """Return the Gram matrix: correlations of filter responses, not centred.

    How often each two filters are active together, wherever that is: G_ij = sum_k F_ik F_jk ([2]_,
    equation 3), divided by the number of positions M unless ``normalise=False``, so that an image's
    size does not matter.

    Parameters
    ----------
    features : torch.Tensor
        (B, N, H, W).
    normalise : bool
        Divide by M = H * W.

    Returns
    -------
    torch.Tensor
        (B, N, N), symmetric; one matrix for each image of the batch.
    """
    _validate.tensor("features", features, _validate.MAPS, "BNHW")
    normalise = _validate.flag("normalise", normalise)
    gram = sum_of_products(features)
    return gram / (features.shape[2] * features.shape[3]) if normalise else gram


def content_loss(
    features: torch.Tensor, target: torch.Tensor, convention: Convention = "normalised"
) -> torch.Tensor:
    """Return the content loss: squared error of the feature maps ([2]_, equation 1).

    Parameters
    ----------
    features : torch.Tensor
        F, (B, N, H, W).
    target : torch.Tensor
        P, (B, N, H, W), or (1, N, H, W) for one content image.
    convention : {"normalised", "paper", "lecture"}
        See the module's table; "paper" is equation 1 as it stands.

    Returns
    -------
    torch.Tensor
        (B,), one number per image.
    """
    _validate.one_of("convention", convention, get_args(Convention))
    _validate.maps_and_target(features, target)
    if features.shape[1:] != target.shape[1:]:
        raise ValueError(
            f"features {tuple(features.shape)} and content target {tuple(target.shape)} differ in "
            "shape: the image must be as large as the content image"
        )
    return _scale_content(sum_of_squares(features, target), features[0].numel(), convention)


def style_loss(
    features: torch.Tensor, target: torch.Tensor, convention: Convention = "normalised"
) -> torch.Tensor:
    """Return one layer's style loss: squared error of the Gram matrix ([2]_, equation 4).

    Parameters
    ----------
    features : torch.Tensor
        F, (B, N, H, W).
    target : torch.Tensor
        The style image's feature maps, (B or 1, N, any height, any width), or their Gram matrix
        as ``gram_matrix`` gives it, (B or 1, N, N).
    convention : {"normalised", "paper", "lecture"}
        See the module's table; "paper" is equation 4 as it stands.

    Returns
    -------
    torch.Tensor
        (B,), one number per image.

    Notes
    -----
    The paper and the lecture have style images of the content's size. Here A is per position in
    every convention, so that the style image may have any size.
    """
    _validate.one_of("convention", convention, get_args(Convention))
    _validate.maps_and_target(features, target, or_gram=True)
    _, filters, height, width = features.shape
    if target.dim() == 4:
        target = gram_matrix(target)
    if target.shape[1:] != (filters, filters):
        raise ValueError(
            f"features of {filters} filters cannot match a target whose Gram matrix has the shape "
            f"{tuple(target.shape)}"
        )
    return _scale_style(sum_of_products(features), target, height * width, convention)


def total_variation(image: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference between neighbouring pixels, a penalty on roughness.

    Not in the papers by Gatys et al.: [3]_ (section 3) uses it for smooth reconstructions.

    Parameters
    ----------
    image : torch.Tensor
        (B, 3, H, W).

    Returns
    -------
    torch.Tensor
        (B,): the sum over neighbours below and to the right, per value.
    """
    _validate.tensor("image", image, _validate.IMAGE, "B3HW")
    down = sum_per_image((image[:, :, 1:] - image[:, :, :-1]).square())
    right = sum_per_image((image[:, :, :, 1:] - image[:, :, :, :-1]).square())
    return (down + right) / image[0].numel()


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
        (B, 3, any height, any width) in [0, 1], a picture or an array, or a list of such images,
        whose sizes may differ. Without it: content reconstruction.
    alpha, beta : float, or sequence of B floats
        Weights of content and style, for all images or for each. Only their ratio matters to the
        result; with the defaults 1e-4 is nearly all style and 1e-1 nearly all content, as in the
        paper's Fig. 4.
    content_layers, style_layers : iterable of str
        By name. The content loss is averaged over its layers.
    style_layer_weights : mapping of str to float, or sequence, optional
        w_l of equation 5; 1 / L for each of L layers by default.
    tv_weight : float
        Of ``total_variation``; 0 as in the paper.
    convention : {"normalised", "paper", "lecture"}
        See the module's table.
    memory : {"normal", "low"}
        "low" holds less of each evaluation and recomputes it in the backward pass.

    Raises
    ------
    ValueError
        If there is nothing to match, a weight is negative or not finite, a layer is unknown, or an
        image is too small for the layers, not finite, or far outside [0, 1].
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
        self._set_targets(contents, styles)
        grams = {name: self._target("style", name) for name in self.style_layers}
        warn_of_no_texture(net, contents, styles, grams, self.style_layer_weights)

    def _set_targets(self, contents: list[torch.Tensor], styles: list[torch.Tensor]) -> None:
        """Hold what is to be matched; as buffers, so that .to(device) moves them along."""
        self._contents = contents if self.content_layers else []
        self._styles = styles if self.style_layers else []
        for image in self._contents:
            for name, maps in self._maps("content", image, self.content_layers):
                self.register_buffer(f"content_{name}", maps)  # (B, N, H', W')
        grams: dict[str, list[torch.Tensor]] = {name: [] for name in self.style_layers}
        for image in self._styles:
            for name, maps in self._maps("style", image, self.style_layers):
                grams[name].append(gram_matrix(maps))
        for name, matrices in grams.items():
            self.register_buffer(f"style_{name}", torch.cat(matrices))  # (B or 1, N, N)
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
        return (*torch.cat(ratio).tolist(), self.tv_weight, *self.style_layer_weights.values())

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
        content, style = {}, {}
        for name, maps in self.net.activations(image, {*self.content_layers, *self.style_layers}):
            if name in self.content_layers:
                content[name] = content_loss(maps, self._target("content", name), self.convention)
            if name in self.style_layers:
                style[name] = style_loss(maps, self._target("style", name), self.convention)
        return content, style

    def _layer_losses_in_strips(self, image: torch.Tensor) -> tuple[LayerLosses, LayerLosses]:
        """Return the same from sums over strips of the maps, which are never there as a whole."""
        targets = {name: self._target("content", name) for name in self.content_layers}
        squares, products = sums_in_strips(self.net, image, targets, self.style_layers)
        content, style = {}, {}
        for name, total in squares.items():
            content[name] = _scale_content(total, targets[name][0].numel(), self.convention)
        for name, gram in products.items():
            positions = math.prod(map_size(name, image.shape))
            style[name] = _scale_style(
                gram, self._target("style", name), positions, self.convention
            )
        return content, style

    def _target(self, kind: Literal["content", "style"], layer: str) -> torch.Tensor:
        return self.get_buffer(f"{kind}_{layer}")

    @own_modes()
    def resized(self, scale: float) -> StyleTransferLoss:
        """Return the same loss for images ``scale`` times as large, content and style alike."""
        other = copy.copy(self)
        other._buffers, other.style_layer_weights = {}, dict(self.style_layer_weights)
        smaller = [[resize_image(x, scale) for x in y] for y in (self._contents, self._styles)]
        other._set_targets(*smaller)
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
        return network_memory(
            values_per_pixel(self.net, {*self.content_layers, *self.style_layers}),
            shape,
            bytes_per_value=PRECISIONS[self.net.precision].itemsize,
            strips=self.memory == "low",
        )

    def _validate_image(self, image: torch.Tensor) -> None:
        _validate.tensor("image", image, _validate.IMAGE, "B3HW")
        _validate.same_device("image", image, self.device)
        self.net.validate({*self.content_layers, *self.style_layers}, image.shape)
        for name in self.content_layers:
            target = self._target("content", name)
            _validate.same_batch(image, target, "content targets")
            size = map_size(name, image.shape)
            if target.shape[2:] != size:
                raise ValueError(
                    f"at {name} the image has {size[0]} x {size[1]} positions and the content "
                    f"{target.shape[2]} x {target.shape[3]}: they must not differ in shape"
                )
        for name in self.style_layers:
            _validate.same_batch(image, self._target("style", name), "style targets")
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


def _scale_content(error: torch.Tensor, values: int, convention: Convention) -> torch.Tensor:
    return error / 2 if convention == "paper" else error / values


def _scale_style(
    gram: torch.Tensor, target: torch.Tensor, positions: int, convention: Convention
) -> torch.Tensor:
    """Return the loss of a Gram matrix (B, N, N) that is a sum over ``positions``."""
    error = (gram / positions - target).square().mean((1, 2))
    if convention == "paper":
        return error / 4  # (M^2 N^2 mean) / (4 N^2 M^2)
    if convention == "lecture":
        return error * positions / gram.shape[1]  # (M^2 mean) / (N M)
    return error
