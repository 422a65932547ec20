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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from nst_helpers.engine.devices import check_memory
from nst_helpers.network.features import Features, halvings
from nst_helpers.images import resize_image

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
    gram = _Gram.apply(features)
    return gram / (features.shape[2] * features.shape[3]) if normalise else gram


class _Gram(torch.autograd.Function):
    """F F^T, with what torch does not know of it: the way back is one product, (S + S^T) F.

    Half-precision maps are summed in float32, and no float32 copy of them is kept.
    """

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(features)
        unrolled = _exact(features).flatten(2)  # (B, N, M)
        return unrolled @ unrolled.mT

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        (features,) = ctx.saved_tensors
        both = (slope + slope.mT).to(features.dtype)
        # Positions before filters, which is how channels-last maps lie in memory.
        grown = features.flatten(2).mT @ both  # (B, M, N)
        return grown.mT.unflatten(2, features.shape[2:])


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
    return _content_of(_squares(features, target), features[0].numel(), convention)


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
    filters = features.shape[1]
    if target.shape[1:] != (filters, filters):
        raise ValueError(
            f"a layer of {filters} filters cannot match a Gram matrix of shape "
            f"{tuple(target.shape)}"
        )
    positions = features.shape[2] * features.shape[3]
    return _style_of(gram_matrix(features, normalise=False), target, positions, convention)


def _squares(features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the sum of (F - P)^2 over filters and positions, (B,)."""
    return (_exact(features) - _exact(target)).square().sum((1, 2, 3))


def _content_of(squares: torch.Tensor, values: int, convention: str) -> torch.Tensor:
    return squares / 2 if convention == "paper" else squares / values


def _style_of(
    gram: torch.Tensor, target: torch.Tensor, positions: int, convention: str
) -> torch.Tensor:
    """Return the loss of a Gram matrix that is a sum over ``positions``."""
    squares = (gram / positions - target).square().mean((1, 2))
    if convention == "paper":
        return squares / 4  # (M^2 N^2 mean) / (4 N^2 M^2)
    if convention == "lecture":
        return squares * positions / gram.shape[1]  # (M^2 mean) / (N M)
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
        (B, 3, any height, any width) in [0, 1], or a list of such images, whose sizes may differ.
        Without it: content reconstruction.
    alpha, beta : float, or sequence of B floats
        Weights of content and style, for all pictures or for each. Only their ratio matters to
        the picture; with the defaults 1e-4 is nearly all style and 1e-1 nearly all content, as in
        the paper's Fig. 4.
    content_layers, style_layers : iterable of str
        By name. The content loss is averaged over its layers.
    style_layer_weights : mapping of str to float, or sequence, optional
        w_l of equation 5; 1 / L for each of L layers by default.
    tv_weight : float
        Of ``total_variation``; 0 as in the paper.
    convention : {"normalised", "paper", "lecture"}
        See the module's table.
    memory : {"normal", "low"}
        "low" keeps less of each evaluation and computes it again: see ``Features.forward``.

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

    # Nothing in its forward pass waits for the device: optimize may record it in a CUDA graph.
    capturable = True

    def __init__(
        self,
        net: Features,
        content: torch.Tensor | None = None,
        style: torch.Tensor | Sequence[torch.Tensor] | None = None,
        *,
        alpha: float | Sequence[float] = 1e-3,
        beta: float | Sequence[float] = 1.0,
        content_layers: Iterable[str] = CONTENT_LAYERS,
        style_layers: Iterable[str] = STYLE_LAYERS,
        style_layer_weights: Mapping[str, float] | Iterable[float] | None = None,
        tv_weight: float = 0.0,
        convention: str = "normalised",
        memory: str = "normal",
    ) -> None:
        super().__init__()
        _check_convention(convention)
        if memory not in ("normal", "low"):
            raise ValueError(f"memory must be 'normal' or 'low'; got {memory!r}")
        self.net, self.convention, self.memory = net, convention, memory
        self.alpha, self.beta = _weight("alpha", alpha, net), _weight("beta", beta, net)
        self.tv_weight = _weight("tv_weight", tv_weight, net)
        self.content_layers, self.style_layers = _as_tuple(content_layers), _as_tuple(style_layers)
        self.style_layer_weights = _layer_weights(style_layer_weights, self.style_layers)
        if content is None or not _any(alpha):
            content, self.content_layers = None, ()
        if style is None or not _any(beta):
            style, self.style_layers = None, ()
        if not self.content_layers and not self.style_layers:
            raise ValueError(
                "nothing to match: give a content image with alpha > 0, or a style image with "
                f"beta > 0, and layers (got alpha={alpha!r}, beta={beta!r})"
            )
        self._content = content
        self._styles = [style] if torch.is_tensor(style) else list(style or ())
        # The paper's and the lecture's losses are left as they are written.
        self._content_scale = net.content_scale if convention == "normalised" else 1.0
        # Buffers, so that .to(device) moves them along.
        if self.content_layers:
            maps = self._look([content], self.content_layers, lambda _, maps, rows: maps)
            for name in self.content_layers:
                self.register_buffer(f"content_{name}", maps[name])
        if self.style_layers:
            grams = self._look(
                self._styles, self.style_layers, lambda _, maps, rows: gram_matrix(maps)
            )
            for name in self.style_layers:
                self.register_buffer(f"style_{name}", grams[name])
        self._checked_shape: torch.Size | None = None

    @property
    def device(self) -> torch.device:
        """Where pictures must be to be judged."""
        return self.net.device

    @property
    def weights(self) -> tuple[float, ...]:
        """All weights as they are now: ``optimize`` notices where they are turned as it runs."""
        ratio = [torch.as_tensor(weight).flatten() for weight in (self.alpha, self.beta)]
        return (*torch.cat(ratio).tolist(), self.tv_weight, *self.style_layer_weights.values())

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
            self._check_targets(image)
            check_memory(self.memory_needed(image.shape), image.shape, self.device)
            self._checked_shape = image.shape
        sums = self.net(image, layers, then=self._sums, low_memory=self.memory == "low")
        content = style = image.new_zeros(image.shape[0])
        for name, (squares, gram, positions) in sums.items():
            if name in self.content_layers:
                values = self.get_buffer(f"content_{name}")[0].numel()
                loss = _content_of(squares, values, self.convention)
                content = content + self._content_scale * loss / len(self.content_layers)
            if name in self.style_layers:
                target = self.get_buffer(f"style_{name}")
                loss = _style_of(gram, target, positions, self.convention)
                style = style + self.style_layer_weights[name] * loss
        tv = total_variation(image) if self.tv_weight else torch.zeros_like(content)
        total = self.alpha * content + self.beta * style + self.tv_weight * tv
        return LossTerms(total, content, style, tv)

    def resized(self, scale: float) -> StyleTransferLoss:
        """Return the same loss for pictures smaller by a factor: content and style shrink alike.

        Parameters
        ----------
        scale : float
            Of each side, rounded; see ``resize_image``.
        """
        return StyleTransferLoss(
            self.net,
            None if self._content is None else resize_image(self._content, scale),
            [resize_image(style, scale) for style in self._styles] or None,
            alpha=self.alpha,
            beta=self.beta,
            content_layers=self.content_layers,
            style_layers=self.style_layers,
            style_layer_weights=self.style_layer_weights or None,
            tv_weight=self.tv_weight,
            convention=self.convention,
            memory=self.memory,
        )

    def memory_needed(self, shape: Iterable[int]) -> int:
        """Return about how many bytes an evaluation and its way back take at their peak.

        Parameters
        ----------
        shape : iterable of int
            (B, 3, H, W) of the picture.
        """
        batch, _, height, width = shape
        values = self.net.values_per_pixel({*self.content_layers, *self.style_layers})
        kept = sum(values.values())
        if self.memory == "low":
            pools = sum(v for name, v in values.items() if name.startswith("pool"))
            # Of the rest one strip is there, 64 rows of block 1 or as much of a deeper block.
            kept = 2 * pools + (kept - pools) * min(1, 96 / height)
        widest = max(values.values()) * (min(1, 96 / height) if self.memory == "low" else 1)
        # On the way back there are some gradients beside what is kept; found by measuring.
        per_pixel = kept * self.net.bytes_per_value + 3 * widest
        return round(batch * height * width * per_pixel)

    def _check_targets(self, image: torch.Tensor) -> None:
        for name in self.content_layers:
            target = self.get_buffer(f"content_{name}")
            _check_batches(image, target)
            size = tuple(side >> halvings(name) for side in image.shape[2:])
            if target.shape[2:] != size:
                raise ValueError(
                    f"at {name} the picture has {size[0]} x {size[1]} positions and the content "
                    f"{target.shape[2]} x {target.shape[3]}, which differ in shape: the picture "
                    "must be as large as the content image"
                )
        for name in self.style_layers:
            _check_batches(image, self.get_buffer(f"style_{name}"))

    def _sums(self, name: str, maps: torch.Tensor, rows: slice) -> tuple:
        """Return what the losses need of these rows of a layer: sums over positions."""
        squares = gram = maps.new_zeros((), dtype=torch.float32)
        if name in self.content_layers:
            squares = _squares(maps, self.get_buffer(f"content_{name}")[:, :, rows])
        if name in self.style_layers:
            gram = gram_matrix(maps, normalise=False)
        return squares, gram, maps.shape[2] * maps.shape[3]

    @torch.no_grad()
    def _look(
        self, images: Iterable[torch.Tensor], layers: tuple[str, ...], then: Callable
    ) -> dict[str, torch.Tensor]:
        """Return what a target's layers answer, image by image."""
        answers = []
        for image in images:
            self.net.check(layers, image.shape)
            values = max(self.net.values_per_pixel(layers).values())
            # Without a way back, two layers are there at a time.
            check_memory(round(8 * values * image[:, 0].numel()), image.shape, self.device)
            answers.append(self.net(image.to(self.device), layers, then=then))
        return {name: torch.cat([answer[name] for answer in answers]) for name in layers}


def _exact(values: torch.Tensor) -> torch.Tensor:
    """Return half-precision values as float32: sums over a picture need it."""
    return values.float() if values.dtype.itemsize < 4 else values


def _check_convention(convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}; got {convention!r}")


def _check_batches(features: torch.Tensor, target: torch.Tensor) -> None:
    if target.shape[0] not in (1, features.shape[0]):
        raise ValueError(
            f"{target.shape[0]} targets for {features.shape[0]} pictures: give one for all, or one "
            "for each"
        )


def _weight(name: str, value: float | Sequence[float], net: Features) -> float | torch.Tensor:
    values = torch.as_tensor(value, dtype=torch.float32)
    if values.dim() > 1 or not (values.isfinite().all() and (values >= 0).all()):
        raise ValueError(f"{name} must be a number >= 0; got {value!r}")
    return values.to(net.device) if values.dim() else float(value)


def _any(weight: float | Sequence[float]) -> bool:
    return bool(torch.as_tensor(weight).any())


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
