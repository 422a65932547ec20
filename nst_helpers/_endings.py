"""How a run ended: what is said, and the exit code."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nst_helpers._console import Problem, say
from nst_helpers._outputs import Outputs
from nst_helpers._signals import INTERRUPTED
from nst_helpers.optimization import Result

__all__ = ["exit_code", "failure", "say_on_the_way", "summary"]

NAMED = 6  # pictures in a line
WRONG, FAULT = 1, 70  # exit codes; 70 is a program's own fault in BSD's sysexits.h, too


def failure(name: str, error: Exception, written: Sequence[Path] = ()) -> int:
    """Say what is wrong, and return the exit code."""
    code, text = WRONG, str(error).strip() or type(error).__name__
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        text = f"out of memory; try a smaller --size ({text})"
    elif isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError):
        text = text.splitlines()[0]  # torch's own, such as a device that fails
    elif not isinstance(error, ValueError | OSError | ImportError | Problem):
        code, text = FAULT, f"this is a fault of nst_helpers: {type(error).__name__}: {text}"
        text += "; set NST_TRACEBACK=1 for the details, and report it"
    say(f"{name}: {text}", error=True)
    if written:
        say(f"{name}: written before: {', '.join(map(str, written))}", error=True)
    if os.environ.get("NST_TRACEBACK"):
        traceback.print_exception(error)
    return code


def say_on_the_way(written: Sequence[Path]) -> None:
    """Name the pictures that were written so far."""
    paths = [str(path) for path in written]
    if len(paths) > NAMED:
        paths[NAMED - 1 : -1] = [f"... ({len(paths)} in all) ..."]
    if paths:
        say(f"on the way: {', '.join(paths)}")


def summary(result: Result) -> str:
    """Return steps, seconds and how it ended."""
    seconds = result.history[-1]["seconds"] if result.history else 0.0
    ending = "done" if result.stopped == "steps" else result.stopped
    return f"{result.steps_done} steps, {seconds:.1f} s, {ending}"


def exit_code(outputs: Outputs, results: Mapping[str, Result]) -> int:
    """Return the exit code, and say on stderr which run has a problem."""
    codes = [0 if outputs.complete else WRONG]
    for name, result in results.items():
        if result.problem:
            say(f"{name}: {result.problem}", error=True)
        codes.append(INTERRUPTED if result.stopped == "interrupted" else WRONG * (not result.ok))
    return max(codes)
