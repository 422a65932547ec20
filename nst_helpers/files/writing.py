"""Picture files written whole or not at all, and what can be written known before the work."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from nst_helpers.files.settings import KEYWORD, settings_as_text
from nst_helpers.files.sources import StrPath, as_path

__all__ = ["named_path", "validate_output", "write_animation", "write_picture"]

# The longest side that each format has room for.
MOST_PIXELS = {"WEBP": 16_383, "JPEG": 65_500, "MPO": 65_500, "GIF": 65_535, "AVIF": 65_535}
MOST_PIXELS |= {"PCX": 65_535, "TGA": 65_535, "SGI": 65_535, "JPEG2000": 65_535}
OTHER_SIZES = ("ICO", "ICNS")  # formats that change the size without a word
TRANSPARENT = ("PNG", "WEBP", "TIFF", "AVIF")
ANIMATED = ("WEBP", "GIF", "PNG")
ADVICE = "end it in .png, .jpg or .webp"


def _format_of(path: Path) -> str:
    """Return Pillow's name of the format that an ending names; raise ValueError if it has none."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind in OTHER_SIZES:
        raise ValueError(
            f"cannot write {path.name!r}: {path.suffix} has sizes of its own; {ADVICE}"
        )
    if kind is None or not _can_write(kind):
        raise ValueError(f"cannot write {path.name!r}: {ADVICE}")
    return kind


def named_path(path: StrPath, size: tuple[int, int] | None = None) -> Path:
    """Return ``path``, ``~`` expanded, if its ending names a format with room for the picture.

    Parameters
    ----------
    path : path
    size : (int, int), optional
        Width and height of the picture, if they are known.

    Raises
    ------
    ValueError
        If it does not.
    """
    path = as_path(path)
    kind = _format_of(path)
    if size and (problem := _no_room(path, kind, size)):
        raise ValueError(f"{problem}; .png has room")
    return path


def validate_output(path: StrPath, size: tuple[int, int] | None = None) -> Path:
    """Return ``path``, ``~`` expanded and its folder made, if a picture can be written there.

    Parameters
    ----------
    path : path
        Of a picture that may be there already.
    size : (int, int), optional
        Width and height of the picture, if they are known.

    Returns
    -------
    Path
        Where to write.

    Raises
    ------
    ValueError
        If the ending names no format that can be written, or none with room for the size.
    OSError
        If the folder cannot be made or written, or something else has that name.
    """
    path = named_path(path, size)
    with _named_errors(path):
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _part(target)
        try:
            part.touch(exist_ok=False)
        finally:
            _remove(part)
    return path


def write_picture(
    picture: Image.Image, path: Path, settings: Mapping[str, Any] | None = None
) -> Path:
    """Write a picture that is there whole or not at all, with the rights of the file it replaces.

    Parameters
    ----------
    picture : Image.Image
        RGB or RGBA; on white where the format has no transparency, which is warned of.
    path : Path
        As ``named_path`` returned it; its folder is made. Links are followed.
    settings : dict, optional
        For a PNG file to keep.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ValueError
        If there are settings, and it is no PNG file, or they are none.
    OSError
        If it cannot be written. The picture is then elsewhere, as a PNG file: beside it, in the
        working folder, or in the one for temporary files; the message says where.
    """
    kind = _format_of(path)
    options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    if settings is not None:
        if kind != "PNG":
            raise ValueError(f"only a PNG file keeps settings; got {path.name!r}")
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(KEYWORD, settings_as_text(settings))
    if picture.mode == "RGBA" and kind not in TRANSPARENT:
        if picture.getchannel("A").getextrema() != (255, 255):
            text = (
                f"{path.name} is white where the picture is transparent: .png and .webp keep that"
            )
            warnings.warn(text, stacklevel=3)
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    return _write(picture, path, options)


def write_animation(
    frames: Sequence[Image.Image], path: Path, durations: Sequence[int], quality: int
) -> Path:
    """Write an animation as ``write_picture`` writes a picture.

    Parameters
    ----------
    frames : sequence of Image.Image
    path : Path
        As ``named_path`` returned it.
    durations : sequence of int
        In milliseconds, of each frame.
    quality : int
        Of a .webp, 0 to 100.

    Returns
    -------
    Path
        ``path``.
    """
    kind = _format_of(path)
    if kind not in ANIMATED:
        raise ValueError(f"{path.name!r} cannot hold an animation: end it in .webp, .gif or .png")
    options: dict[str, Any] = {"quality": quality, "method": 4} if kind == "WEBP" else {}
    options |= {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 0}
    return _write(frames[0], path, options)


def _write(picture: Image.Image, path: Path, options: dict[str, Any]) -> Path:
    """Write a file, or another if that fails, which is then said."""
    try:
        kind = _format_of(path)
        if problem := _no_room(path, kind, picture.size):
            raise OSError(problem)
        data = _encode(picture, kind, options)
        with _named_errors(path):
            _replace(_target(path), data)
    except (IsADirectoryError, MemoryError):
        raise
    except Exception as error:  # whatever it is, the work behind the picture is not lost
        reason = str(error) if isinstance(error, OSError) else f"{path} cannot be written"
        other = _rescue(picture, path, options)
        if other is None:
            raise OSError(f"{reason}; nor could it be written anywhere else") from None
        raise OSError(f"{reason}; the picture is in {other} instead") from None
    return path


def _no_room(path: Path, kind: str, size: tuple[int, int]) -> str | None:
    """Return what is wrong if a format has no room for a picture of that size."""
    most = MOST_PIXELS.get(kind)
    if most is None or max(size) <= most:
        return None
    return (
        f"cannot write {path.name!r}: its format ends at {most} pixels a side, and the picture has "
        f"{size[0]} x {size[1]}"
    )


def _can_write(kind: str) -> bool:
    """Try one pixel: Pillow lists formats that it cannot write, or not in colour."""
    try:
        Image.new("RGB", (1, 1)).save(io.BytesIO(), kind)
    except Exception:
        return False
    return True


def _encode(picture: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    """Return what is in the file: in memory, so that a stop on the way leaves nothing."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _target(path: Path) -> Path:
    """Return what a path leads to, links followed; raise OSError if it is no regular file."""
    try:
        target = path.resolve()
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    except (NotADirectoryError, PermissionError):
        return path  # what is in the way says so when it is written
    except (OSError, RuntimeError):
        raise OSError(
            f"{path} cannot be written: its name is too long, or a link in a circle"
        ) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder; give the name of a picture")
    if not stat.S_ISREG(mode):
        raise OSError(f"{path} is a device or a pipe; give the name of a picture")
    return target


def _replace(target: Path, data: bytes) -> None:
    """Write a file beside the target, and move it there once it is on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    part = _part(target)
    try:
        if not _write_nameless(part, data, mode):
            with part.open("xb") as file:
                _fill(file, data, mode)
        part.replace(target)
    except BaseException:
        _remove(part)
        raise
    with contextlib.suppress(OSError):  # not on every system
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_nameless(part: Path, data: bytes, mode: int | None) -> bool:
    """Write a file that gets its name when it is whole: of a killed process nothing stays.

    Return False where the system cannot.
    """
    try:
        folder = os.open(part.parent, os.O_RDONLY)
        try:
            with os.fdopen(os.open(part.parent, os.O_TMPFILE | os.O_WRONLY, 0o666), "wb") as file:
                _fill(file, data, mode)
                # Only with a folder does Python follow the link to the file itself.
                os.link(f"/proc/self/fd/{file.fileno()}", part, src_dir_fd=folder)
        finally:
            os.close(folder)
    except (AttributeError, NotImplementedError, OSError):
        return False
    return True


def _fill(file: io.BufferedIOBase, data: bytes, mode: int | None) -> None:
    if mode is not None and hasattr(os, "fchmod"):
        os.fchmod(file.fileno(), mode)
    file.write(data)
    _sync(file)


def _part(target: Path) -> Path:
    """Return a name for the file until it is whole, short and of nobody else."""
    return target.with_name(f".{secrets.token_hex(8)}.part")


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _sync(file: io.BufferedIOBase) -> None:
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Say which picture could not be written, whatever name the system complains of."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # ours
            raise
        blame = "" if error.filename in (None, str(path)) else f" ({path.parent})"
        raise type(error)(f"{path} cannot be written{blame}: {error.strerror}") from None


def _rescue(picture: Image.Image, path: Path, options: dict[str, Any]) -> Path | None:
    """Write the picture as PNG to the first place that takes it, over no other; return where."""
    try:
        data = _encode(picture, "PNG", options)
    except Exception:
        data = _encode(picture, "PNG", {})
    for folder in (path.parent, Path.cwd(), Path(tempfile.gettempdir())):
        for number in range(100):
            other = folder / f"{path.stem[:50]}{f'-{number}' if number else ''}.png"
            with contextlib.suppress(FileExistsError):
                if _write_new(other, data):
                    return other
                break
    return None


def _write_new(path: Path, data: bytes) -> bool:
    """Write a file if there is none; return whether it could be written."""
    try:
        with path.open("xb") as file:
            try:
                _fill(file, data, None)
            except BaseException:
                _remove(path)
                raise
    except FileExistsError:
        raise
    except OSError:
        return False
    return True
