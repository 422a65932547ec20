"""Filters on one scale: each one's mean activation is 1, as in the papers.

References
----------
.. [1] Gatys, Ecker & Bethge 2015, "Texture synthesis using convolutional neural networks",
   section 2
.. [2] Gatys, Ecker & Bethge 2016, "Image style transfer using convolutional neural networks",
   section 2
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch

from nst_helpers import _validate
from nst_helpers.engine.devices import own_modes
from nst_helpers.images import load_image, sample_images
from nst_helpers.network.features import Features

__all__ = ["normalise_activations"]

SILENT = 1e-3  # of a layer's typical mean activation: a filter below it is hardly excited


@own_modes()
def normalise_activations(net: Features, images: Iterable[torch.Tensor]) -> Features:
    """Return the same network with every filter's mean rectified activation scaled to 1.

    The mean is over images and positions [1]_, [2]_. A ReLU network with average or max pooling
    computes exactly the same afterwards, up to one factor per filter: relu(s x) = s relu(x) for
    s > 0, and the next layer divides s out again.

    Parameters
    ----------
    net : Features
    images : iterable of torch.Tensor
        (B, 3, H, W) each, in [0, 1]; sizes may differ. A filter that they hardly excite, less than
        a thousandth of its layer's average, is scaled like the average instead: else it would
        dominate the Gram matrix as soon as an image does excite it.

    Returns
    -------
    Features
        A new network; ``net`` is left as it is.

    Raises
    ------
    ValueError
        If there are no images, or one of them is none.
    """
    _validate.instance("net", net, Features, "a network, as load_network returns it")
    if isinstance(images, torch.Tensor):  # one, or a batch
        images = [images]
    images = _validate.listed("images", images, "a list of images (B, 3, H, W)")
    names = list(net.convolutions)
    relus = [name.replace("conv", "relu") for name in names]
    sums, positions = dict[str, torch.Tensor](), dict.fromkeys(relus, 0)
    with torch.no_grad():
        for i, image in enumerate(images):
            image = _validate.image(f"images[{i}]", image)
            for layer, maps in net(image.to(net.device), relus).items():
                total = maps.double().sum((0, 2, 3))  # (N,)
                sums[layer] = sums.get(layer, 0) + total
                positions[layer] += maps.shape[0] * maps.shape[2] * maps.shape[3]
    if not sums:
        raise ValueError("normalise_activations needs at least one image; got images=[]")
    weights = {}
    input_mean = torch.ones(3, dtype=torch.float64, device=net.device)
    for name, relu in zip(names, relus, strict=True):
        conv, mean = net.convolution(name), sums[relu] / positions[relu]
        live = mean > SILENT * mean.max()
        typical = mean[live].mean() if live.any() else torch.ones_like(mean[0])
        mean = torch.where(mean > SILENT * typical, mean, typical)
        weight = conv.weight.double() * input_mean.view(1, -1, 1, 1) / mean.view(-1, 1, 1, 1)
        weights[f"{name}.weight"] = weight.float()
        weights[f"{name}.bias"] = (cast(torch.Tensor, conv.bias).double() / mean).float()
        input_mean = mean
    normalised = Features(weights, net.pooling, net.name, net.content_scale, net.source)
    return normalised.to(net.device).to_precision(net.precision)


def normalise_on_samples(net: Features) -> Features:
    """Return ``normalise_activations`` of ``net`` over all pictures that come with the package.

    Paintings and textures too: a filter that hardly fires on a few photographs would be scaled up
    until it dominated the Gram matrix of the one picture that does excite it.

    Parameters
    ----------
    net : Features
    """
    return normalise_activations(net, [load_image(path, 160) for path in sample_images().values()])
