"""Whose colours the result has: the style's brought to the content's, luminance alone, or put back.

Three ways to paint with one picture's strokes and another's colours ([1]_, [2]_, section 5):

- ``match_colors`` before the transfer: a linear map gives the style the content's colours;
- the transfer sees luminance only: grey content and grey style (``luminance``,
  ``match_luminance``), and ``with_luminance`` gives the result the content's chroma;
- ``restore_colors`` after a transfer in colour does the same to any result.

The luminance-chrominance space is YIQ, as in [1]_: Y is luminance, I and Q are differences of
colours, which adding the same to red, green and blue does not change.

References
----------
.. [1] Gatys, Bethge, Hertzmann & Shechtman 2016, "Preserving color in neural artistic style
   transfer"
.. [2] Gatys, Ecker, Bethge, Hertzmann & Shechtman 2017, "Controlling perceptual factors in neural
   style transfer"
.. [3] Pitié & Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping for
   example-based colour transfer"
"""

from __future__ import annotations

from typing import Literal, get_args

import torch

from nst_helpers import _validate

__all__ = [
    "ColorMatching",
    "color_statistics",
    "luminance",
    "match_colors",
    "match_luminance",
    "restore_colors",
    "with_luminance",
]

ColorMatching = Literal["symmetric", "eigenvalue", "cholesky"]

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue: Y of YIQ
# Variances that are no signal: less than one of 255 levels in the picture whose colours change,
# which would be magnified, and rounding in the one they are taken from.
FLAT, ROUNDING = 1 / 255**2, 1e-10


def match_colors(
    image: torch.Tensor,
    reference: torch.Tensor,
    method: ColorMatching = "symmetric",
    *,
    image_mask: torch.Tensor | None = None,
    reference_mask: torch.Tensor | None = None,
    clip: bool = True,
) -> torch.Tensor:
    """Return the image with the reference's mean colour and covariance of colours.

    Each pixel x becomes A x + b, with A S A^T = S', where S and S' are the covariances of image
    and reference ([2]_, section 5.2). That leaves A free up to a rotation; hence three methods.

    Parameters
    ----------
    image : torch.Tensor
        (B, 3, H, W) in [0, 1]: for a transfer that keeps the content's colours, the style.
    reference : torch.Tensor
        (B, 3, any height, any width): the content. Where one of both has a batch of 1, it is for
        all images of the other.
    method : {"symmetric", "eigenvalue", "cholesky"}
        See Notes.
    image_mask, reference_mask : torch.Tensor, optional
        (B or 1, 1, H, W), weights of the pixels in mean and covariance: 0 where a picture is
        transparent. Every pixel is transformed.
    clip : bool
        Clip the values to [0, 1], after which the moments are a little off.

    Returns
    -------
    torch.Tensor
        (B, 3, H, W).

    Raises
    ------
    ValueError
        If there is no such method, something is not an image, or a mask leaves no pixel.

    Notes
    -----
    ============  ==========================================  ================================
    method        A                                           what it is
    ============  ==========================================  ================================
    "symmetric"   S^-1/2 (S^1/2 S' S^1/2)^1/2 S^-1/2          symmetric and positive: colours
                                                              are stretched along three axes
                                                              and never rotated; of all A it
                                                              moves them least (Monge and
                                                              Kantorovich's transport) [3]_
    "eigenvalue"  S'^1/2 S^-1/2                               roots by eigenvalues: the "image
                                                              analogies" form of [1]_
    "cholesky"    L' L^-1, with S = L L^T                     lower triangular: red depends on
                                                              red alone, so that the order of
                                                              the channels matters
    ============  ==========================================  ================================

    "symmetric" is the default because what is blue or bright in the image stays as blue or bright
    as the covariances allow; the others may rotate hues on the way.

    Directions in which the image has next to no variance (grey or flat pictures) are not magnified
    without bound: what is less than a level of 255 counts as one. Their covariance then stays
    below the reference's.
    """
    _validate.one_of("method", method, get_args(ColorMatching))
    _validate.image("image", image)
    _validate.image("reference", reference)
    larger, other = (image, reference) if len(image) >= len(reference) else (reference, image)
    _validate.same_batch(larger, other, "references")
    mean, covariance = color_statistics(image, image_mask, "image_mask")
    target_mean, target_covariance = color_statistics(reference, reference_mask, "reference_mask")
    transform = _transform(
        _power(covariance, 1, FLAT), _power(target_covariance, 1, ROUNDING), method
    )
    offset = target_mean - (transform @ mean.unsqueeze(2)).squeeze(2)
    matched = torch.einsum("bij,bjhw->bihw", transform.to(image), image)
    matched = matched + offset.to(image)[:, :, None, None]
    return matched.clamp(0, 1) if _validate.flag("clip", clip) else matched


def color_statistics(
    image: torch.Tensor, mask: torch.Tensor | None = None, name: str = "mask"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean colours (B, C) and their covariances (B, C, C), in float64 on the CPU.

    Parameters
    ----------
    image : torch.Tensor
        (B, C, H, W).
    mask : torch.Tensor, optional
        (B or 1, 1, H, W) or (H, W), at least 0: weights of the pixels.
    name : str
        What to call it in messages.

    Returns
    -------
    mean : torch.Tensor
        Per pixel: divided by the sum of the weights.
    covariance : torch.Tensor
        Likewise.
    """
    pixels = (
        image.detach().cpu().double().flatten(2)
    )  # (B, C, M); on the CPU, for MPS has no float64
    weights = torch.full_like(pixels[:, :1], 1 / pixels.shape[2])
    if mask is not None:
        weights = weights * _pixel_weights(name, mask, image)
    total = weights.sum(2, keepdim=True)
    if not (total > 0).all():
        raise ValueError(f"{name} leaves no pixel: all its values are 0")
    weights = weights / total
    mean = (weights * pixels).sum(2)
    centred = pixels - mean.unsqueeze(2)
    return mean, (weights * centred) @ centred.mT


def luminance(image: torch.Tensor) -> torch.Tensor:
    """Return Y of YIQ, (B, 1, H, W): how bright the pixels of an image (B, 3, H, W) are."""
    return _luminance(_validate.image("image", image))


def with_luminance(image: torch.Tensor, luminance: torch.Tensor) -> torch.Tensor:
    """Return the image with other luminance; its chroma, I and Q of YIQ, stays.

    Parameters
    ----------
    image : torch.Tensor
        (B, 3, H, W).
    luminance : torch.Tensor
        (B or 1, 1, H, W).

    Returns
    -------
    torch.Tensor
        (B, 3, H, W). Values may pass [0, 1]: a bright pixel cannot be very blue. See
        ``restore_colors`` for one that may be shown.
    """
    expected = (1, *image.shape[2:])
    if luminance.dim() != 4 or luminance.shape[1:] != expected:
        raise ValueError(
            f"luminance must be (B, 1, {expected[1]}, {expected[2]}), as large as the image; got "
            f"shape {tuple(luminance.shape)}"
        )
    # In YIQ each of red, green and blue is Y and a multiple of I and Q: a new Y adds to all alike.
    return image + (luminance - _luminance(image))


def match_luminance(
    luminance: torch.Tensor,
    reference: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    reference_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return luminance with the reference's mean and standard deviation ([2]_, section 5.1).

    Parameters
    ----------
    luminance, reference : torch.Tensor
        (B, 1, H, W) and (B or 1, 1, any height, any width): of style and content.
    mask, reference_mask : torch.Tensor, optional
        As for ``match_colors``.

    Returns
    -------
    torch.Tensor
        (B, 1, H, W), s' / s (Y - m) + m'. Values may pass [0, 1].
    """
    mean, variance = color_statistics(luminance, mask)
    target_mean, target_variance = color_statistics(reference, reference_mask, "reference_mask")
    gain = (target_variance / variance.clamp_min(FLAT)).sqrt()
    offset = target_mean - gain[:, :, 0] * mean
    return gain.to(luminance).unsqueeze(3) * luminance + offset.to(luminance)[:, :, None, None]


def restore_colors(result: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """Return the result's luminance in the content's colours, as an image in [0, 1].

    Parameters
    ----------
    result : torch.Tensor
        (B, 3, H, W).
    content : torch.Tensor
        (B or 1, 3, H, W): as large as the result.

    Returns
    -------
    torch.Tensor
        (B, 3, H, W) in [0, 1]. Where a colour does not exist at that luminance it is paler: hue
        and luminance are kept, which clipping would change.
    """
    _validate.image("result", result)
    _validate.image("content", content)
    _validate.same_batch(result, content)
    if content.shape[2:] != result.shape[2:]:
        raise ValueError(
            f"the content {tuple(content.shape)} must be as large as the result "
            f"{tuple(result.shape)}: its colours are put back pixel by pixel"
        )
    grey = _luminance(result).clamp(0, 1)
    chroma = content - _luminance(content)
    # How much of the chroma fits between black and white, by its channel that sticks out most.
    room = torch.where(chroma > 0, 1 - grey, grey) / chroma.abs().clamp_min(1e-9)
    return (grey + chroma * room.amin(1, keepdim=True).clamp(0, 1)).clamp(0, 1)


def _luminance(image: torch.Tensor) -> torch.Tensor:
    return (image * image.new_tensor(LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _transform(
    covariance: torch.Tensor, target: torch.Tensor, method: ColorMatching
) -> torch.Tensor:
    """Return A, (B, 3, 3), for covariances of full rank."""
    if method == "cholesky":
        matrix: torch.Tensor = torch.linalg.cholesky(target) @ torch.linalg.inv(
            torch.linalg.cholesky(covariance)
        )
        return matrix
    root, inverse = _power(covariance, 0.5), _power(covariance, -0.5)
    if method == "eigenvalue":
        return _power(target, 0.5) @ inverse
    return inverse @ _power(root @ target @ root, 0.5) @ inverse


def _power(matrix: torch.Tensor, exponent: float, least: float = 1e-30) -> torch.Tensor:
    """Return a power of symmetric matrices (B, 3, 3), whose eigenvalues are ``least`` or more."""
    values, vectors = torch.linalg.eigh(matrix)
    power: torch.Tensor = (
        vectors * values.clamp_min(least).pow(exponent).unsqueeze(1)
    ) @ vectors.mT
    return power


def _pixel_weights(name: str, mask: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Return a mask as weights (B or 1, 1, M) in float64."""
    what = f"a mask (B or 1, 1, {image.shape[2]}, {image.shape[3]}), as large as the image"
    if isinstance(mask, torch.Tensor) and mask.layout is torch.strided and not mask.is_nested:
        mask = mask.float() if mask.dtype == torch.bool else mask
        mask = mask[None, None] if mask.dim() == 2 else mask
    _validate.tensor(name, mask, what, "B1HW")
    if mask.shape[2:] != image.shape[2:]:
        raise _validate.wrong(name, what, mask)
    _validate.same_batch(image, mask, name)
    weights = mask.detach().cpu().double().flatten(2)
    if not (weights.isfinite().all() and (weights >= 0).all()):
        raise ValueError(f"{name} must be finite and at least 0; got values that are not")
    return weights
