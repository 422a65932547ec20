"""What a caller means by a source: a path, a sample's name, or what is in a file."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

__all__ = ["PictureFile", "StrPath", "as_path", "brief", "open_source", "sample_images"]

StrPath: TypeAlias = str | os.PathLike[str]
PictureFile: TypeAlias = StrPath | bytes | bytearray | memoryview  # or what is in a file

SAMPLES = Path(__file__).resolve().parents[1] / "samples"  # where a wheel has them
if not SAMPLES.is_dir():
    SAMPLES = SAMPLES.parents[1] / "images"  # where a clone has them


def sample_images() -> dict[str, Path]:
    """Return the pictures that come with the package, name to file, in alphabetical order.

    ``load_image`` takes their names too: ``load_image("chelsea")``. Sources and licences are in
    ``CREDITS.md`` beside them. Raises FileNotFoundError if they are not installed.
    """
    if not (samples := _samples()):
        raise FileNotFoundError(f"the sample pictures are not installed: no .jpg in {SAMPLES}")
    return samples


def as_path(path: Any, argument: str = "path") -> Path:
    """Return a path with ``~`` for the home folder.

    Parameters
    ----------
    path : path
    argument : str
        Its name, for the error message.

    Raises
    ------
    ValueError
        If it is no path.
    """
    text = os.fsdecode(path) if isinstance(path, str | os.PathLike) else ""
    if not text or "\0" in text:
        raise ValueError(f"{argument} must be the path of a file; got {brief(path)}")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user
        return Path(text)


def open_source(source: Any, samples: bool = True) -> tuple[str, BinaryIO]:
    """Open a file for reading.

    Parameters
    ----------
    source : path, sample name, bytes, bytearray or memoryview
    samples : bool
        Whether a sample's name will do.

    Returns
    -------
    str, file
        What messages call it, and its content.

    Raises
    ------
    FileNotFoundError
        If there is no such file or sample.
    ValueError
        If it is no path, or an address on the internet, or may not be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return "this file", io.BytesIO(source)
    if not isinstance(source, str | os.PathLike):
        raise ValueError(
            "source must be a path, a sample's name, or the bytes of a file (arrays and Pillow "
            f"pictures: to_image); got {brief(source)}"
        )
    path = as_path(source, "source")
    if not _is_file(path):
        path = (_samples() if samples else {}).get(str(source), path)
    if not _is_file(path):
        raise _missing(source, path)
    try:
        return str(path), path.open("rb")
    except OSError as error:
        raise ValueError(f"{path} cannot be opened: {error.strerror}") from None


def _missing(source: StrPath, path: Path) -> Exception:
    """Return the error that says why there is no file."""
    if match := re.match(r"([a-z][a-z0-9+.-]+):/|data:", str(source), re.IGNORECASE):
        advice = "give the path alone" if match[1] == "file" else "download it, and load that file"
        return ValueError(f"{brief(str(source))} is an address and not a file: {advice}")
    try:
        if path.is_dir():
            return FileNotFoundError(f"{path} is a folder, not a picture")
        if path.exists():
            return FileNotFoundError(f"{path} is a device or a pipe, not a picture file")
    except OSError:  # such as a name that is too long
        pass
    names = ", ".join(_samples()) or f"none in {SAMPLES}"
    return FileNotFoundError(
        f"there is no picture {str(source)!r} (looked in {Path.cwd()}); sample pictures: {names}"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False


def brief(value: Any) -> str:
    """Return a value for a message, in less than a line."""
    try:
        text = re.sub(" at 0x[0-9a-fA-F]+(?=>)", "", repr(value))  # in memory, which says nothing
    except Exception:  # whatever somebody's own __repr__ does
        text = f"<{type(value).__name__}>"
    if hasattr(value, "shape"):
        text = f"{type(value).__name__} of shape {tuple(value.shape)}"
    return text if len(text) < 100 else f"{text[:97]}..."


def _samples() -> dict[str, Path]:
    return {path.stem: path for path in sorted(SAMPLES.glob("*.jpg"))}
