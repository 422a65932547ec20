"""Picture files to tensors and back, the sample pictures, and white noise.

An *image* in this package is a float32 tensor (B, 3, H, W), RGB, in [0, 1]; a *picture* is a
file, or a Pillow object, which only this module knows.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from nst_helpers import _validate

__all__ = [
    "load_image",
    "load_settings",
    "noise_like",
    "resize_image",
    "sample_images",
    "save_animation",
    "save_image",
    "to_pil",
]

StrPath: TypeAlias = str | os.PathLike[str]
PictureFile: TypeAlias = StrPath | bytes | memoryview  # a path, or what is in a file

MAX_PIXELS = 170_000_000  # decoding more takes gigabytes: either a mistake or a decompression bomb
SETTINGS = "nst_helpers"  # the name of the text in a PNG file that says how it was made
SAMPLES = Path(__file__).resolve().with_name("samples")  # where a wheel has them
if not SAMPLES.is_dir():
    SAMPLES = SAMPLES.parents[1] / "images"  # where a clone has them


def sample_images() -> dict[str, Path]:
    """Return the pictures that come with the package, name to file, in alphabetical order.

    ``load_image`` takes their names too: ``load_image("chelsea")``. Sources and licences are in
    ``CREDITS.md`` beside them. Raises FileNotFoundError if they are not installed.
    """
    if not _samples():
        raise FileNotFoundError(f"the sample pictures are not installed: no .jpg in {SAMPLES}")
    return _samples()


def load_image(source: PictureFile, size: int | None = None) -> torch.Tensor:
    """Read a picture of any mode as an image tensor.

    Parameters
    ----------
    source : path, sample name, bytes or memoryview
        Anything Pillow opens; its content, as of an upload; or a sample's name: ``"chelsea"``.
    size : int, optional
        Length in pixels to give the *shorter* side, keeping the shape. The file's own by default.

    Returns
    -------
    torch.Tensor
        (1, 3, H, W) float32 RGB in [0, 1]. Upright by the camera's EXIF tag; transparent pixels
        on white; 16-bit greys scaled to their full range; of an animation, the first frame.

    Raises
    ------
    FileNotFoundError
        If there is no such file or sample.
    ValueError
        If the file is not a readable picture, is enormous (over 170 million pixels), or ``size``
        is not a positive whole number.
    """
    if size is not None:
        size = _validate.positive_int("size", size, "a whole number of pixels")
    path, opened = _open(source)
    try:
        with warnings.catch_warnings():
            # Pillow's own bomb warning speaks of attacks; ours is below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(opened) as file:
                width, height = file.size
                _refuse_enormous(width, height, path)
                if size is not None:
                    scale = size / min(width, height)
                    width, height = (max(size, round(side * scale)) for side in file.size)
                    _refuse_enormous(width, height, path)  # one pixel wide and made 512 wide
                    file.draft(None, (size, size))  # JPEGs decode straight to a smaller size
                file.load()
                picture, orientation = _to_rgb(file), _orientation(file)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to decode safely: {error}") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture that Pillow can read") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path} cannot be read (broken, cut off or locked): {error}") from error
    if size is not None:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    if orientation is not None:
        picture = picture.transpose(orientation)
    return to_image(picture)


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
    scale = _validate.positive_number("scale", scale)
    size = [max(1, round(side * scale)) for side in image.shape[2:]]
    if size == list(image.shape[2:]):
        return image
    return F.interpolate(image, size, mode="bicubic", antialias=True)


def cover_image(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the middle of an image, resized to cover that: (B, 3, height, width) in [0, 1]."""
    image = resize_image(image, max(height / image.shape[2], width / image.shape[3]))
    top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
    return image[:, :, top : top + height, left : left + width].clamp(0, 1)


def to_image(picture: Image.Image | np.typing.NDArray[Any]) -> torch.Tensor:
    """Turn an RGB picture, or an array (H, W, 3) uint8, into an image (1, 3, H, W)."""
    array = np.array(picture, dtype=np.float32) / 255
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"expected an RGB picture, (H, W, 3); got shape {array.shape}")
    return torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0).contiguous()


def to_pil(image: torch.Tensor) -> Image.Image:
    """Return one image as a Pillow picture.

    Parameters
    ----------
    image : torch.Tensor
        (1, 3, H, W) or (3, H, W); values outside [0, 1] are clipped.

    Raises
    ------
    ValueError
        If it is not one RGB image, or not finite.
    """
    shape = tuple(image.shape)
    if shape[:-2] not in ((3,), (1, 3)):
        raise ValueError(f"expected one RGB image, (1, 3, H, W) or (3, H, W); got {shape}")
    if not torch.isfinite(image).all():
        raise ValueError("the image has values that are not finite (NaN or infinity)")
    values = image.detach().clamp(0, 1).mul(255).round().to(torch.uint8).reshape(shape[-3:])
    return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())


def validate_output(path: StrPath) -> Path:
    """Return ``path``, its folder made, if a picture can be written there; if not, raise."""
    path = Path(path)
    if _format(path) not in Image.SAVE:
        raise ValueError(f"cannot write {path.name!r}: end it in .png, .jpg or .webp")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a picture")
    path.parent.mkdir(parents=True, exist_ok=True)
    _part(path).touch()  # and no file that may be there already
    _part(path).unlink()
    return path


def save_image(image: torch.Tensor, path: StrPath, settings: dict[str, Any] | None = None) -> Path:
    """Write one image to ``path``, in the format its ending names.

    All or nothing: a failed or interrupted write leaves an older file. Makes the folder if needed.

    Parameters
    ----------
    image : torch.Tensor
        (1, 3, H, W) or (3, H, W); values outside [0, 1] are clipped.
    path : path
        Ends in .png, .jpg, .webp or another format that Pillow writes.
    settings : dict, optional
        How the image was made, anything JSON can hold: kept in a .png, for ``load_settings``.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ValueError
        If it is not one finite RGB image, or the ending names no format, or none for settings.
    OSError
        If the folder cannot be written.
    """
    picture, path = to_pil(image), validate_output(path)
    options: dict[str, Any] = {"quality": 95} if _format(path) in ("JPEG", "WEBP") else {}
    if settings is not None:
        if _format(path) != "PNG":
            raise ValueError(f"only a PNG file keeps settings; got {path.name!r}")
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(SETTINGS, json.dumps(settings))
    return _save(picture, path, **options)


def load_settings(source: PictureFile) -> dict[str, Any]:
    """Return the settings that ``save_image`` wrote into a picture file.

    Parameters
    ----------
    source : path, bytes or memoryview
        A PNG file, or what is in it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no settings.
    """
    path, opened = _open(source)
    try:
        with Image.open(opened) as file:
            file.load()
            return dict(json.loads(file.info[SETTINGS]))
    except (OSError, SyntaxError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no settings of this package") from error


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
        ``path``.

    Raises
    ------
    ValueError
        If images differ in size, or ``quality`` or the ending is not one for an animation.
    OSError
        If the folder cannot be written.
    """
    frames = [to_pil(image) for image in images]
    if len({frame.size for frame in frames}) != 1:
        raise ValueError(f"an animation needs images of one size; got {len(frames)} images")
    _validate.number_between("quality", quality, 0, 100)
    path = validate_output(path)
    if _format(path) not in ("WEBP", "GIF", "PNG"):
        raise ValueError(f"{path.name!r} cannot hold an animation: end it in .webp, .gif or .png")
    options = {"quality": quality, "method": 4} if _format(path) == "WEBP" else {}
    durations = [milliseconds] * (len(frames) - 1) + [last]
    animated = {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 0}
    return _save(frames[0], path, **animated, **options)


def encode_image(image: torch.Tensor, quality: int = 90) -> bytes:
    """Return one image as a JPEG file would hold it: quick to make, small to send."""
    file = io.BytesIO()
    # In full colour: JPEG's usual half of it makes white noise grey.
    to_pil(image).save(file, format="JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def pixel_size(source: PictureFile) -> tuple[int, int]:
    """Return width and height of a picture that ``load_image`` can read, without decoding it."""
    with Image.open(_open(source)[1]) as file:
        return file.size


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
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that every device agrees
    noise = torch.randn(image.shape, generator=generator) * std + mean
    return noise.clamp(0, 1).to(image.device)


def _format(path: Path) -> str | None:
    """Return Pillow's name of the format that the ending of ``path`` names, if it knows one."""
    return Image.registered_extensions().get(path.suffix.lower())


def _save(picture: Image.Image, path: Path, **options: Any) -> Path:
    """Write a file that is there whole or not at all."""
    part = _part(path)
    try:
        picture.save(part, format=_format(path), **options)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _part(path: Path) -> Path:
    """Return where to write before the finished file is moved to ``path``."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _open(source: PictureFile) -> tuple[str, Path | io.BytesIO]:
    """Return what messages call a picture file, and what Pillow is to open."""
    if isinstance(source, bytes | memoryview):
        return "this file", io.BytesIO(source)
    path, samples = Path(source), _samples()
    if not path.is_file():
        path = samples.get(str(source), path)
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder, not a picture")
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no picture {str(source)!r} (looked in {Path.cwd()}); "
            f"sample pictures: {', '.join(samples) or f'none in {SAMPLES}'}"
        )
    return str(path), path


def _samples() -> dict[str, Path]:
    return {path.stem: path for path in sorted(SAMPLES.glob("*.jpg"))}


def _refuse_enormous(width: int, height: int, path: str) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{path} would be {width} x {height} pixels and take {width * height * 12 / 2**30:.1f} "
            f"GB as float32; the limit is {MAX_PIXELS // 10**6} million: make it smaller first"
        )


def _orientation(picture: Image.Image) -> Image.Transpose | None:
    """Return how to turn a photograph upright, by its EXIF tag; None if it is, or has no tag."""
    t = Image.Transpose
    turns = [t.FLIP_LEFT_RIGHT, t.ROTATE_180, t.FLIP_TOP_BOTTOM, t.TRANSPOSE]
    turns += [t.ROTATE_270, t.TRANSVERSE, t.ROTATE_90]
    try:
        return dict(enumerate(turns, 2)).get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, OSError, ValueError):  # a broken tag does not spoil a good picture
        return None


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        # Pillow's own conversion clips 16-bit greys at 255, which makes them white.
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        # 16-bit greys say what they are; of the others the values have to tell.
        full = 65535.0 if "16" in picture.mode or values.max() > 255 else 255.0
        full = 1.0 if picture.mode == "F" and values.max() <= 1 else full
        picture = Image.fromarray((np.clip(values / full, 0, 1) * 255).round().astype(np.uint8))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")
