"""Where the explorer saves what it made, and how a browser gets it."""

from __future__ import annotations

import base64
import re
import tempfile
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

from nst_helpers.explorer.widgets import Markup, markup
from nst_helpers.language import _

__all__: list[str] = []

MAX_STEM = 80  # bytes of each picture's name: file systems take 255 in all


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
    stem = "-".join(map(_stem, sources))
    number = 1
    while (path := folder / f"{stem}-{number}.{ending}").exists():
        number += 1
    return path


def save_file(
    write: Callable[[Path], object], folder: Path | None, sources: Iterable[str], ending: str
) -> tuple[Path, Markup]:
    """Write a file under a free name; return its path, and HTML that downloads it.

    Parameters
    ----------
    write : callable
        Given the path.
    folder : Path or None
        Where to save. None: it is only for the download, and nothing stays on this machine.
    sources, ending
        As for ``free_path``.
    """
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        path = free_path(Path(place), sources, ending)
        write(path)
        return path, download_link(path)


def download_link(path: Path) -> Markup:
    """Return HTML that holds a picture and downloads it.

    Parameters
    ----------
    path : Path
        A picture file.
    """
    data = base64.b64encode(path.read_bytes()).decode()
    kind = path.suffix.removeprefix(".")
    link = '<a download="{}" href="data:image/{};base64,{}">{}</a>'
    return markup(link, path.name, kind, Markup(data), _("download"))


def _stem(name: str) -> str:
    stem = re.sub(r"[^\w-]+", "_", Path(name).stem).strip("_")
    return stem.encode()[:MAX_STEM].decode(errors="ignore")
