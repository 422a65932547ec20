"""How a picture was made: a text in its PNG file, written by ``save_image``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any, BinaryIO

from nst_helpers.files.png import chunks, inflate
from nst_helpers.files.sources import PictureFile, open_source

__all__ = ["KEYWORD", "load_settings", "settings_as_text"]

KEYWORD = "nst_helpers"  # of the text in the file


def load_settings(source: PictureFile) -> dict[str, Any]:
    """Return the settings that ``save_image`` wrote into a picture file.

    Parameters
    ----------
    source : path, bytes or memoryview
        A PNG file, or what is in it.

    Returns
    -------
    dict
        As it was saved; whether its values make sense is for the caller to see.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no settings, or none that can be read.
    """
    name, opened = open_source(source)
    with opened as file:
        for text in _texts(file):
            try:
                settings = json.loads(text, parse_constant=_finite, parse_float=_finite)
            except (ValueError, RecursionError):
                settings = None
            if not isinstance(settings, dict):
                raise ValueError(f"{name} holds settings that are broken")
            return settings
    raise ValueError(f"{name} holds no settings of this package: a .png of save_image does")


def settings_as_text(settings: Mapping[str, Any]) -> str:
    """Return settings as ``load_settings`` reads them.

    Parameters
    ----------
    settings : dict
        Anything JSON can hold, by names; numpy's numbers, too.

    Raises
    ------
    TypeError
        If there is something that JSON cannot hold.
    ValueError
        If it is no dict of names, or has numbers that are not finite.
    """
    if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
        raise ValueError(f"settings must be a dict of names; got a {type(settings).__name__}")
    try:
        return json.dumps(dict(settings), allow_nan=False, default=_as_number)
    except (ValueError, RecursionError):
        raise ValueError(
            "settings must be finite numbers, texts, lists and dicts, none within itself"
        ) from None


def _as_number(value: Any) -> float:
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(
        f"settings hold a {type(value).__name__}, which a file cannot: only numbers, texts, lists "
        "and dicts"
    )


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _texts(file: BinaryIO) -> Iterator[str]:
    """Yield the texts under our keyword, however an editor has stored them anew."""
    for kind, content in chunks(file):
        keyword, _, rest = content.partition(b"\0")
        if keyword != KEYWORD.encode():
            continue
        try:
            if kind == b"tEXt":
                yield rest.decode("latin-1")
            elif kind == b"zTXt":
                yield inflate(rest[1:]).decode("latin-1")
            elif kind == b"iTXt":  # compressed?, how, language, translated keyword, text
                text = rest[2:].split(b"\0", 2)[-1]
                yield (inflate(text) if rest[:1] == b"\1" else text).decode("utf-8")
        except ValueError:  # broken, or no UTF-8
            yield ""
