"""What is said to people on a console, in one line each, whatever the console can print."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from nst_helpers._validate import shown

__all__ = [
    "Problem",
    "Quietly",
    "about",
    "flush",
    "one_line",
    "printable",
    "say",
    "warnings_in_one_line",
]


class Problem(Exception):
    """What people can mend, in a sentence."""


@contextmanager
def about(option: str, value: object) -> Iterator[None]:
    """Say which option, and what was given, in an error about it."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        text = str(error)
        given = "" if str(value) in text else f"{shown(str(value))}: "
        raise Problem(f"{option}: {given}{text}") from error


def say(text: str, *, error: bool = False) -> None:
    """Print one line; that nobody may be there to read it, is no failure."""
    with suppress(OSError, ValueError, AttributeError):
        print(one_line(text), file=sys.stderr if error else sys.stdout, flush=True)


def one_line(text: str) -> str:
    """Return a text without line ends, and with other control characters escaped."""
    text = " ".join(text.splitlines()).strip()
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)


@contextmanager
def printable() -> Iterator[None]:
    """Escape what a console cannot encode, such as Korean letters in ASCII."""
    before = []
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            errors = stream.errors
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
            before.append((stream, errors))
    try:
        yield
    finally:
        for stream, errors in before:
            with suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)  # type: ignore[union-attr]


@contextmanager
def warnings_in_one_line(name: str) -> Iterator[None]:
    """Say this package's warnings as ``say`` does, and leave out those for programmers."""

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        say(f"{name}: {message}", error=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        for category in (DeprecationWarning, FutureWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = show
        yield


class Quietly:
    """A stream whose writes never fail: a bar that nobody sees must not end a run."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, or do not."""
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush, or do not."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def flush() -> None:
    """Write what is still to be printed; if nobody reads it, as behind ``| head``, drop it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):  # closed, or never there
            continue
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
