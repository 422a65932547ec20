"""Picture files decoded: every error with the file's name and in plain words, memory bounded."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, features

from nst_helpers.files.colours import to_srgb
from nst_helpers.files.depths import UnusableValues, is_deep
from nst_helpers.files.kinds import CONVERT, HEAD_BYTES, RAW, kind_of, looks_like
from nst_helpers.files.png import significant_bits
from nst_helpers.files.sources import PictureFile, open_source

__all__ = ["MAX_PIXELS", "from_pillow", "pixel_size", "read_picture"]

UPLOAD_PIXELS = 16_000_000
MAX_PIXELS = 170_000_000  # decoding more takes gigabytes: either a mistake or a decompression bomb
# What strangers may upload: each decoder is a door.
UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
FORMATS = (*UPLOAD_FORMATS, "AVIF", "HEIF", "JPEG2000", "PPM")  # never PostScript, a program
NAMES = "JPEG, PNG, WebP, GIF, TIFF and BMP"
DRAFT_FACTOR = 2  # a JPEG may have so many times the pixels if it is made smaller while decoding
GAP = 3  # what is reduced by means keeps so many times the pixels asked for, for the fine filter
DARK = 64  # of 255
DNG_VERSION, SUBFILE_TYPE, SUB_IFDS = 50706, 254, 330  # tags of TIFF
# Pillow's warnings are silenced for the process, and decoding takes memory.
_one_at_a_time = threading.RLock()


def read_picture(
    source: PictureFile,
    size: int | None = None,
    *,
    name: str | None = None,
    upload: bool = False,
) -> tuple[Image.Image, list[str]]:
    """Read a picture file in sRGB, upright.

    Parameters
    ----------
    source : path, sample name, bytes or memoryview
    size : int, optional
        Length in pixels to give the shorter side.
    name : str, optional
        What messages call the file.
    upload : bool
        Whether it is a stranger's: of six formats, at a tenth of the cost, never made larger.

    Returns
    -------
    Image.Image
        L, RGB or RGBA.
    list of str
        Sentences that a person should see, each with the file's name.

    Raises
    ------
    FileNotFoundError
        If there is no such file or sample.
    ValueError
        If it is no picture that can be read, or has too many pixels.
    """
    max_pixels, formats = (UPLOAD_PIXELS, UPLOAD_FORMATS) if upload else (MAX_PIXELS, FORMATS)
    with _opened(source, name, formats) as (name, file, stream):
        size = min(size, *file.size) if size is not None and upload else size
        bits = significant_bits(stream) if file.format == "PNG" and is_deep(file) else None
        sides = file.size if size is None else _sides(file, size)
        _make_draft(file, size, max_pixels, name)
        _refuse_enormous(sides, max_pixels, name)
        is_deep_colour = not is_deep(file) and any(";16" in str(tile[3]) for tile in file.tile)
        with _plain_errors(name, file.format), _silent_stderr(file):
            file.load()
            factor = 1 if size is None else max(1, min(file.size) // (GAP * size))
            width, height = (side / factor for side in file.size)
            orientation = _orientation(file)
            picture, remarks = to_srgb(file, factor, bits)
            if is_deep_colour and 0 < _brightest(picture) < DARK:
                remarks.append("is nearly black: are 10 or 12 bits stored in its 16 bits a colour?")
            if sides != picture.size:
                resample = Image.Resampling.LANCZOS
                picture = picture.resize(sides, resample, (0, 0, width, height))
            if orientation is not None:
                picture = picture.transpose(orientation)
            return picture, [f"{name} {remark}" for remark in remarks]


def from_pillow(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return a copy of a Pillow picture of any mode as ``read_picture`` would, but not turned.

    Parameters
    ----------
    picture : Image.Image
    """
    with _one_at_a_time, _plain_errors("the picture", "Pillow"):
        picture, remarks = to_srgb(picture.copy())
        return picture, [f"the picture {remark}" for remark in remarks]


def pixel_size(source: PictureFile) -> tuple[int, int]:
    """Return width and height of a picture file, as it is stored, without decoding it."""
    with _opened(source, None, FORMATS) as (_, file, _):
        width, height = file.size
        return width, height


@contextmanager
def _opened(
    source: PictureFile, name: str | None, formats: Sequence[str]
) -> Iterator[tuple[str, Any, BinaryIO]]:
    """Open a picture file: its name, Pillow's view of it, and the file itself."""
    called, stream = open_source(source)
    name = name or called
    with stream, _one_at_a_time:
        try:
            head = stream.read(HEAD_BYTES)
        except OSError as error:
            raise ValueError(f"{name} cannot be read: {error.strerror}") from None
        if kind := kind_of(name, head):
            raise ValueError(f"{name} is {kind}")
        _refuse_unreadable(looks_like(head), name, formats)
        with _plain_errors(name, looks_like(head)):
            file = Image.open(stream, formats=[f for f in formats if f != "HEIF" or _has_heif()])
        with file:
            if _is_preview_of_raw(file):
                raise ValueError(f"{name} is {RAW}")
            if not all(file.size):
                raise ValueError(f"{name} has no pixels: it is {file.width} x {file.height}")
            yield name, file, stream


@contextmanager
def _plain_errors(name: str, kind: str | None) -> Iterator[None]:
    """Let Pillow work in silence, and say in our words what it could not do."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnusableValues as error:
        raise ValueError(f"{name} {error}") from None
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        count = int(pixels[0]) if pixels else 0
        raise ValueError(f"{name} is too large: it has {count} pixels") from None
    except MemoryError:
        raise ValueError(f"{name} is too large for the memory that is left") from None
    except Exception:  # of any type: what breaks decoders is not foreseen by those who wrote them
        if kind is None:
            raise ValueError(f"{name} is not a picture that can be read: {NAMES} are") from None
        raise ValueError(f"{name} is broken or cut off; it begins as a {kind} file") from None


def _refuse_unreadable(kind: str | None, name: str, formats: Sequence[str]) -> None:
    """Raise if it is a picture for which there is no decoder here."""
    if kind == "HEIC":
        needed, readable, advice = "HEIF", _has_heif(), "pip install pillow-heif"
        kind = "HEIC photograph, as iPhones take them"
    elif kind == "AVIF":
        needed, readable, advice = "AVIF", bool(features.check("avif")), "pip install -U pillow"
        kind = "picture in the format AVIF"
    else:
        return
    if needed not in formats:
        raise ValueError(f"{name} is a {kind}: {CONVERT}")
    if not readable:
        raise ValueError(f"{name} is a {kind}: `{advice}` lets it be read; or {CONVERT}")


def _has_heif() -> bool:
    """Whether HEIC is read here; if so, let Pillow know how."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _is_preview_of_raw(file: Any) -> bool:
    """Whether a TIFF file says that its first picture stands for another, as raw files do."""
    tags = getattr(file, "tag_v2", {})
    with _plain_errors("", None):
        return DNG_VERSION in tags or (tags.get(SUBFILE_TYPE) == 1 and SUB_IFDS in tags)


def _make_draft(file: Any, size: int | None, max_pixels: int, name: str) -> None:
    """Let a JPEG decode straight to a smaller size; raise if too much is left to decode."""
    limit = max_pixels
    if file.format in ("JPEG", "MPO") and max_pixels < MAX_PIXELS:
        limit *= DRAFT_FACTOR
    _refuse_enormous(file.size, limit, name)
    if size is not None:
        with _plain_errors(name, file.format):
            file.draft(None, (size, size))
    _refuse_enormous(file.size, max_pixels, name)


def _refuse_enormous(sides: tuple[int, int], max_pixels: int, name: str) -> None:
    width, height = sides
    if width * height > max_pixels:
        raise ValueError(
            f"{name} would be {width} x {height} pixels and take {width * height * 12 / 2**30:.1f} "
            f"GB as float32; the limit is {max_pixels // 10**6} million: make it smaller first"
        )


def _sides(file: Image.Image, size: int) -> tuple[int, int]:
    """Return width and height with the shorter one as asked for."""
    scale = size / min(file.size)
    width, height = (max(size, round(side * scale)) for side in file.size)
    return width, height


def _brightest(picture: Image.Image) -> int:
    colours = picture.convert("RGB") if picture.mode == "RGBA" else picture
    return int(np.asarray(colours.getextrema()).max())


def _orientation(picture: Image.Image) -> Image.Transpose | None:
    """Return how to turn a photograph upright, by its EXIF tag; None if it is, or has no tag."""
    t = Image.Transpose
    turns = [t.FLIP_LEFT_RIGHT, t.ROTATE_180, t.FLIP_TOP_BOTTOM, t.TRANSPOSE]
    turns += [t.ROTATE_270, t.TRANSVERSE, t.ROTATE_90]
    try:
        return dict(enumerate(turns, 2)).get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken tag does not spoil a good picture
        return None


@contextmanager
def _silent_stderr(file: Any) -> Iterator[None]:
    """Keep libtiff's words off the process's stderr, which it writes to whatever Python's is."""
    if not any(tile[0] == "libtiff" for tile in file.tile):
        yield
        return
    try:
        saved = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        try:
            with Path(os.devnull).open("wb") as null:
                os.dup2(null.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
    finally:  # once more, for an interrupt may come before the line above
        os.dup2(saved, 2)
        os.close(saved)
