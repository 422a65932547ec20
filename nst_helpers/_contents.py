"""The photographs of a transfer, one or many, and the picture that is made of each."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nst_helpers._console import say
from nst_helpers._validate import shown
from nst_helpers.images import sample_images

__all__ = ["contents_of", "pictures_of"]

# What counts as a picture in a folder; a file that is named may be anything.
KINDS = "avif bmp gif heic heif jfif jp2 jpeg jpg png ppm tif tiff webp"
ENDINGS = [f".{kind}" for kind in KINDS.split()]


def contents_of(names: Sequence[str], command: str) -> list[str]:
    """Return the files that names stand for: themselves, what is in a folder, or like a pattern.

    Parameters
    ----------
    names : sequence of str
        Files, samples' names, folders, or patterns such as ``photos/*.jpg``.
    command : str
        In whose name to speak.

    Raises
    ------
    ValueError
        If there is nothing in a folder, or nothing like a pattern.
    OSError
        If a folder cannot be read.
    """
    files: dict[str, str] = {}
    for name in names:
        for file in _files(name, command):
            files.setdefault(file if file in sample_images() else os.path.realpath(file), file)
    return [*files.values()]


def _files(name: str, command: str) -> list[str]:
    path, is_there, is_folder = _expanded(name), False, False
    with suppress(OSError):  # such as a name that is too long
        is_there, is_folder = path.exists(), path.is_dir()
    if is_folder and name not in sample_images():
        try:
            inside = sorted(each for each in path.iterdir() if each.is_file())
        except OSError as error:
            raise OSError(f"the folder {name} cannot be read: {error.strerror}") from None
        seen = [each for each in inside if not each.name.startswith(".")]
        pictures = [str(each) for each in seen if each.suffix.lower() in ENDINGS]
        if not pictures:
            raise ValueError(f"the folder {name} has no pictures in it (such as .jpg or .png)")
        others = f", and others: {len(seen) - len(pictures)}" if len(seen) > len(pictures) else ""
        say(f"{command}: pictures in {name}: {len(pictures)}{others}")
        return pictures
    if not is_there and glob.has_magic(name):
        found = sorted(file for file in glob.glob(str(path)) if Path(file).is_file())  # noqa: PTH207
        if not found:
            raise ValueError(f"no file is like {shown(name)}")
        return found
    return [name]


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no such user
        return Path(name)


def pictures_of(
    contents: Sequence[str], output: str, *, is_one: bool, steps: Sequence[int] = ()
) -> list[Path]:
    """Return where the picture of each content goes: to ``output``, or into it as a folder.

    Parameters
    ----------
    contents : sequence of str
        As ``contents_of`` returns them.
    output : str
        A picture for one content; else a folder, which need not be there.
    is_one : bool
        Whether one picture was asked for, which may go into a folder all the same.
    steps : sequence of int
        After which pictures are written as well, such as ``out_0100.png``.

    Raises
    ------
    ValueError
        If it is no folder and has to be, two pictures would be the same, or one is a content.
    """
    is_picture, folder = Path(output).suffix.lower() in ENDINGS, _expanded(output)
    is_folder = output.endswith(("/", os.sep)) or not (is_one or is_picture)
    with suppress(OSError):
        is_folder = is_folder or (folder.is_dir() and not is_picture)
    if not is_folder:
        if not is_one:
            raise ValueError(f"must be a folder for several contents; got {shown(output)}")
        return [Path(output)]
    paths: dict[str, Path] = {}
    for content in contents:
        path = folder / f"{Path(content).stem}.png"
        name = _folded(path.stem)
        if name in paths:
            raise ValueError(f"two contents would be {path}, such as {content}: rename one of them")
        if content not in sample_images() and os.path.realpath(path) == os.path.realpath(content):
            raise ValueError(f"{path} is one of the contents: choose another folder")
        paths[name] = path
    for name, path in paths.items():
        match = re.fullmatch(r"(.+)_([0-9]{4,})", name)
        if match and match[1] in paths and int(match[2]) in steps:
            raise ValueError(
                f"{path} would be of two contents, of {match[1]} after {int(match[2])} steps, too"
            )
    return [*paths.values()]


def _folded(name: str) -> str:
    """Return what file systems may not tell from other names."""
    return unicodedata.normalize("NFC", name).casefold()
