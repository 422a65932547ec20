"""The pictures that the explorer offers: samples, files, uploads, and images of one's own.

Knows nothing of widgets: every picture has a name, and is loaded by it.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import torch

from nst_helpers import _validate
from nst_helpers.explorer.settings import shorten
from nst_helpers.images import (
    cover_image,
    encode_image,
    load_alpha,
    load_image,
    load_upload,
    noise_like,
    pixel_size,
    resize_image,
    sample_images,
    to_image,
)
from nst_helpers.language import _

__all__: list[str] = []

MAX_UPLOAD_BYTES = 8 * 2**20  # browsers' connections drop more than 10 MB silently
MAX_UPLOADS = 20
MAX_BYTES = 64 * 2**20  # of all uploads
MAX_PIXELS = 16_000_000  # of an image that a picture becomes
MIN_SIDE = 32  # pixels, of a picture that is no sample
THUMBNAIL_SIZE = 96  # pixels, of the shorter side
DECODED = 3  # uploads that are held as images: a content and two styles

# A run loads pictures in its thread; and what silences warnings does so for the whole process.
ONE_AT_A_TIME = threading.RLock()

Picture: TypeAlias = Any  # what ``Pictures.prepare`` takes


class Own(NamedTuple):
    """An image, and how opaque it is, if that is known: (1, 3, H, W) and (1, 1, H, W)."""

    image: torch.Tensor
    alpha: torch.Tensor | None = None


class Upload(NamedTuple):
    """What came from a visitor, and what the file was called there."""

    content: bytes
    filename: str


class Pictures:
    """Pictures by name."""

    def __init__(self) -> None:
        self._images: dict[str, Own] = {}
        self._uploads: dict[str, Upload] = {}
        self._decoded: dict[str, tuple[int, torch.Tensor]] = {}  # last uploads, at their last size

    def prepare(self, picture: Picture, role: str = "picture") -> str | Own:
        """Return a picture as ``keep`` takes it, or say what is wrong with it; nothing is changed.

        Parameters
        ----------
        picture : str, path, torch.Tensor, array or Pillow picture
            The name of a sample or of a picture added before, a path, an image (1, 3, H, W) in
            [0, 1], or what ``to_image`` takes.
        role : str
            What to call it in messages.

        Raises
        ------
        FileNotFoundError, ValueError
            As ``load_image`` or ``to_image``; if it is smaller than 32 pixels, or not one finite
            RGB image in [0, 1].
        """
        if isinstance(picture, str | os.PathLike):
            name = os.fspath(picture)
            if name not in {*self._images, *self._uploads} and name not in sample_images():
                with ONE_AT_A_TIME:
                    _look_at_file(role, name)
            return name
        with ONE_AT_A_TIME:
            own = _as_own(role, picture)
        if min(own.image.shape[2:]) < MIN_SIDE:
            raise _validate.wrong(role, f"a picture of {MIN_SIDE} pixels a side at least", picture)
        return own

    def add(self, picture: Picture, name: str = "your image") -> str:
        """Make sure that a picture can be loaded, and return its name.

        Parameters
        ----------
        picture, name
            As for ``prepare`` and ``keep``, which raise what is wrong.
        """
        return self.keep(self.prepare(picture), name)

    def keep(self, picture: str | Own, name: str = "your image") -> str:
        """Return the name by which a picture that has been looked at can be loaded.

        Parameters
        ----------
        picture : str or Own
            As ``prepare`` returned it.
        name : str
            What to call it if it is an image; a second one gets a number.
        """
        if isinstance(picture, str):
            return picture
        for known, own in self._images.items():
            if own.image is picture.image:
                return known
        name = self._free_name(name)
        self._images[name] = picture
        return name

    def add_upload(
        self, filename: str, content: bytes | memoryview, size: int = THUMBNAIL_SIZE
    ) -> str:
        """Add what a visitor has uploaded.

        Parameters
        ----------
        filename : str
            As it was on the visitor's machine.
        content : bytes or memoryview
            What is in the file.
        size : int
            The size at which it will be asked for.

        Returns
        -------
        str
            The picture's name.

        Raises
        ------
        ValueError
            If it has more than 8 MB, is not a readable picture, or is smaller than 32 pixels; or if
            there are 20 uploads already, or 64 MB of them.
        """
        filename, length = shorten(filename), len(content)
        if length > MAX_UPLOAD_BYTES:
            raise ValueError(
                _(
                    "{} has {:.1f} MB; the most is 8 MB: make it smaller, 2000 pixels are plenty"
                ).format(filename, length / 2**20)
            )
        upload = Upload(bytes(content), filename)
        for name, earlier in self._uploads.items():
            if earlier == upload:
                return name
        used = sum(len(upload.content) for upload in self._uploads.values())
        if len(self._uploads) >= MAX_UPLOADS or used + length > MAX_BYTES:
            raise ValueError(
                _(
                    "{} pictures of {:.0f} MB are uploaded already, and {} or {} MB are the most: "
                    "begin again to upload more"
                ).format(len(self._uploads), used / 2**20, MAX_UPLOADS, MAX_BYTES // 2**20)
            )
        with ONE_AT_A_TIME:
            image = _read(upload, size)
            name = self._free_name(f"{filename} (yours)")
            self._uploads[name] = upload
            self._hold(name, size, image)
        return name

    def load(self, name: str, size: int) -> torch.Tensor:
        """Return a picture as an image.

        Parameters
        ----------
        name : str
            As ``add`` or ``add_upload`` returned it.
        size : int
            Length of the shorter side, in pixels.

        Returns
        -------
        torch.Tensor
            (1, 3, H, W) in [0, 1].

        Raises
        ------
        FileNotFoundError, ValueError
            As ``load_image``, if a file has changed meanwhile; or if it would have more than 16
            million pixels.
        """
        if name in self._images:
            image = self._images[name].image
            _refuse_large((image.shape[3], image.shape[2]), size)
            return resize_image(image, size / min(image.shape[2:])).clamp(0, 1)
        with ONE_AT_A_TIME:
            if name in self._uploads:
                return self._load_upload(name, size)
            if name not in sample_images():
                _refuse_large(pixel_size(name), size)
            return load_image(name, size)

    def content_and_start(self, settings: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the content and the image to begin with, both of the content's shape.

        Parameters
        ----------
        settings : dict
            The explorer's.
        """
        content = self.load(settings["content"], settings["size"])
        if settings["start"] == "noise":
            return content, noise_like(content, settings["seed"])
        if settings["start"] == "style":
            style = self.load(settings["style"], settings["size"])
            return content, cover_image(style, content.shape[2], content.shape[3])
        return content, content

    def thumbnail(self, name: str) -> bytes:
        """Return a small version of a picture, as a JPEG file would hold it.

        Parameters
        ----------
        name : str
            As for ``load``.
        """
        held = self._decoded.get(name)
        image = held[1] if held else self.load(name, THUMBNAIL_SIZE)
        scale = THUMBNAIL_SIZE / min(image.shape[2:])
        return encode_image(resize_image(image, scale).clamp(0, 1))

    def load_alpha(self, name: str, size: int) -> torch.Tensor | None:
        """Return how opaque a picture is, (1, 1, H, W) from 0 to 1; None if it is so everywhere.

        Parameters
        ----------
        name, size
            As for ``load``.
        """
        if name in self._images:
            image, alpha = self._images[name]
            if alpha is None:
                return None
            scale = size / min(image.shape[2:])
            return resize_image(alpha.expand(-1, 3, -1, -1), scale)[:, :1].clamp(0, 1)
        upload = self._uploads.get(name)
        with ONE_AT_A_TIME:
            opacity = load_alpha(upload.content if upload else name, size)
        return opacity if opacity.min() < 1 else None

    def _load_upload(self, name: str, size: int) -> torch.Tensor:
        held_size, held = self._decoded.get(name, (0, None))
        if held is not None and held_size == size:
            return held
        image = _read(self._uploads[name], size)
        self._hold(name, size, image)
        return image

    def _hold(self, name: str, size: int, image: torch.Tensor) -> None:
        self._decoded.pop(name, None)
        self._decoded[name] = size, image
        while len(self._decoded) > DECODED:
            del self._decoded[next(iter(self._decoded))]

    def _free_name(self, name: str) -> str:
        taken = {*self._images, *self._uploads}
        numbered = (f"{name} {number}" for number in itertools.count(2))
        return next(n for n in itertools.chain([name], numbered) if n not in taken)


def _look_at_file(role: str, name: str) -> None:
    try:
        load_image(name, THUMBNAIL_SIZE)
        _refuse_small(pixel_size(name))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{role}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{role}: {error}") from error


def _as_own(role: str, picture: Picture) -> Own:
    """Return an image from what it may be in memory."""
    if torch.is_tensor(picture):
        image = _validate.image(role, picture, "an image (1, 3, H, W)")
        if len(image) != 1:
            raise _validate.wrong(role, "one image (1, 3, H, W)", picture)
        return Own(image.detach())
    try:
        image, shape = to_image(picture), tuple(getattr(picture, "shape", ()))
        if getattr(picture, "mode", "") in ("RGBA", "LA"):
            return Own(image, to_image(picture.getchannel("A"))[:, :1])
        if len(shape) == 3 and shape[2] == 4:
            return Own(image, to_image(picture[..., 3])[:, :1])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{role}: {error}") from error
    return Own(image)


def _read(upload: Upload, size: int) -> torch.Tensor:
    image = load_upload(upload.filename, upload.content, size)
    try:
        pixels = (image.shape[3], image.shape[2])
        _refuse_small(pixels)  # a picture that small has not been made smaller
        _refuse_large(pixels, size)
    except ValueError as error:
        raise ValueError(f"{upload.filename}: {error}") from error
    return resize_image(image, size / min(pixels)).clamp(0, 1)


def _refuse_small(size: tuple[int, int]) -> None:
    if min(size) < MIN_SIDE:
        raise ValueError(
            _("the picture has only {} x {} pixels; it needs {} on each side").format(
                *size, MIN_SIDE
            )
        )


def _refuse_large(pixels: tuple[int, int], size: int) -> None:
    """Raise if a picture is so long that it would take gigabytes at a size that others have."""
    scale = size / min(pixels)
    width, height = (round(side * scale) for side in pixels)
    if width * height > MAX_PIXELS:
        raise ValueError(
            _(
                "at size {} the picture would have {} x {} pixels, and {} million are the most: "
                "choose a smaller size, or crop it"
            ).format(size, width, height, MAX_PIXELS // 10**6)
        )
