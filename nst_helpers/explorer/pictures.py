"""The pictures that the explorer offers: samples, files, uploads, and images of one's own.

Knows nothing of widgets: every picture has a name, and is loaded by it.
"""

from __future__ import annotations

from pathlib import Path

import torch

from nst_helpers.images import (
    encode_image,
    load_image,
    pixel_size,
    resize_image,
    sample_images,
    to_pil,
)

__all__: list[str] = []

MAX_UPLOAD_BYTES = 8 * 2**20  # browsers' connections drop more than 10 MB silently
MIN_SIDE = 32  # pixels, of a picture that is no sample
THUMBNAIL_SIZE = 96  # pixels, of the shorter side


class Pictures:
    """Pictures by name."""

    def __init__(self) -> None:
        self._in_memory: dict[str, bytes | torch.Tensor] = {}

    def add(self, picture: str | Path | torch.Tensor, name: str = "your image") -> str:
        """Make sure that a picture can be loaded.

        Parameters
        ----------
        picture : str, Path or torch.Tensor
            The name of a sample or of a picture added before, a path, or an image (1, 3, H, W) in
            [0, 1].
        name : str
            What to call it if it is an image.

        Returns
        -------
        str
            Its name.

        Raises
        ------
        FileNotFoundError, ValueError
            As ``load_image``; if it is smaller than 32 pixels, or not one finite RGB image.
        """
        if torch.is_tensor(picture):
            if picture.dim() != 4:
                raise ValueError(f"expected an image (1, 3, H, W); got {tuple(picture.shape)}")
            to_pil(picture)  # refuses what is no image
            self._in_memory[name] = picture
            return name
        name = str(picture)
        if name not in self._in_memory and name not in sample_images():
            load_image(name, THUMBNAIL_SIZE)
            _refuse_small(pixel_size(name))
        return name

    def add_upload(self, filename: str, data: bytes) -> str:
        """Add what a visitor has uploaded.

        Parameters
        ----------
        filename : str
            As it was on the visitor's machine.
        data : bytes
            What is in the file.

        Returns
        -------
        str
            The picture's name.

        Raises
        ------
        ValueError
            If it has more than 8 MB, is not a readable picture, or is smaller than 32 pixels.
        """
        if len(data) > MAX_UPLOAD_BYTES:
            raise ValueError(
                f"{filename} has {len(data) / 2**20:.1f} MB; the most is 8 MB: make it smaller, "
                "2000 pixels are plenty"
            )
        try:
            load_image(data, THUMBNAIL_SIZE)
            _refuse_small(pixel_size(data))
        except ValueError as error:
            raise ValueError(f"{filename}: {error}") from error
        name = f"{filename} (yours)"
        self._in_memory[name] = data
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
        """
        picture = self._in_memory.get(name, name)
        if isinstance(picture, torch.Tensor):
            return resize_image(picture, size / min(picture.shape[2:])).clamp(0, 1)
        return load_image(picture, size)

    def thumbnail(self, name: str) -> bytes:
        """Return a small version of a picture, as a JPEG file would hold it.

        Parameters
        ----------
        name : str
            As for ``load``.
        """
        return encode_image(self.load(name, THUMBNAIL_SIZE))


def _refuse_small(size: tuple[int, int]) -> None:
    if min(size) < MIN_SIDE:
        raise ValueError(
            f"the picture has only {size[0]} x {size[1]} pixels; it needs {MIN_SIDE} on each side"
        )
