"""Feature maps of a layer to numbers: pure functions.

Symbols as in [1]_: F are the feature maps of the image that is optimised, P those of the content
image, G and A the Gram matrices of the image and of the style image; N is the number of filters,
M = H * W the number of positions.

The losses of a batch are (B,) tensors. Three conventions are in use, which differ by constants:

============  =========================  ==============================  ========================
convention    content loss               style loss of one layer         who
============  =========================  ==============================  ========================
normalised    mean (F - P)^2             mean (G - A)^2, G = F F^T / M   the default here
paper         1/2 sum (F - P)^2          sum (G - A)^2 / (4 N^2 M^2),    [1]_, equations 1 and 4
                                         G = F F^T
lecture       mean (F - P)^2             mean (G - A)^2 / (N M),         the lecture's code
                                         G = F F^T
============  =========================  ==============================  ========================

References
----------
.. [1] Gatys, Ecker & Bethge 2016, "Image style transfer using convolutional neural networks"
.. [2] Mahendran & Vedaldi 2015, "Understanding deep image representations by inverting them"
.. [3] Gatys, Ecker, Bethge, Hertzmann & Shechtman 2017, "Controlling perceptual factors in neural
   style transfer"
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch

from nst_helpers import _validate
from nst_helpers.engine.scales import per_position, scale_content, scale_style
from nst_helpers.engine.sums import guided_products, sum_of_products, sum_of_squares
from nst_helpers.engine.threads import sum_per_image

__all__ = ["content_loss", "gram_matrix", "style_loss", "total_variation"]

Convention = Literal["normalised", "paper", "lecture"]


def gram_matrix(
    features: torch.Tensor, normalise: bool = True, masks: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the Gram matrix: correlations of filter responses, not centred.

    How often each two filters are active together, wherever that is: G_ij = sum_k F_ik F_jk ([1]_,
    equation 3), divided by the number of positions M unless ``normalise=False``, so that an image's
    size does not matter.

    Parameters
    ----------
    features : torch.Tensor
        (B, N, H, W).
    normalise : bool
        Divide by M = H * W.
    masks : torch.Tensor, optional
        (B or 1, R, H, W) in [0, 1]: how much of a position is in each of R regions. Then there is a
        matrix for each region ([3]_, section 4), divided by the sum of its mask.

    Returns
    -------
    torch.Tensor
        (B, N, N), or (B, R, N, N) with masks; symmetric. A mask of ones changes no bit, and of a
        mask of zeros it is 0.
    """
    _validate.tensor("features", features, _validate.MAPS, "BNHW")
    normalise = _validate.flag("normalise", normalise)
    if masks is not None:
        products = guided_products(features, masks)
        return per_position(products, masks) if normalise else products
    gram = sum_of_products(features)
    return gram / (features.shape[2] * features.shape[3]) if normalise else gram


def content_loss(
    features: torch.Tensor, target: torch.Tensor, convention: Convention = "normalised"
) -> torch.Tensor:
    """Return the content loss: squared error of the feature maps ([1]_, equation 1).

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
    return scale_content(sum_of_squares(features, target), features[0].numel(), convention)


def style_loss(
    features: torch.Tensor,
    target: torch.Tensor,
    convention: Convention = "normalised",
    masks: torch.Tensor | None = None,
    region_weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Return one layer's style loss: squared error of the Gram matrix ([1]_, equation 4).

    Parameters
    ----------
    features : torch.Tensor
        F, (B, N, H, W).
    target : torch.Tensor
        The style image's feature maps, (B or 1, N, any height, any width), or their Gram matrix
        as ``gram_matrix`` gives it, (B or 1, N, N).
    convention : {"normalised", "paper", "lecture"}
        See the module's table; "paper" is equation 4 as it stands.
    masks : torch.Tensor, optional
        (B or 1, R, H, W) in [0, 1]. Then the target is (B or 1, R, N, N), ``gram_matrix`` of the
        style with masks; region r is for region r, and counts as its share of the positions.
    region_weights : sequence of float, optional
        A factor for each region, lambda_r of [3]_; 1 by default.

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
    if masks is None and target.dim() == 4:
        target = gram_matrix(target)
    if masks is None and target.shape[1:] != (filters, filters):
        raise ValueError(
            f"features of {filters} filters cannot match a target whose Gram matrix has the shape "
            f"{tuple(target.shape)}"
        )
    if masks is None:
        products = sum_of_products(features, near=target)
    else:
        products = guided_products(features, masks)
    return scale_style(products, target, height * width, convention, masks, region_weights)


def total_variation(image: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference between neighbouring pixels, a penalty on roughness.

    Not in the papers by Gatys et al.: [2]_ (section 3) uses it for smooth reconstructions.

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
