"""What settings may be: all of them are looked at before the first one is turned.

Knows nothing of widgets, whose limits belong to whoever sits before them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from nst_helpers import _validate

__all__: list[str] = []

WHOLE = {"size": (32, 2048), "steps": (1, 10_000), "seed": (0, 2**31 - 1)}  # from, to
RANGES = {"blend": (0, 1), "style_scale": (0.5, 2)}  # numbers, from, to
RATIO = (1e-5, 1.0)  # of alpha / beta, if neither is 0
SECOND = "second_style"  # which may be None
PICTURES = ("content", "style", SECOND)
START = ("noise", "content", "style")
MAX_NAME = 100  # letters, of a picture's name on the screen


def parse_settings(
    settings: Any, choices: Mapping[str, Sequence[str]], layers: Sequence[str]
) -> dict[str, Any]:
    """Return settings as the controls take them, or raise for the first that is wrong.

    Parameters
    ----------
    settings : dict
        Some settings or all, as the explorer has them, or as a picture file keeps them.
    choices : dict of str to sequence of str
        The values that some settings are chosen from.
    layers : sequence of str
        The style layers.

    Returns
    -------
    dict
        Without the number of steps done, which a file knows too. Pictures are as they came.

    Raises
    ------
    ValueError
        If it is no dict, has a name that is no setting, or a value that is out of its range.
    """
    _validate.instance("settings", settings, Mapping, "a dict of settings")
    known = [*PICTURES, *choices, *WHOLE, *RANGES]
    known += ["alpha", "beta", "style_layer_weights", "step"]
    if unknown := [name for name in settings if name not in known]:
        names = (name if isinstance(name, str) else _validate.shown(name) for name in unknown)
        raise ValueError(
            f"unknown settings: {shorten(', '.join(names))}; there are {', '.join(known)}"
        )
    parsed = {name: settings[name] for name in PICTURES if name in settings}
    for name, options in choices.items():
        if name in settings:
            parsed[name] = _validate.one_of(name, settings[name], options)
    for name, limits in WHOLE.items():
        if name in settings:
            parsed[name] = whole_number(name, settings[name], *limits)
    for name, (least, most) in RANGES.items():
        if name in settings:
            parsed[name] = _validate.number_between(name, settings[name], least, most)
    if "step" in settings:
        whole_number("step", settings["step"], 0, 10**9)
    for name in ("alpha", "beta"):
        if name in settings:
            parsed[name] = _validate.number_at_least(name, settings[name], 0)
    if "style_layer_weights" in settings:
        parsed["style_layer_weights"] = _layer_weights(settings["style_layer_weights"], layers)
    return parsed


def parse_ratio(alpha: float, beta: float) -> float:
    """Return alpha / beta if the slider can stand there: 0, infinity, or from 1e-5 to 1.

    Parameters
    ----------
    alpha, beta : float
        Numbers >= 0.

    Raises
    ------
    ValueError
        If both are 0, or the ratio is out of range.
    """
    if not alpha and not beta:
        raise ValueError("alpha and beta must not both be 0")
    if not (alpha and beta):
        return math.inf if alpha else 0.0
    least, most = RATIO
    ratio = alpha / beta
    # But for the rounding of the slider's power of ten.
    if not least * (1 - 1e-9) <= ratio <= most * (1 + 1e-9):
        raise ValueError(
            f"alpha / beta must be from {least:g} to {most:g}, or one of them 0; got {ratio:g}"
        )
    return ratio


def whole_number(name: str, value: Any, least: int, most: int) -> int:
    """Return a whole number from ``least`` to ``most``, or raise ``ValueError``.

    Parameters
    ----------
    name : str
        What to call it in the message.
    value : object
        A whole number of Python's or numpy's; not True or False.
    least, most : int
        Its range.
    """
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or not least <= value <= most:
        raise _validate.wrong(name, f"a whole number from {least} to {most}", value)
    return int(value)


def shorten(text: str, most: int = MAX_NAME) -> str:
    """Return a text of at most so many letters that can be shown and sent.

    Parameters
    ----------
    text : str
        Such as the name of a file on a visitor's machine.
    most : int
        Letters; of a longer one, beginning and end are kept.
    """
    text = "".join(c if c.isprintable() else " " if c.isspace() else "_" for c in text)
    return text if len(text) <= most else f"{text[: most - 21]}…{text[-20:]}"


def _layer_weights(weights: Any, layers: Sequence[str]) -> dict[str, float]:
    what = "a dict of style layers to weights"
    _validate.instance("style_layer_weights", weights, Mapping, what)
    parsed = {}
    for layer, weight in weights.items():
        _validate.one_of("style layers", layer, layers)
        parsed[layer] = _validate.number_between(f"the weight of {layer}", weight, 0, 1)
    return parsed
