"""Greys of more than 8 bits: how bright white is, by the file's tags or by the values."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

__all__ = ["Depth", "UnusableValues", "is_deep"]

MAX_SAMPLE_VALUE, BITS_PER_SAMPLE, SAMPLE_FORMAT, S_MAX_SAMPLE_VALUE = 281, 258, 339, 341  # of TIFF
UNSIGNED = 1  # a sample format
BAND_PIXELS = 1 << 20  # looked at in one go


class UnusableValues(Exception):
    """Values that cannot be taken for greys: what is wrong, to continue the picture's name."""


def is_deep(picture: Image.Image) -> bool:
    """Whether a picture has one channel of more than 8 bits."""
    return picture.mode.startswith("I") or picture.mode == "F"


class Depth:
    """How bright the greys of one picture are.

    Parameters
    ----------
    picture : Image.Image
        One for which ``is_deep`` holds.
    bits : int, optional
        How many of its bits count, if the file says so (PNG's sBIT).

    Attributes
    ----------
    white : float
        The value of white.
    remark : str or None
        What a person should be told.

    Raises
    ------
    UnusableValues
        If there are values that are no numbers, or with no scale that can be guessed.
    """

    def __init__(self, picture: Image.Image, bits: int | None = None) -> None:
        tags = getattr(picture, "tag_v2", {})
        self._transparent = picture.info.get("transparency")
        self._unsigned = picture.mode == "I" and _tag(tags, SAMPLE_FORMAT) == UNSIGNED
        least, most = self._range(picture)
        full = _full_range(picture, most)
        limits = [_tag(tags, MAX_SAMPLE_VALUE), _tag(tags, S_MAX_SAMPLE_VALUE)]
        limits += [2**n - 1 for n in (_tag(tags, BITS_PER_SAMPLE), bits) if n and n < 16]
        # A limit that the values pass is none. With 12 bits that fill 16, they do.
        whites = [limit for limit in limits if limit and most <= limit <= full]
        self.white = min(whites, default=full)
        self.remark = None
        if least < 0:
            self.remark = f"has values below 0 (down to {least:g}), which are black here"
        elif 0 < most < self.white / 4 and not whites:
            largest = f"{most:.9g}"
            self.remark = (
                f"is nearly black: its largest value is {largest}, where white is taken to be "
                f"{full:.0f}. If {largest} is white, scale it: to_image(array / {largest}), "
                "with the array of numpy.asarray(PIL.Image.open(...))"
            )

    def to_8_bits(self, band: Image.Image) -> Image.Image:
        """Return a part of the picture as grey, with an alpha channel if it has one."""
        values = self._values(band)
        levels = np.clip(values.astype(np.float32) / self.white, 0, 1) * 255
        grey = Image.fromarray(levels.round().astype(np.uint8))
        if isinstance(self._transparent, int):
            grey = grey.convert("RGB")
            grey.putalpha(Image.fromarray(np.uint8(255) * (values != self._transparent)))
        return grey

    def _values(self, band: Image.Image) -> np.typing.NDArray[Any]:
        values = np.asarray(band)
        return values.view(np.uint32) if self._unsigned else values

    def _range(self, picture: Image.Image) -> tuple[float, float]:
        """Return the smallest and the largest value."""
        least, most, rows = np.inf, -np.inf, max(1, BAND_PIXELS // picture.width)
        for top in range(0, picture.height, rows):
            band = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
            values = self._values(band)
            least, most = min(least, float(values.min())), max(most, float(values.max()))
            if not np.isfinite(values.sum(dtype=np.float64)):
                raise UnusableValues("has values that are not finite (NaN or infinity)")
        return least, most


def _full_range(picture: Image.Image, most: float) -> float:
    """Return the value of white, of a file that does not say it."""
    if "16" in picture.mode or picture.format in ("PNG", "PPM"):
        return 65535.0
    choices = [1.0] * (picture.mode == "F") + [255.0, 65535.0]
    if picture.mode == "I":
        choices += [2.0**31 - 1, 2.0**32 - 1]
    for choice in choices:
        if most <= choice * (1 + 1e-6):
            return choice
    raise UnusableValues(f"has values up to {most:g}: scale them to 0..1, and use to_image")


def _tag(tags: Any, number: int) -> float | None:
    """Return the first number of a TIFF file's tag; None if there is none."""
    value = tags.get(number)
    value = value[0] if isinstance(value, tuple) and value else value
    try:
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
