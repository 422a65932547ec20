"""Pictures to tensors and back, resizing, and white noise.

An *image* in this package is a float32 tensor (B, 3, H, W), sRGB, in [0, 1]; a *picture* is a
file, or a Pillow object. What files are, and how they come to be read and written, is in ``files``.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from nst_helpers import _validate
from nst_helpers.files import writing
from nst_helpers.files.reading import MAX_PIXELS, read_picture
from nst_helpers.files.reading import pixel_size as pixel_size
from nst_helpers.files.settings import load_settings as load_settings
from nst_helpers.files.sources import PictureFile, StrPath
from nst_helpers.files.sources import sample_images as sample_images
from nst_helpers.files.tensors import from_array
from nst_helpers.files.tensors import load_upload as load_upload
from nst_helpers.files.tensors import to_image as to_image
from nst_helpers.files.writing import validate_output as validate_output

__all__ = [
    "load_alpha",
    "load_image",
    "noise_like",
    "resize_image",
    "save_animation",
    "save_image",
    "to_pil",
]

ONE_IMAGE = "one RGB image, (1, 3, H, W) or (3, H, W)"


def load_image(source: PictureFile, size: int | None = None) -> torch.Tensor:
    """Read a picture of any mode as an image.

    Parameters
    ----------
    source : path, sample name, bytes or memoryview
        A picture file; its content; or a sample's name: ``"chelsea"``.
    size : int, optional
        Length in pixels to give the *shorter* side, keeping the shape. The file's own by default.

    Returns
    -------
    torch.Tensor
        (1, 3, H, W) float32 RGB in [0, 1]. Upright by the camera's EXIF tag, colours in sRGB by the
        embedded profile; transparent pixels on white (``load_alpha``); greys of many bits scaled by
        the file's tags, or to their full range; of an animation, the first frame.

    Raises
    ------
    FileNotFoundError
        If there is no such file or sample.
    ValueError
        If the file is not a readable picture, is enormous (over 170 million pixels), or ``size``
        is not a positive whole number.
    """
    picture, remarks = read_picture(source, _pixels(size))
    for remark in remarks:
        warnings.warn(remark, stacklevel=2)
    return from_array(np.asarray(picture))


def load_alpha(source: PictureFile, size: int | None = None) -> torch.Tensor:
    """Read how opaque a picture is: the alpha channel of a cut-out, for ``save_image``.

    Parameters
    ----------
    source, size
        As for ``load_image``.

    Returns
    -------
    torch.Tensor
        (1, 1, H, W) float32, from 0 (transparent) to 1, in the shape that ``load_image`` gives; all
        ones if the file has no transparency.
    """
    picture, _ = read_picture(source, _pixels(size))
    if picture.mode != "RGBA":
        return torch.ones(1, 1, picture.height, picture.width, dtype=torch.float32, device="cpu")
    return from_array(np.asarray(picture.getchannel("A")))[:, :1].clone()


def to_pil(image: torch.Tensor) -> Image.Image:
    """Return one image as a Pillow picture.

    Parameters
    ----------
    image : torch.Tensor
        (1, 3, H, W) or (3, H, W), floats in [0, 1]; values a little outside are clipped.

    Raises
    ------
    ValueError
        If it is not one RGB image, not finite, or in another range, such as 0..255.
    """
    batch = image[None] if torch.is_tensor(image) and image.dim() == 3 else image
    values = _validate.image("image", batch, ONE_IMAGE).detach()
    if values.shape[0] != 1:
        raise _validate.wrong("image", ONE_IMAGE, image)
    values = values[0].clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())


def save_image(
    image: torch.Tensor,
    path: StrPath,
    settings: dict[str, Any] | None = None,
    *,
    alpha: torch.Tensor | None = None,
) -> Path:
    """Write one image to ``path``, in the format its ending names.

    All or nothing: a failed or interrupted write leaves an older file. Makes the folder if needed.

    Parameters
    ----------
    image : torch.Tensor
        (1, 3, H, W) or (3, H, W); values a little outside [0, 1] are clipped.
    path : path
        Ends in .png, .jpg, .webp or another format that Pillow writes.
    settings : dict, optional
        How the image was made, anything JSON can hold: kept in a .png, for ``load_settings``.
    alpha : torch.Tensor, optional
        (1, 1, H, W), from 0 (transparent) to 1: kept in .png, .webp and .tif, else laid on white.

    Returns
    -------
    Path
        ``path``, ``~`` expanded.

    Raises
    ------
    ValueError
        If it is not one finite RGB image, or the ending names no format, or none for it.
    OSError
        If it cannot be written there: then it is somewhere else, and the message says where.
    """
    picture = to_pil(image)
    if alpha is not None:
        shape = (1, 1, picture.height, picture.width)
        if _validate.tensor("alpha", alpha, f"{shape}, as the image").shape != shape:
            raise _validate.wrong("alpha", f"{shape}, as the image", alpha)
        picture.putalpha(to_pil(alpha.expand(-1, 3, -1, -1)).getchannel(0))
    return writing.write_picture(picture, writing.named_path(path), settings)


def save_animation(
    images: Sequence[torch.Tensor],
    path: StrPath,
    *,
    milliseconds: int = 100,
    last: int = 2000,
    quality: int = 75,
) -> Path:
    """Write images to ``path`` as an animation that plays again and again, all or nothing.

    Parameters
    ----------
    images : sequence of torch.Tensor
        (1, 3, H, W) each, of one size.
    path : path
        Ends in .webp, which is small, or .gif or .png.
    milliseconds, last : int
        How long each image is shown, and how long the last one.
    quality : int
        Of a .webp, from 0 (small file) to 100 (fine); the other formats have no such choice.

    Returns
    -------
    Path
        ``path``, ``~`` expanded.

    Raises
    ------
    ValueError
        If images differ in size, or ``quality`` or the ending is not one for an animation.
    OSError
        If it cannot be written there: then it is somewhere else, and the message says where.
    """
    if torch.is_tensor(images):
        images = _validate.image("images", images).unbind()
    frames = [to_pil(image) for image in _validate.listed("images", images, "several images")]
    if len({frame.size for frame in frames}) != 1:
        raise ValueError(f"an animation needs images of one size; got {len(frames)} images")
    quality = int(_validate.number_between("quality", quality, 0, 100))
    durations = [_validate.positive_int("milliseconds", milliseconds)] * (len(frames) - 1)
    durations.append(_validate.positive_int("last", last))
    return writing.write_animation(frames, writing.named_path(path), durations, quality)


def encode_image(image: torch.Tensor, quality: int = 90) -> bytes:
    """Return one image as a JPEG file would hold it: quick to make, small to send."""
    file = io.BytesIO()
    # In full colour: JPEG's usual half of it makes white noise grey.
    to_pil(image).save(file, format="JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def resize_image(image: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the image, smaller or larger by a factor; with a factor of 1, the same image.

    Parameters
    ----------
    image : torch.Tensor
        (B, 3, H, W).
    scale : float
        Of both sides, which are rounded and stay at least 1.

    Returns
    -------
    torch.Tensor
        Bicubic, with what would alias taken out first. Values may pass [0, 1] a little.
    """
    _validate.tensor("image", image, _validate.IMAGE, "B3HW")
    scale = _validate.positive_number("scale", scale)
    size = [max(1, round(side * scale)) for side in image.shape[2:]]
    if size == list(image.shape[2:]):
        return image
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"scale must leave at most {MAX_PIXELS} pixels; got {scale:g}: {size}")
    return F.interpolate(image.float(), size, mode="bicubic", antialias=True)


def cover_image(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the middle of an image, resized to cover that: (B, 3, height, width) in [0, 1]."""
    _validate.tensor("image", image, _validate.IMAGE, "B3HW")
    sides = _validate.positive_int("height", height), _validate.positive_int("width", width)
    image = resize_image(image, max(sides[0] / image.shape[2], sides[1] / image.shape[3]))
    top, left = ((image.shape[2 + i] - sides[i]) // 2 for i in range(2))
    return image[:, :, top : top + sides[0], left : left + sides[1]].clamp(0, 1)


def noise_like(
    image: torch.Tensor, seed: int = 0, mean: float = 0.5, std: float = 0.05
) -> torch.Tensor:
    """Return Gaussian white noise of ``image``'s shape and device: the start "from white noise".

    Parameters
    ----------
    image : torch.Tensor
        (B, 3, H, W); only its shape and device count.
    seed : int
        The same seed gives the same noise. Torch's global generator is left alone.
    mean, std : float
        Of the noise, in units of the image range. What the network does not see of the start
        stays in the picture, so the noise is weak: strong noise (0.25) leaves grain.

    Returns
    -------
    torch.Tensor
        (B, 3, H, W) float32, clipped to [0, 1].
    """
    _validate.tensor("image", image, _validate.IMAGE, "B3HW")
    std = _validate.number_at_least("std", std, 0)
    mean = _validate.number_between("mean", mean, 0, 1)
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not -(2**63) <= seed < 2**63:
        raise _validate.wrong("seed", "a whole number, of at most 63 bits", seed)
    generator = torch.Generator("cpu").manual_seed(int(seed))  # so that every device agrees
    # float32 on the CPU, whatever torch's defaults are.
    noise = torch.randn(image.shape, generator=generator, dtype=torch.float32, device="cpu")
    return (noise * std + mean).clamp(0, 1).to(image.device)


def _pixels(size: int | None) -> int | None:
    if size is None:
        return None
    return _validate.positive_int("size", size, "a whole number of pixels")
