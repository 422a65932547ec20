"""Image to named feature maps: the VGG layout, as Gatys et al. use it.

References
----------
.. [1] Simonyan & Zisserman 2015, "Very deep convolutional networks for large-scale image
   recognition"
.. [2] Gatys, Ecker & Bethge 2016, "Image style transfer using convolutional neural networks",
   section 2
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import skip_init

from nst_helpers import _validate
from nst_helpers.engine.devices import PRECISIONS, Precision, own_modes
from nst_helpers.engine.pooling import average_pool
from nst_helpers.network.convolutions import validate_convolutions

__all__ = ["Features"]

Pooling = Literal["avg", "max"]
NamedMaps = Iterator[tuple[str, torch.Tensor]]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Features(nn.Module):
    """A frozen convolutional network [1]_ that returns the named feature maps.

    Parameters
    ----------
    weights : dict of str to torch.Tensor
        ``convB_I.weight`` (out, in, 3, 3) and ``convB_I.bias`` (out,), in the network's order.
    pooling : {"avg", "max"}
        Between blocks, 2 x 2. Average by default: [2]_ found that it gives slightly more appealing
        pictures than VGG's own max pooling.
    name : str
        What to call it in messages.
    content_scale : float
        ``StyleTransferLoss`` multiplies the content loss by it, so that the lecture's 1e-4 to 1e-1
        mean the same on a network whose deep activations are smaller; 1 for VGG.
    source : str
        Where the weights came from, as ``load_network`` takes it; "" if not from there.

    Attributes
    ----------
    layers : tuple of str
        All layers it has: ``convB_I`` is a convolution's output, ``reluB_I`` the rectified one,
        ``poolB`` what follows block B.
    """

    mean: torch.Tensor
    std: torch.Tensor

    @own_modes()
    def __init__(
        self,
        weights: dict[str, torch.Tensor],
        pooling: Pooling = "avg",
        name: str = "network",
        content_scale: float = 1.0,
        source: str = "",
    ) -> None:
        super().__init__()
        weights = validate_convolutions("weights", weights)
        _validate.one_of("pooling", pooling, get_args(Pooling))
        self.content_scale = _validate.positive_number("content_scale", content_scale)
        for argument, text in (("name", name), ("source", source)):
            _validate.instance(argument, text, str, "a text")
        self.pooling, self.name, self.source = pooling, name, source
        self.convolutions = nn.ModuleDict()
        for layer in dict.fromkeys(key.split(".")[0] for key in weights):
            weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
            sizes, options = weight.shape[1::-1], {"padding": 1, "dtype": torch.float32}
            # Without torch's own first weights, which would take from its random numbers.
            conv = skip_init(nn.Conv2d, *sizes, 3, **options)
            conv.load_state_dict({"weight": weight, "bias": bias})
            # Channels last: what convolutions in bfloat16 are fastest with, on CPUs and GPUs.
            self.convolutions[layer] = conv.to(memory_format=torch.channels_last)
        for buffer, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            numbers = torch.tensor(values, dtype=torch.float32, device="cpu")
            self.register_buffer(buffer, numbers.view(1, 3, 1, 1))
        self.layers = tuple(_with_relu_and_pool(self.convolutions))
        self.precision: Precision = "float32"
        self.eval().requires_grad_(False)

    @own_modes()
    def to_precision(self, precision: Precision) -> Features:
        """Compute in this dtype from now on, and return this network.

        Parameters
        ----------
        precision : {"float32", "bfloat16"}
            Sums within a convolution, Gram matrices and losses are float32 in both.
        """
        _validate.one_of("precision", precision, PRECISIONS)
        self.precision = precision
        self.convolutions.to(PRECISIONS[precision])
        return self

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.mean.device

    @own_modes()
    def forward(self, images: torch.Tensor, layers: Iterable[str]) -> dict[str, torch.Tensor]:
        """Return the named layers' feature maps.

        Parameters
        ----------
        images : torch.Tensor
            (B, 3, H, W) RGB in [0, 1]; ImageNet's mean and standard deviation are applied here.
        layers : iterable of str
            Names out of ``self.layers``.

        Returns
        -------
        dict of str to torch.Tensor
            ``{"relu4_2": (B, N, H/8, W/8), ...}``, float32: sides are halved, rounding up, by
            each pool.

        Raises
        ------
        ValueError
            If a layer does not exist, or the images are too small for it.
        """
        layers = self.named("layers", layers)
        _validate.tensor("images", images, _validate.IMAGE, "B3HW")
        _validate.same_device("images", images, self.device)
        if not images.requires_grad:
            _validate.image("images", images)
        maps = self.activations(images.float(), layers)
        return {layer: values.float().contiguous() for layer, values in maps}

    def named(self, argument: str, layers: Iterable[str]) -> tuple[str, ...]:
        """Return layers as a tuple, if it has them all; ``argument`` is their name in messages."""
        layers = _validate.names(argument, layers, _validate.LAYERS)
        for layer in layers:
            if layer not in self.layers:
                raise ValueError(
                    f"{argument}: the {self.name} has no layer {_validate.shown(layer)}; it has "
                    f"{', '.join(self.layers)}"
                )
        return layers

    def activations(self, images: torch.Tensor, layers: Iterable[str]) -> NamedMaps:
        """Yield each named layer and its maps, (B, N, H', W') in the network's precision.

        In the order of the network; nothing deeper is computed. Arguments as for ``forward``.
        """
        named = set(layers)
        self.validate(named, images.shape)
        x = self.normalised(images)
        for layer in itertools.chain.from_iterable(self.blocks(named)):
            x = self.compute(layer, x, named)
            if layer in named:
                yield layer, x

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (B, 3, H, W) as the first convolution takes them."""
        x = (images - self.mean) / self.std
        return x.to(PRECISIONS[self.precision], memory_format=torch.channels_last)

    def compute(self, layer: str, x: torch.Tensor, named: set[str]) -> torch.Tensor:
        """Return one layer's output for its input ``x`` (B, N, H', W'), which it may overwrite."""
        if layer.startswith("conv"):
            return cast(torch.Tensor, self.convolution(layer)(x))
        if layer.startswith("relu"):
            # In place saves memory, but torchvision's VGG overwrites convB_I with reluB_I by it, so
            # that code that collects "conv4_2" from it really gets relu4_2.
            return F.relu(x, inplace=layer.replace("relu", "conv") not in named)
        # Rounding up, as in Caffe, in which the papers were computed: with torchvision's rounding
        # down deep layers do not see the last rows and columns, and nothing is painted there.
        # (B, N, H' / 2, W' / 2), rounded up
        return average_pool(x) if self.pooling == "avg" else F.max_pool2d(x, 2, ceil_mode=True)

    def convolution(self, layer: str) -> nn.Conv2d:
        """Return the convolution ``convB_I``."""
        return cast(nn.Conv2d, self.convolutions[layer])

    def blocks(self, named: set[str]) -> Iterator[list[str]]:
        """Yield the layers to compute, block by block, each with its pool, to the last named."""
        block: list[str] = []
        last = max((self.layers.index(layer) for layer in named), default=-1)
        for layer in self.layers[: last + 1]:
            block.append(layer)
            if layer.startswith("pool") or layer == self.layers[last]:
                yield block
                block = []

    def validate(self, layers: Iterable[str], shape: Iterable[int], name: str = "image") -> None:
        """Raise ValueError unless images of ``shape`` (B, 3, H, W) have all these layers."""
        shape = tuple(shape)
        for layer in self.named("layers", layers):
            if min(shape[2:]) < stride(layer):
                raise ValueError(
                    f"{name} of {shape[3]} x {shape[2]} pixels (width x height) is too small for "
                    f"{layer}: each side must be at least {stride(layer)}"
                )


def block_of(layer: str) -> int:
    """Return the block of a layer: 4 for "relu4_2"."""
    return int(layer[4])


def map_size(layer: str, shape: Iterable[int]) -> tuple[int, ...]:
    """Return the sides of a layer's maps (H', W') for images of ``shape`` (B, 3, H, W)."""
    return tuple(-(-side // stride(layer)) for side in tuple(shape)[2:])


def stride(layer: str) -> int:
    """Return how many pixels of the image one position of a layer stands for: 8 for "relu4_2"."""
    pools = block_of(layer) - (0 if layer.startswith("pool") else 1)
    return 1 << pools


def _with_relu_and_pool(convolutions: Iterable[str]) -> Iterator[str]:
    for block, names in itertools.groupby(convolutions, block_of):
        for name in names:
            yield name
            yield name.replace("conv", "relu")
        yield f"pool{block}"
