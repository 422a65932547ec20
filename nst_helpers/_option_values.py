"""What one option of the command line may be: from what is typed to a value, or what is wrong."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

import torch

from nst_helpers._validate import shown
from nst_helpers.images import sample_images

__all__ = [
    "blend",
    "file_name",
    "layer",
    "name",
    "present_device",
    "scale",
    "side",
    "start",
    "start_without_content",
    "step_length",
    "weight",
    "whole_number",
]

ALPHA = 1e-3  # of a transfer, in the normalised convention
LARGEST = 65_535  # pixels of a side
SCALES = (0.1, 10.0)  # of the style's size
HEAVIEST = 1e30  # weight: a loss of float32 ends at 3e38
LAYER = re.compile(r"(conv|relu)([12]_[12]|[345]_[1-4])|pool[1-5]")


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number within limits."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:  # also of more digits than Python reads
            number = least - 1
        if not least <= number <= most:
            raise _mistake(f"a whole number from {least} to {most}", text)
        return number

    return read


side = whole_number(1, LARGEST)


def weight(text: str) -> float:
    """Read the weight of a loss."""
    number = _number(text)
    if not 0 <= number <= HEAVIEST:
        raise _mistake(f"a number from 0 to {HEAVIEST:g}", text)
    return abs(number)  # there is a -0


def blend(text: str) -> tuple[float, ...]:
    """Read the weights of several styles, such as 0.3,0.7."""
    numbers = tuple(_number(part) for part in text.split(","))
    if not all(0 <= number <= HEAVIEST for number in numbers) or not any(numbers):
        raise _mistake("a number from 0 for each style, with commas, such as 0.3,0.7", text)
    return tuple(map(abs, numbers))


def scale(text: str) -> float:
    """Read how large a picture is relative to another."""
    number = _number(text)
    if not SCALES[0] <= number <= SCALES[1]:
        raise _mistake(f"a number from {SCALES[0]:g} to {SCALES[1]:g}", text)
    return number


def step_length(text: str) -> float:
    """Read a learning rate."""
    number = _number(text)
    if not 0 < number <= HEAVIEST:
        raise _mistake(f"a number above 0 and up to {HEAVIEST:g}", text)
    return number


def name(text: str) -> str:
    """Read a name, of whatever."""
    if not text.strip() or "\0" in text:
        raise _mistake("a name", text)
    return text


def file_name(text: str) -> Path:
    """Read the name of a file."""
    return Path(name(text))


def start(text: str) -> str:
    """Read ``noise``, ``content`` or the name of a picture."""
    return text if text == "content" else _start(text, "noise, content")


def start_without_content(text: str) -> str:
    """Read ``noise`` or the name of a picture."""
    if text == "content":
        raise _mistake("noise or a picture: a texture has no content", text)
    return _start(text, "noise")


def layer(text: str) -> str:
    """Read the name of a layer."""
    if not LAYER.fullmatch(text):
        raise _mistake("a layer of VGG-19, such as conv1_1, relu4_2 or pool5", text)
    return text


def present_device(text: str) -> torch.device:
    """Read the name of a device that can compute here."""
    try:
        device = torch.device(text)
        torch.ones(1, device=device).add(1).item()
    except Exception:  # each kind has its own
        there = ["cpu"]
        there += ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
        raise _mistake(f"a device of this machine ({', '.join(there)})", text) from None
    return device


def _start(text: str, words: str) -> str:
    if text == "noise" or text in sample_images():
        return text
    try:
        exists = Path(name(text)).expanduser().exists()
    except (OSError, RuntimeError):  # a name too long; nobody's home
        exists = False
    if not exists:
        raise _mistake(f"{words}, or a picture that is there", text)
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _mistake(right: str, text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"must be {right}; got {shown(text)}")
