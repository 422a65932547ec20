"""Feature maps to numbers: what we ask of the picture.

Pure functions first, then one thin module that holds the targets. Symbols as in Gatys et al. 2016:
F are the feature maps of the picture, P those of the content image, G and A the Gram matrices of
the picture and of the style image; N is the number of filters, M = H * W the number of positions.

Three conventions are in use for the same two losses, and they differ by constants only:

============  =========================  ==============================  ========================
convention    content loss               style loss of one layer         who
============  =========================  ==============================  ========================
normalised    mean (F - P)^2             mean (G - A)^2, G = F F^T / M   the default here
paper         1/2 sum (F - P)^2          sum (G - A)^2 / (4 N^2 M^2),    Gatys et al. 2016,
                                         G = F F^T                       equations 1 and 4
lecture       mean (F - P)^2             mean (G - A)^2 / (N M),         the lecture's code
                                         G = F F^T
============  =========================  ==============================  ========================

Each image of a batch is kept apart: the losses are (B,) tensors.

``StyleTransferLoss`` multiplies the normalised content loss by the network's ``content_scale``, 1
for VGG, so that the same alpha/beta gives much the same picture on every network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import nn

from nst_helpers.devices import available_memory
from nst_helpers.features import Features

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

CONTENT_LAYERS = ("relu4_2",)
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONVENTIONS = ("normalised", "paper", "lecture")


def gram_matrix(features: torch.Tensor, normalise: bool = True) -> torch.Tensor:
    """Return how often each two filters are active together, wherever that is.

    G_ij = sum_k F_ik F_jk (Gatys et al. 2016, equation 3), divided by the number of positions M
    unless ``normalise=False``, so that a picture's size does not matter.

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
    if features.dim() != 4:
        raise ValueError(f"expected feature maps (B, N, H, W); got shape {tuple(features.shape)}")
    unrolled = features.flatten(2)  # (B, N, M)
    positions = unrolled.shape[2]
    if normalise:  # before the product, so that half precision does not overflow
        unrolled = unrolled / positions**0.5
    return unrolled @ unrolled.mT


def content_loss(
    features: torch.Tensor, target: torch.Tensor, convention: str = "normalised"
) -> torch.Tensor:
    """Return how far feature maps are from the content image's.

    Parameters
    ----------
    features : torch.Tensor
        F, (B, N, H, W).
    target : torch.Tensor
        P, (B, N, H, W), or (1, N, H, W) for one content image.
    convention : {"normalised", "paper", "lecture"}
        See the module's table; "paper" is equation 1 of Gatys et al. 2016.

    Returns
    -------
    torch.Tensor
        (B,), one number per image.
    """
    _check_convention(convention)
    _check_batches(features, target)
    if features.shape[1:] != target.shape[1:]:
        raise ValueError(
            f"feature maps {tuple(features.shape)} and content target {tuple(target.shape)} differ "
            "in shape: the picture must be as large as the content image"
        )
    squares = (features - target).square()
    if convention == "paper":
        return squares.sum((1, 2, 3)) / 2
    return squares.mean((1, 2, 3))


def style_loss(
    features: torch.Tensor, target: torch.Tensor, convention: str = "normalised"
) -> torch.Tensor:
    """Return how far one layer's Gram matrix is from the style image's.

    Parameters
    ----------
    features : torch.Tensor
        The picture's feature maps, (B, N, H, W).
    target : torch.Tensor
        The style image's feature maps, (B or 1, N, any height, any width), or their Gram matrix
        as ``gram_matrix`` gives it, (B or 1, N, N).
    convention : {"normalised", "paper", "lecture"}
        See the module's table; "paper" is equation 4 of Gatys et al. 2016.

    Returns
    -------
    torch.Tensor
        (B,), one number per image.

    Notes
    -----
    The paper and the lecture have style images of the content's size, where dividing both Gram
    matrices by M or neither is the same thing. Here the style image's is per position in every
    convention, so that it may have any size.
    """
    _check_convention(convention)
    _check_batches(features, target)
    if target.dim() == 4:
        target = gram_matrix(target)
    filters, positions = features.shape[1], features.shape[2] * features.shape[3]
    gram = gram_matrix(features)
    if gram.shape[1:] != target.shape[1:]:
        raise ValueError(
            f"a layer of {filters} filters cannot match a Gram matrix of shape "
            f"{tuple(target.shape)}"
        )
    squares = (gram - target).square().mean((1, 2))
    if convention == "paper":
        return squares / 4  # (M^2 N^2 mean) / (4 N^2 M^2)
    if convention == "lecture":
        return squares * positions / filters  # (M^2 mean) / (N M)
    return squares


def total_variation(image: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference between neighbouring pixels, (B,).

    Not in Gatys et al.; Mahendran & Vedaldi 2015 (section 3) use it to make reconstructions
    smooth.

    Parameters
    ----------
    image : torch.Tensor
        (B, 3, H, W).

    Returns
    -------
    torch.Tensor
        (B,): the sum over neighbours below and to the right, per value.
    """
    down = (image[:, :, 1:] - image[:, :, :-1]).square().sum((1, 2, 3))
    right = (image[:, :, :, 1:] - image[:, :, :, :-1]).square().sum((1, 2, 3))
    return (down + right) / image[0].numel()


class LossTerms(NamedTuple):
    """The loss and its parts, (B,) each: total = alpha content + beta style + tv_weight tv."""

    total: torch.Tensor
    content: torch.Tensor
    style: torch.Tensor
    tv: torch.Tensor


class StyleTransferLoss(nn.Module):
    """alpha L_content + beta L_style (Gatys et al. 2016, equation 7), as a function of a picture.

    Parameters
    ----------
    net : Features
        See ``load_network``.
    content : torch.Tensor, optional
        (B, 3, H, W) in [0, 1]. Without it: texture synthesis (Gatys et al. 2015).
    style : torch.Tensor, optional
        (B, 3, any height, any width) in [0, 1]. Without it: content reconstruction.
    alpha, beta : float
        Weights of content and style. Only their ratio matters to the picture; with the defaults
        1e-4 is nearly all style and 1e-1 nearly all content, as in the paper's Fig. 4.
    content_layers, style_layers : iterable of str
        By name. The content loss is averaged over its layers.
    style_layer_weights : mapping of str to float, or sequence, optional
        w_l of equation 5; 1 / L for each of L layers by default.
    tv_weight : float
        Of ``total_variation``; 0 as in the paper.
    convention : {"normalised", "paper", "lecture"}
        See the module's table.

    Raises
    ------
    ValueError
        If there is nothing to match, a weight is negative or not finite, a layer is unknown, or a
        picture is too small for the layers.

    Examples
    --------
    >>> loss = StyleTransferLoss(net, content=content, style=style, alpha=1e-3)
    >>> loss(picture).total
    tensor([0.0215])
    """

    def __init__(
        self,
        net: Features,
        content: torch.Tensor | None = None,
        style: torch.Tensor | None = None,
        *,
        alpha: float = 1e-3,
        beta: float = 1.0,
        content_layers: Iterable[str] = CONTENT_LAYERS,
        style_layers: Iterable[str] = STYLE_LAYERS,
        style_layer_weights: Mapping[str, float] | Iterable[float] | None = None,
        tv_weight: float = 0.0,
        convention: str = "normalised",
    ) -> None:
        super().__init__()
        _check_convention(convention)
        for name, value in (("alpha", alpha), ("beta", beta), ("tv_weight", tv_weight)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a number >= 0; got {value!r}")
        self.content_layers = _as_tuple(content_layers) if content is not None and alpha else ()
        self.style_layers = _as_tuple(style_layers)
        self.style_layer_weights = _layer_weights(style_layer_weights, self.style_layers)
        if style is None or not beta:
            self.style_layers = ()
        if not self.content_layers and not self.style_layers:
            raise ValueError(
                "nothing to match: give a content image with alpha > 0, or a style image with "
                f"beta > 0, and layers (got alpha={alpha!r}, beta={beta!r})"
            )
        self.net, self.convention = net, convention
        self.alpha, self.beta, self.tv_weight = alpha, beta, tv_weight
        # The paper's and the lecture's losses are left as they are written.
        self._content_scale = net.content_scale if convention == "normalised" else 1.0
        # Buffers, so that .to(device) moves them along.
        with torch.no_grad():
            if self.content_layers:
                self._check_memory(content.shape, self.content_layers)
                maps = net(content.to(net.device), self.content_layers)
                for name in self.content_layers:
                    self.register_buffer(f"content_{name}", maps[name])
            if self.style_layers:
                self._check_memory(style.shape, self.style_layers)
                maps = net(style.to(net.device), self.style_layers)
                for name in self.style_layers:
                    self.register_buffer(f"style_{name}", gram_matrix(maps[name]))
        self._checked_shape: torch.Size | None = None

    @property
    def device(self) -> torch.device:
        """Where pictures must be to be judged."""
        return self.net.device

    def forward(self, image: torch.Tensor) -> LossTerms:
        """Return the loss of each image of a batch.

        Parameters
        ----------
        image : torch.Tensor
            (B, 3, H, W); values outside [0, 1] are allowed, so that an optimiser may pass there.
        """
        layers = {*self.content_layers, *self.style_layers}
        if image.shape != self._checked_shape:
            self.net.check(layers, image.shape)
            self._check_memory(image.shape, layers)
            self._checked_shape = image.shape
        maps = self.net(image, layers)
        zero = image.new_zeros(image.shape[0])
        content = style = tv = zero
        for name in self.content_layers:
            loss = content_loss(maps[name], self.get_buffer(f"content_{name}"), self.convention)
            content = content + self._content_scale * loss / len(self.content_layers)
        for name in self.style_layers:
            loss = style_loss(maps[name], self.get_buffer(f"style_{name}"), self.convention)
            style = style + self.style_layer_weights[name] * loss
        if self.tv_weight:
            tv = total_variation(image)
        total = self.alpha * content + self.beta * style + self.tv_weight * tv
        return LossTerms(total, content, style, tv)

    def _check_memory(self, shape: Iterable[int], layers: Iterable[str]) -> None:
        """Refuse what cannot fit, before the machine starts to swap."""
        batch, _, height, width = shape
        # Each convolution's and each ReLU's output, 4 bytes a value, is held for the way back.
        needed = 4 * batch * height * width * self.net.values_per_pixel(layers)
        there = available_memory(self.device)
        if needed > there:
            scale = (there / needed) ** 0.5
            raise ValueError(
                f"{width} x {height} pixels need about {needed / 2**30:.1f} GB of memory and "
                f"{there / 2**30:.1f} GB are free; about {int(width * scale)} x "
                f"{int(height * scale)} would fit"
            )


def _check_convention(convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}; got {convention!r}")


def _check_batches(features: torch.Tensor, target: torch.Tensor) -> None:
    if target.shape[0] not in (1, features.shape[0]):
        raise ValueError(
            f"{target.shape[0]} targets for {features.shape[0]} pictures: give one for all, or one "
            "for each"
        )


def _as_tuple(layers: Iterable[str]) -> tuple[str, ...]:
    return (layers,) if isinstance(layers, str) else tuple(layers)


def _layer_weights(
    weights: Mapping[str, float] | Iterable[float] | None, layers: tuple[str, ...]
) -> dict[str, float]:
    if weights is None:
        return dict.fromkeys(layers, 1 / max(1, len(layers)))
    if isinstance(weights, Mapping):
        weights = dict(weights)
    else:
        values = list(weights)
        if len(values) != len(layers):
            raise ValueError(f"{len(values)} style_layer_weights for {len(layers)} style layers")
        weights = dict(zip(layers, values, strict=True))
    if unknown := set(weights) - set(layers):
        raise ValueError(
            f"style_layer_weights name {', '.join(sorted(unknown))}, not among the style layers "
            f"{', '.join(layers)}"
        )
    for name, value in weights.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"the weight of {name} must be a number >= 0; got {value!r}")
    return {name: float(weights.get(name, 0.0)) for name in layers}
