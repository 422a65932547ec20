"""Image to named feature maps: the VGG layout of Simonyan & Zisserman, as Gatys et al. use it."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from nst_helpers.engine.devices import PRECISIONS, best_device, best_precision
from nst_helpers.images import load_image, sample_images
from nst_helpers.network.weights import load_weights

__all__ = ["Features", "load_network", "normalise_activations"]

Sums = tuple[torch.Tensor, ...]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Features(nn.Module):
    """A frozen convolutional network that answers with the feature maps you name.

    Parameters
    ----------
    weights : dict of str to torch.Tensor
        ``convB_I.weight`` (out, in, 3, 3) and ``convB_I.bias`` (out,), in the network's order.
    pooling : {"avg", "max"}
        Between blocks, 2 x 2. Average by default: Gatys et al. 2016 (section 2) found that it
        gives slightly more appealing pictures than VGG's own max pooling.
    name : str
        What to call it in messages.
    content_scale : float
        Where the network's axis of alpha/beta sits: ``StyleTransferLoss`` multiplies the content
        loss by it, so that the lecture's 1e-4 to 1e-1 mean the same on a network whose deep
        layers answer more weakly. 1 for VGG; the bundled network's file names its own.

    Attributes
    ----------
    layers : tuple of str
        All layers it can answer with: ``convB_I`` is a convolution's output, ``reluB_I`` the
        rectified one, ``poolB`` what follows block B.
    """

    def __init__(
        self,
        weights: dict[str, torch.Tensor],
        pooling: str = "avg",
        name: str = "network",
        content_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if pooling not in ("avg", "max"):
            raise ValueError(f"pooling must be 'avg' or 'max'; got {pooling!r}")
        self.pooling, self.name, self.content_scale = pooling, name, content_scale
        self.convolutions = nn.ModuleDict()
        for key, weight in weights.items():
            if key.endswith(".weight"):
                conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
                conv.load_state_dict({"weight": weight, "bias": weights[key[:-6] + "bias"]})
                # Channels last: what convolutions in bfloat16 are fastest with, on CPUs and GPUs.
                self.convolutions[key[:-7]] = conv.to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.layers = tuple(_with_relu_and_pool(self.convolutions))
        self.eval().requires_grad_(False).to_precision("float32")

    def to_precision(self, precision: str) -> Features:
        """Compute in these numbers from now on, and return this network.

        Parameters
        ----------
        precision : {"float32", "bfloat16"}
            Sums within a convolution, Gram matrices and losses are float32 in both.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
        self.precision = precision
        self.convolutions.to(PRECISIONS[precision])
        return self

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.mean.device

    @property
    def bytes_per_value(self) -> int:
        """How large one activation is."""
        return PRECISIONS[self.precision].itemsize

    def forward(
        self,
        images: torch.Tensor,
        layers: Iterable[str],
        *,
        then: Callable[[str, torch.Tensor, slice], Sums] | None = None,
        low_memory: bool = False,
    ) -> dict[str, torch.Tensor | Sums]:
        """Return the named layers' feature maps; nothing deeper is computed.

        Parameters
        ----------
        images : torch.Tensor
            (B, 3, H, W) RGB in [0, 1]; ImageNet's mean and standard deviation are applied here.
        layers : iterable of str
            Names out of ``self.layers``.
        then : callable, optional
            For sums over positions, such as Gram matrices, without keeping the maps: called with
            a layer's name, its maps as the network computed them (own precision, channels last),
            and the rows that these are. It returns a tuple of tensors, which is returned instead
            of the maps.
        low_memory : bool
            With ``then``: compute each block in strips of 64 rows (and what they see of their
            neighbours), add up the strips' tuples, keep only what goes from block to block, and
            compute each strip again on the way back: half as much arithmetic again.

        Returns
        -------
        dict of str to torch.Tensor
            ``{"relu4_2": (B, N, H/8, W/8), ...}``, float32: sides are halved, rounding down, by
            each pool.

        Raises
        ------
        ValueError
            If a layer does not exist, or the images are too small for it.
        """
        wanted = set(layers)
        self.check(wanted, images.shape)
        strips = low_memory and then is not None
        then = then or (lambda _, maps, rows: maps.float().contiguous())
        found, x = {}, (images - self.mean) / self.std
        x = x.to(PRECISIONS[self.precision], memory_format=torch.channels_last)
        for block in self._blocks(wanted):
            if not strips:
                x, answers = self._run(block, x, wanted, then, slice(0, x.shape[2]))
                found |= answers
                continue
            whole, parts = x, []
            for rows in _strips(x.shape[2]):
                part, answers = checkpoint(
                    *(self._run, block, whole, wanted, then, rows),
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
                parts.append(part)
                for layer, sums in answers.items():
                    before = found.get(layer, (0,) * len(sums))
                    found[layer] = tuple(a + b for a, b in zip(before, sums, strict=True))
            x = torch.cat(parts, 2)
        return found

    def _blocks(self, wanted: set[str]) -> Iterable[list[str]]:
        """Yield the layers to compute, block by block, each with its pool, to the last wanted."""
        block = []
        last = max((self.layers.index(layer) for layer in wanted), default=-1)
        for layer in self.layers[: last + 1]:
            block.append(layer)
            if layer.startswith("pool") or layer == self.layers[last]:
                yield block
                block = []

    def _run(
        self, block: list[str], x: torch.Tensor, wanted: set[str], then: Callable, rows: slice
    ) -> tuple[torch.Tensor, dict[str, Sums]]:
        """Return what ``block`` makes of these rows of its input."""
        # Each convolution sees one row further; what lacks its neighbours is cut off again.
        margin = sum(layer.startswith("conv") for layer in block)
        top = max(0, rows.start - margin)
        x = _rows(x, slice(top, min(x.shape[2], rows.stop + margin)))
        inner, found = slice(rows.start - top, rows.stop - top), {}
        for layer in block:
            if layer.startswith("conv"):
                x = self.convolutions[layer](x)
            elif layer.startswith("relu"):
                # In place saves memory, but torchvision's VGG overwrites convB_I with reluB_I by
                # it, so that code that collects "conv4_2" from it really gets relu4_2.
                x = F.relu(x, inplace=layer.replace("relu", "conv") not in wanted)
            else:
                x = _rows(x, inner)
                x = F.avg_pool2d(x, 2) if self.pooling == "avg" else F.max_pool2d(x, 2)
                inner = slice(0, x.shape[2])
                rows = slice(rows.start // 2, rows.start // 2 + x.shape[2])
            if layer in wanted:
                found[layer] = then(layer, _rows(x, inner), rows)
        return _rows(x, inner), found

    def check(self, layers: Iterable[str], shape: Iterable[int]) -> None:
        """Raise ValueError unless images of ``shape`` (B, 3, H, W) have all these layers."""
        shape = tuple(shape)
        if len(shape) != 4 or shape[1] != 3:
            raise ValueError(f"expected images of shape (B, 3, H, W); got {shape}")
        for layer in layers:
            if layer not in self.layers:
                raise ValueError(
                    f"the {self.name} has no layer {layer!r}; it has {', '.join(self.layers)}"
                )
            least = 2 ** halvings(layer)
            if min(shape[2:]) < least:
                raise ValueError(
                    f"an image of {shape[3]} x {shape[2]} pixels (width x height) is too small for "
                    f"{layer}: each side must be at least {least}"
                )

    def values_per_pixel(self, layers: Iterable[str]) -> dict[str, float]:
        """Return how many values per pixel are held for the way back, to reach ``layers``.

        Parameters
        ----------
        layers : iterable of str

        Returns
        -------
        dict of str to float
            For each rectification and pool that is computed: N / 4^pools.
        """
        values, channels = {}, 3
        for block in self._blocks(set(layers)):
            for layer in block:
                if layer.startswith("conv"):
                    channels = self.convolutions[layer].out_channels
                else:
                    values[layer] = channels / 4 ** halvings(layer)
        return values


def load_network(
    source: str | os.PathLike = "auto",
    *,
    pooling: str = "avg",
    normalise: bool = True,
    device: torch.device | str | None = None,
    precision: str = "auto",
) -> Features:
    """Return a network that is ready to look at images.

    Parameters
    ----------
    source : str or path
        ``"auto"``, ``"bundled"``, ``"vgg19"``, ``"random"`` or a file: see ``load_weights``. Only
        ``"vgg19"`` ever downloads (548 MB).
    pooling : {"avg", "max"}
        See ``Features``.
    normalise : bool
        Scale the filters so that each one's mean activation over the sample pictures is 1 (Gatys
        et al. 2016, section 2). Only then do alpha, beta and the layer weights mean the same in
        every layer and every network. The bundled network's file is normalised already.
    device : optional
        Where to put it; the fastest device by default.
    precision : {"auto", "float32", "bfloat16"}
        In which numbers it computes; "auto" is the fastest here that does not change the picture,
        see ``best_precision``.

    Returns
    -------
    Features
    """
    device = device or best_device()
    precision = best_precision(device) if precision == "auto" else precision
    weights, metadata = load_weights(source)
    net = Features(weights, pooling, metadata["name"], _content_scale(metadata)).to(device)
    if normalise and not metadata.get("normalised", "").startswith(pooling):
        net = normalise_on_samples(net)
    return net.to_precision(precision)


def _content_scale(metadata: dict) -> float:
    value = metadata.get("content_scale", "1")
    try:
        scale = float(value)
    except ValueError:
        scale = math.nan
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{metadata['name']}: content_scale must be a number > 0; got {value!r}")
    return scale


def normalise_activations(net: Features, images: Iterable[torch.Tensor]) -> Features:
    """Return the same network with every filter's mean rectified activation scaled to 1.

    Gatys et al. 2015 (section 2) and 2016 (section 2): the mean is over images and positions. A
    ReLU network with average or max pooling computes exactly the same afterwards, up to one
    factor per filter: relu(s x) = s relu(x) for s > 0, and the next layer divides s out again.

    Parameters
    ----------
    net : Features
    images : iterable of torch.Tensor
        (B, 3, H, W) each; sizes may differ. A filter that they hardly excite, less than a
        thousandth of its layer's average, is scaled like the average instead: else it would
        drown all others as soon as a picture does excite it.

    Returns
    -------
    Features
        A new network; ``net`` is left as it is.
    """
    names = list(net.convolutions)
    sums, positions = {}, dict.fromkeys(names, 0)
    with torch.no_grad():
        for image in images:
            found = net(image.to(net.device), [name.replace("conv", "relu") for name in names])
            for name, maps in zip(names, found.values(), strict=True):
                sums[name] = sums.get(name, 0) + maps.double().sum((0, 2, 3))
                positions[name] += maps.shape[0] * maps.shape[2] * maps.shape[3]
    if not sums:
        raise ValueError("normalise_activations needs at least one image")
    weights, before = {}, torch.ones(3, dtype=torch.float64, device=net.device)
    for name, conv in net.convolutions.items():
        mean = sums[name] / positions[name]
        live = mean > 1e-3 * mean.max()
        typical = mean[live].mean() if live.any() else torch.ones_like(mean[0])
        mean = torch.where(mean > 1e-3 * typical, mean, typical)
        weight = conv.weight.double() * before.view(1, -1, 1, 1) / mean.view(-1, 1, 1, 1)
        weights[f"{name}.weight"] = weight.float()
        weights[f"{name}.bias"] = (conv.bias.double() / mean).float()
        before = mean
    normalised = Features(weights, net.pooling, net.name, net.content_scale)
    return normalised.to(net.device).to_precision(net.precision)


def normalise_on_samples(net: Features) -> Features:
    """Return ``normalise_activations`` of ``net`` over all pictures that come with the package.

    Paintings and textures too: a filter that hardly fires on a few photographs would be scaled up
    until it drowned all others on the one picture that does excite it.
    """
    return normalise_activations(net, [load_image(p, 160) for p in sample_images().values()])


def _with_relu_and_pool(convolutions: Iterable[str]) -> Iterable[str]:
    block = "1"
    for name in convolutions:
        if name[4] != block:
            yield f"pool{block}"
            block = name[4]
        yield name
        yield name.replace("conv", "relu")
    yield f"pool{block}"


def _strips(height: int) -> list[slice]:
    """Return rows 0 to ``height`` in strips of 64 and what is left."""
    starts = [64 * i for i in range(max(1, height // 64))]
    return [slice(a, b) for a, b in itertools.pairwise([*starts, height])]


def _rows(x: torch.Tensor, rows: slice) -> torch.Tensor:
    # All rows are left as they are: a slice would cost a copy on the way back.
    return x if (rows.start, rows.stop) == (0, x.shape[2]) else x[:, :, rows]


def halvings(layer: str) -> int:
    """Return how often the image has been halved once ``layer`` is computed."""
    return int(layer[4]) - (0 if layer.startswith("pool") else 1)
