"""Picture files to tensors and back, the sample pictures, and white noise.

An *image* in this package is a float32 tensor (B, 3, H, W), RGB, in [0, 1]. This is the only
module that knows Pillow.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

__all__ = [
    "check_output",
    "load_image",
    "load_settings",
    "noise_like",
    "resize_image",
    "sample_images",
    "save_animation",
    "save_image",
    "to_image",
    "to_pil",
]

MAX_PIXELS = 170_000_000  # decoding more takes gigabytes: either a mistake or a decompression bomb

SETTINGS = "nst_helpers"  # the name of the text in a PNG file that says how it was made

_PACKAGE = Path(__file__).resolve().parent
# In a wheel the pictures lie inside the package, in a clone beside it.
_SAMPLES = next(
    (d for d in (_PACKAGE / "samples", _PACKAGE.parent / "images") if d.is_dir()), _PACKAGE
)


def sample_images() -> dict[str, Path]:
    """Return the pictures that come with the package, name to file, in alphabetical order.

    ``load_image`` takes their names too: ``load_image("chelsea")``. Sources and licences are in
    ``CREDITS.md`` beside them.
    """
    return {p.stem: p for p in sorted(_SAMPLES.glob("*.jpg"))}


def load_image(
    source: str | os.PathLike | bytes | memoryview, size: int | None = None
) -> torch.Tensor:
    """Read a picture of any mode as an image tensor.

    Parameters
    ----------
    source : path, sample name, bytes or memoryview
        Anything Pillow opens, or the name of a sample picture, such as ``"chelsea"``; or what is
        in such a file, as an upload brings it.
    size : int, optional
        Length in pixels to give the *shorter* side, keeping the shape. The file's own by default.

    Returns
    -------
    torch.Tensor
        (1, 3, H, W) float32 RGB in [0, 1]. Turned as the camera's EXIF tag says; transparent
        pixels are laid on white; 16-bit greys are scaled to their full range; of an animation,
        the first frame.

    Raises
    ------
    FileNotFoundError
        If there is no such file or sample.
    ValueError
        If the file is not a readable picture, is enormous (over 170 million pixels), or ``size``
        is not a positive whole number.
    """
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ValueError(f"size must be a whole number of pixels, 1 or more; got {size!r}")
    path, opened = _open(source)
    try:
        with warnings.catch_warnings():
            # Pillow's own bomb warning speaks of attacks; ours is below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(opened) as file:
                _refuse_enormous(file.size, path)
                width, height = file.size
                if size is not None:
                    file.draft(None, (size, size))  # JPEGs decode straight to a smaller size
                file.load()
                picture = _to_rgb(file)
                orientation = _orientation(file)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to decode safely: {error}") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture that Pillow can read") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path} cannot be read (broken, cut off or locked): {error}") from error
    if size is not None:
        scale = size / min(width, height)
        width, height = (max(size, round(side * scale)) for side in (width, height))
        _refuse_enormous((width, height), path)  # one pixel wide and made 512 wide
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
    if not scale > 0:
        raise ValueError(f"scale must be a number > 0; got {scale!r}")
    size = [max(1, round(side * scale)) for side in image.shape[2:]]
    if size == list(image.shape[2:]):
        return image
    return F.interpolate(image, size, mode="bicubic", antialias=True)


def to_image(picture: Image.Image | np.ndarray) -> torch.Tensor:
    """Turn a Pillow picture or an array into an image.

    Parameters
    ----------
    picture : PIL.Image.Image or numpy.ndarray
        RGB; of an array, (H, W, 3) uint8.

    Returns
    -------
    torch.Tensor
        (1, 3, H, W) float32 in [0, 1].
    """
    array = np.array(picture, dtype=np.float32) / 255
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"expected an RGB picture, (H, W, 3); got shape {array.shape}")
    return torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0).contiguous()


def to_pil(image: torch.Tensor) -> Image.Image:
    """Turn one image into a Pillow picture.

    Parameters
    ----------
    image : torch.Tensor
        (1, 3, H, W) or (3, H, W); values outside [0, 1] are clipped.

    Raises
    ------
    ValueError
        If it is not one RGB image, or not finite.
    """
    if image.dim() == 4 and image.shape[0] == 1:
        image = image[0]
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(
            f"expected one RGB image, (1, 3, H, W) or (3, H, W); got {tuple(image.shape)}"
        )
    if not torch.isfinite(image).all():
        raise ValueError("the image has values that are not finite (NaN or infinity)")
    values = image.detach().clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())


def check_output(path: str | os.PathLike) -> Path:
    """Make sure that a picture can be written to ``path``, before the work of making it.

    Makes the folder if need be; touches no file of that name.

    Parameters
    ----------
    path : path
        Ends in .png, .jpg, .webp or another format that Pillow writes.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ValueError
        If the ending names no format that can be written.
    OSError
        If the folder cannot be made or written, or ``path`` is a folder.
    """
    path = Path(path)
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"cannot write {path.name!r}: end it in .png, .jpg or .webp")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a picture")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    part.touch()
    part.unlink()
    return path


def save_image(image: torch.Tensor, path: str | os.PathLike, settings: dict | None = None) -> Path:
    """Write one image to ``path``, in the format its ending names, all or nothing.

    The folder is made if need be. A write that fails or is interrupted leaves an older file of
    that name as it was.

    Parameters
    ----------
    image : torch.Tensor
        (1, 3, H, W) or (3, H, W); values outside [0, 1] are clipped.
    path : path
        Ends in .png, .jpg, .webp or another format that Pillow writes.
    settings : dict, optional
        How the picture was made, anything that JSON can hold: written into the file, which must
        be a PNG. ``load_settings`` reads it.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ValueError
        If the ending names no format, or none that keeps settings, or ``image`` is not one finite
        RGB image.
    OSError
        If the folder cannot be written.
    """
    picture = to_pil(image)
    path = check_output(path)
    kind = Image.registered_extensions()[path.suffix.lower()]
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    if settings is not None:
        if kind != "PNG":
            raise ValueError(f"only a PNG file keeps settings; got {path.name!r}")
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(SETTINGS, json.dumps(settings))
    _write(picture, path, format=kind, **options)
    return path


def load_settings(source: str | os.PathLike | bytes | memoryview) -> dict:
    """Return what ``save_image`` was told of how a picture was made.

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
            settings = json.loads(file.text[SETTINGS])
    except (OSError, SyntaxError, AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no settings of this package") from error
    return settings


def save_animation(
    images: Sequence[torch.Tensor],
    path: str | os.PathLike,
    *,
    milliseconds: int = 100,
    last: int = 2000,
) -> Path:
    """Write images as an animation that plays again and again, all or nothing.

    Parameters
    ----------
    images : sequence of torch.Tensor
        (1, 3, H, W) each, of one size.
    path : path
        Ends in .webp, which is small, or .gif or .png.
    milliseconds : int
        How long each image is shown.
    last : int
        How long the last one is.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ValueError
        If there are no images, they differ in size, or the ending names no format that moves.
    OSError
        If the folder cannot be written.
    """
    frames = [to_pil(image) for image in images]
    if len({frame.size for frame in frames}) != 1:
        raise ValueError(f"an animation needs images of one size; got {len(frames)} images")
    path = check_output(path)
    kind = Image.registered_extensions()[path.suffix.lower()]
    if kind not in ("WEBP", "GIF", "PNG"):
        raise ValueError(f"{path.name!r} cannot move: end it in .webp, .gif or .png")
    pace = [milliseconds] * (len(frames) - 1) + [last]
    options = {"quality": 75, "method": 4} if kind == "WEBP" else {}
    more = {"save_all": True, "append_images": frames[1:], "duration": pace, "loop": 0}
    _write(frames[0], path, format=kind, **more, **options)
    return path


def encode_image(image: torch.Tensor, quality: int = 90) -> bytes:
    """Return one image as a JPEG file would hold it: quick to make, small to send."""
    file = io.BytesIO()
    # In full colour: JPEG's usual half of it makes white noise grey.
    to_pil(image).save(file, format="JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def pixel_size(source: str | os.PathLike | bytes | memoryview) -> tuple[int, int]:
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


def _write(picture: Image.Image, path: Path, **options) -> None:
    """Write a file that is there whole or not at all."""
    part = _part(path)
    try:
        picture.save(part, **options)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """Return where to write before the finished file is moved to ``path``."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _open(source: str | os.PathLike | bytes | memoryview) -> tuple[Path | str, Path | io.BytesIO]:
    """Return what to call a picture in messages, and what Pillow is to open."""
    if isinstance(source, bytes | memoryview):
        return "this file", io.BytesIO(source)
    path = _find(source)
    return path, path


def _find(source: str | os.PathLike) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    samples = sample_images()
    if str(source) in samples:
        return samples[str(source)]
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder, not a picture")
    raise FileNotFoundError(
        f"there is no picture {str(source)!r} (looked in {Path.cwd()}); "
        f"sample pictures: {', '.join(samples)}"
    )


def _refuse_enormous(size: tuple[int, int], path: Path) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{path} would be {width} x {height} pixels and take {width * height * 12 / 2**30:.1f} "
            f"GB as numbers; the limit is {MAX_PIXELS // 10**6} million pixels: make it smaller "
            "first"
        )


def _orientation(picture: Image.Image) -> Image.Transpose | None:
    """Return how to turn a photograph upright, by its EXIF tag; None if it is, or has no tag."""
    turn = Image.Transpose
    turns = (None, turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM)
    turns += (turn.TRANSPOSE, turn.ROTATE_270, turn.TRANSVERSE, turn.ROTATE_90)
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, OSError, ValueError):  # a broken tag does not spoil a good picture
        return None
    return turns[value - 1] if value in range(1, 9) else None


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        # Pillow's own conversion clips 16-bit greys at 255, which makes them white.
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        # 16-bit greys say what they are; of the others the values have to tell.
        full = 65535.0 if "16" in picture.mode or values.max() > 255 else 255.0
        if picture.mode == "F" and values.max() <= 1:
            full = 1.0
        picture = Image.fromarray((np.clip(values / full, 0, 1) * 255).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")
