"""What a command does after each step of a run: its bar, pictures on the way, signals."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

from nst_helpers._console import Quietly, say
from nst_helpers._outputs import Outputs
from nst_helpers._signals import Signals
from nst_helpers.optimization import Progress

__all__ = ["Watch", "watch_run"]


class Watch:
    """What is done after each step: bar, pictures on the way, signals.

    Attributes
    ----------
    last : Progress or None
        Of the last step.
    """

    def __init__(
        self,
        bar: tqdm[Any],
        outputs: Outputs,
        signals: Signals,
        save_every: int | None,
        caught: list[warnings.WarningMessage],
    ) -> None:
        self.bar, self.outputs, self.signals = bar, outputs, signals
        self.save_every, self._caught = save_every, caught
        self.last: Progress | None = None
        self._texts: set[str] = set()

    def step(self, progress: Progress, *name: str) -> None:
        """Show a step, save its picture if it is time to, and stop where there was a signal."""
        if self.last is None:
            self.say_warnings()
        self.last = progress
        self.bar.set_postfix_str(f"loss {progress.terms['total']:.3g}", refresh=False)
        self.bar.update()
        if self.save_every and progress.step % self.save_every == 0:
            path = self.outputs.at_step(progress.step, *name)
            self.outputs.save(progress.result().image, path, step=progress.step)
        self.signals.check()

    def say_warnings(self, problems: Sequence[str] = ()) -> None:
        """Say what was warned of, once, but for the problems of results, which are said later."""
        known = [problem for problem in problems if problem]
        for text in [str(warning.message) for warning in self._caught]:
            if text not in self._texts and not any(problem in text for problem in known):
                self.bar.clear()
                say(f"{self.outputs.command}: {text}", error=True)
            self._texts.add(text)
        self._caught.clear()


@contextmanager
def watch_run(
    args: argparse.Namespace, outputs: Outputs, signals: Signals, steps: int
) -> Iterator[Watch]:
    """Begin the work: from here on nothing is lost."""
    signals.work()
    hidden = args.quiet or sys.stderr is None
    with (
        warnings.catch_warnings(record=True) as caught,
        tqdm(total=steps, unit="step", disable=hidden, file=Quietly(sys.stderr)) as bar,
    ):
        yield Watch(bar, outputs, signals, args.save_every, caught)
