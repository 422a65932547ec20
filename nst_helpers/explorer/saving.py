"""Where the explorer saves what it made, and how a browser gets it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from pathlib import Path

__all__: list[str] = []


def free_path(folder: Path, sources: Iterable[str], ending: str) -> Path:
    """Return a path that no file has yet.

    Parameters
    ----------
    folder : Path
        Where to save.
    sources : iterable of str
        What the file is made of: names of pictures, or paths.
    ending : str
        Such as "png".

    Returns
    -------
    Path
        Such as ``chelsea-night_sky-1.png``.
    """
    stem = "-".join(re.sub(r"[^\w-]+", "_", Path(name).stem).strip("_") for name in sources)
    number = 1
    while (path := folder / f"{stem}-{number}.{ending}").exists():
        number += 1
    return path


def download_link(path: Path) -> str:
    """Return HTML that holds a picture and downloads it.

    Parameters
    ----------
    path : Path
        A picture file.
    """
    data = base64.b64encode(path.read_bytes()).decode()
    kind = path.suffix.removeprefix(".")
    return f'<a download="{path.name}" href="data:image/{kind};base64,{data}">download</a>'
