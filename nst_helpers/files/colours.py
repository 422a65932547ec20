"""Every mode that Pillow has to 8 bits of sRGB: L, RGB or RGBA, smaller if that will do."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from nst_helpers.files.depths import Depth, is_deep

__all__ = ["to_srgb"]

BAND_PIXELS = 1 << 21  # converted in one go
# What colours of a profile of each kind are to be in.
MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}


def to_srgb(
    picture: Image.Image, factor: int = 1, bits: int | None = None
) -> tuple[Image.Image, list[str]]:
    """Return a picture in sRGB, both sides divided by a factor.

    Parameters
    ----------
    picture : Image.Image
        Of any mode, with its profile, if it has one, in its ``info``. It may be changed.
    factor : int
        Each square of so many pixels becomes their mean.
    bits : int, optional
        Of a grey of 16 bits, how many count.

    Returns
    -------
    Image.Image
        L, RGB or RGBA.
    list of str
        What a person should be told; each continues the name of the file.

    Raises
    ------
    UnusableValues
        If there are values that cannot be taken for greys.
    """
    remarks: list[str] = []
    convert: Callable[[Image.Image], Image.Image] = _to_plain_mode
    if is_deep(picture):
        depth = Depth(picture, bits)
        remarks += [depth.remark] if depth.remark else []
        convert = depth.to_8_bits
    transparency = picture.info.get("transparency")
    if isinstance(transparency, tuple) and max(transparency) > 255:
        picture.info["transparency"] = tuple(value >> 8 for value in transparency)  # as the pixels
    small = _in_bands(picture, convert, factor)
    if "icc_profile" in picture.info and picture.mode != "LAB":
        try:
            small = _obey_profile(small, picture.info["icc_profile"])
        except (ImageCms.PyCMSError, KeyError, OSError, TypeError, ValueError):
            remarks.append("has a broken colour profile; it is ignored, and colours may be off")
    if small.mode in ("CMYK", "LAB"):
        small = small.convert("RGB")
    return small, remarks


def _in_bands(
    picture: Image.Image, convert: Callable[[Image.Image], Image.Image], factor: int
) -> Image.Image:
    """Convert and reduce a picture, band by band: a copy of the whole would take too much."""
    plain = picture.mode == "RGBA" or (
        picture.mode in ("L", "RGB", "CMYK", "LAB") and not picture.has_transparency_data
    )
    if plain and factor == 1:
        return picture
    (width, height), result = picture.size, None
    rows = factor * max(1, BAND_PIXELS // width // factor)
    for top in range(0, height, rows):
        band = picture.crop((0, top, width, min(top + rows, height)))
        band = convert(band)
        band = band.reduce(factor) if factor > 1 else band  # transparent colours do not count
        if result is None:
            result = Image.new(band.mode, (band.width, -(-height // factor)))
        result.paste(band, (0, top // factor))
    return result or picture


def _to_plain_mode(picture: Image.Image) -> Image.Image:
    """Return L, RGB, RGBA, CMYK or LAB."""
    if picture.mode in ("La", "RGBa"):
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    if picture.mode in ("L", "CMYK", "LAB"):
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _obey_profile(picture: Image.Image, data: bytes | None) -> Image.Image:
    """Return the picture with its colours in sRGB, by relative colorimetry."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(data or b""))
    mode = MODES[profile.profile.xcolor_space.strip()]
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    if alpha is not None:
        picture = picture.convert("RGB")
    if mode == "RGB" and picture.mode == "L":
        picture = picture.convert("RGB")
    if picture.mode != mode:
        raise ValueError("a profile of another kind of colours")
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    transform = ImageCms.buildTransform(
        profile, ImageCms.createProfile("sRGB"), mode, "RGB", renderingIntent=intent
    )
    if mode == "CMYK" or _changes_colours(transform, mode):
        if mode == "RGB":
            transform.apply_in_place(picture)
        else:
            picture = transform.apply(picture)
    if alpha is not None:
        picture.putalpha(alpha)
    return picture


def _changes_colours(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a profile is another than sRGB, whatever it is called."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    if mode == "RGB":
        colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    else:
        colours = steps[None]
    before = Image.fromarray(colours)
    after = transform.apply(before)
    differences = np.asarray(before.convert("RGB"), np.int16) - np.asarray(after, np.int16)
    return int(np.abs(differences).max()) > 1
