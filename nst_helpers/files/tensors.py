"""Pillow pictures and arrays to images: what is ambiguous is refused."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np
import torch
from PIL import Image

from nst_helpers.files import reading
from nst_helpers.files.sources import brief

__all__ = ["from_array", "load_upload", "to_image"]

WHITE = {"uint8": 255, "uint16": 65535, "bool": 1}  # by the type of an array
OVERSHOOT = 0.5  # beyond [0, 1]: what bicubic filters may leave, and is clipped


def load_upload(name: str, content: bytes | memoryview, size: int) -> torch.Tensor:
    """Read what a stranger has uploaded as an image, as ``load_image`` does, at bounded cost.

    One of six formats, of 16 million pixels at most (a JPEG 32: it is made smaller while decoding).

    Parameters
    ----------
    name : str
        What messages call it.
    content : bytes or memoryview
        What is in the file.
    size : int
        Pixels that the shorter side gets; its own if it is shorter.

    Returns
    -------
    torch.Tensor
        (1, 3, H, W) in [0, 1].
    """
    picture, _ = reading.read_picture(content, size, name=name, upload=True)
    return from_array(np.asarray(picture))


def to_image(picture: Image.Image | np.typing.NDArray[Any]) -> torch.Tensor:
    """Turn a Pillow picture or an array into an image (1, 3, H, W).

    Parameters
    ----------
    picture : Image.Image or array
        A picture of any mode. Or an array, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with an alpha
        channel: uint8, uint16 or bool, scaled to their full range, or floats in [0, 1], as
        ``plt.imread`` gives.

    Returns
    -------
    torch.Tensor
        (1, 3, H, W) in [0, 1].

    Raises
    ------
    ValueError
        If it is something else, with what it is and what to do.
    """
    if isinstance(picture, Image.Image):
        picture, remarks = reading.from_pillow(picture)
        for remark in remarks:
            warnings.warn(remark, stacklevel=2)
        return from_array(np.asarray(picture))
    if torch.is_tensor(picture):
        raise ValueError(
            f"expected a picture or an array; got a tensor {tuple(picture.shape)} of "
            f"{picture.dtype}. Floats in [0, 1], (1, 3, H, W), are an image already; divide uint8 "
            "by 255"
        )
    return from_array(_as_array(picture))


def from_array(array: np.typing.NDArray[Any]) -> torch.Tensor:
    """Turn what an array can unambiguously mean into an image (1, 3, H, W)."""
    channels = array[..., None] if array.ndim == 2 else array
    if channels.ndim != 3 or channels.shape[2] not in (1, 3, 4) or not channels.size:
        raise ValueError(f"expected an RGB picture, (H, W, 3), or (H, W); got shape {array.shape}")
    white = WHITE.get(channels.dtype.name)
    if white is None:
        _refuse_other_range(channels)
    height, width, count = channels.shape
    image = torch.empty(1, 3, height, width, dtype=torch.float32, device="cpu")
    for channel in range(3):  # one by one: a copy of all in float32 would take as much again
        values = channels[..., min(channel, count - 1)].astype(np.float32)
        image[0, channel] = torch.from_numpy(values).div_(white or 1).clamp_(0, 1)
    if count == 4:
        alpha = torch.from_numpy(channels[..., 3].astype(np.float32)).div_(white or 1).clamp_(0, 1)
        image.mul_(alpha).add_(1 - alpha)  # on white
    return image


def _as_array(picture: Any) -> np.typing.NDArray[Any]:
    """Return the values of a Pillow picture, an array, or a list of lists."""
    is_scalar = getattr(picture, "shape", None) == ()
    if isinstance(picture, list | tuple) or (hasattr(picture, "__array__") and not is_scalar):
        with contextlib.suppress(Exception):  # of numpy, or of whoever wrote __array__
            return np.asarray(picture)
    raise ValueError(
        f"picture must be a Pillow picture or an array (H, W, 3); got {brief(picture)}"
    )


def _refuse_other_range(array: np.typing.NDArray[Any]) -> None:
    """Raise unless an array's values are floats in [0, 1], but for what a filter overshoots."""
    if array.dtype.kind not in "iuf":
        raise ValueError(f"picture must be numbers; got an array of {array.dtype}")
    least, most = float(array.min()), float(array.max())
    if array.dtype.kind != "f" or not (least >= -OVERSHOOT and most <= 1 + OVERSHOOT):
        advice = "astype(numpy.uint8)" if array.dtype.kind in "iu" else "divide by 255"
        raise ValueError(
            "picture must be uint8, uint16, bool, or floats in [0, 1]; got "
            f"{array.dtype} from {least:g} to {most:g}" + f": {advice}" * (0 <= least < most < 256)
        )
