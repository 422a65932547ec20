"""The same without a notebook: ``python -m nst_helpers transfer CONTENT STYLE -o OUT``."""

# ruff: noqa: E402

from __future__ import annotations

from nst_helpers._signals import INTERRUPTED, Signals

SIGNALS = Signals()
if __name__ == "__main__":
    SIGNALS.catch_in_program()  # before torch is imported, which takes seconds

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

from nst_helpers import _console, _options
from nst_helpers._console import say
from nst_helpers._endings import exit_code, failure, say_on_the_way, summary
from nst_helpers._inputs import Inputs, load_styles, make_start
from nst_helpers._outputs import Outputs, names_of_blends, names_of_ratios
from nst_helpers._painting import (
    in_convention,
    loss_options,
    make_network,
    optimize_options,
    paint,
    prepare,
    reserve,
    transfer,
)
from nst_helpers._watch import watch_run
from nst_helpers.losses import RATIOS
from nst_helpers.sweeps import SweepPoint, sweep


def main(arguments: Sequence[str] | None = None, signals: Signals | None = None) -> int:
    """Run the command line and return its exit code."""
    signals, outputs = signals or Signals(), Outputs()
    with signals.caught(), _console.printable():
        try:
            signals.begin()
            code = _run(arguments, outputs, signals)
            signals.end()
        except KeyboardInterrupt:
            names = ", ".join(map(str, outputs.written))
            text = f"interrupted; written: {names}" if names else "interrupted, nothing written"
            say(f"{outputs.command or 'nst_helpers'}: {text}", error=True)
            code = INTERRUPTED
    return signals.exit_code if signals.received else code


def _run(arguments: Sequence[str] | None, outputs: Outputs, signals: Signals) -> int:
    """Do what is asked for, and return the exit code."""
    try:
        args = _options.parse(arguments)
    except SystemExit as ending:  # argparse's, after --help or a mistyped command
        return int(ending.code or 0)
    outputs.command = args.command
    try:
        with _console.warnings_in_one_line(args.command):
            commands = {"transfer": transfer, "sweep": _sweep}
            return commands.get(args.command, paint)(args, outputs, signals)
    except Exception as error:
        if signals.received and not signals.at_work:  # what became of it in somebody else's code
            raise KeyboardInterrupt from error
        return failure(args.command, error, outputs.written)


def _sweep(args: argparse.Namespace, outputs: Outputs, signals: Signals) -> int:
    """Optimise one image for each ratio of each blend, and save them and a figure of all."""
    blends: list[Any] = args.style_weights or [None]
    ratios, are_known = args.ratios or list(RATIOS), args.ratios or args.convention == "normalised"
    reserve(args, outputs, [args.output], [*_parts(blends, ratios).values()] * bool(are_known))
    inputs = prepare(args, args.content, load_styles(args), outputs)
    start, net = make_start(args, inputs.like), make_network(args)
    options = loss_options(args) | inputs.arguments
    if not are_known:
        ratios = in_convention(args, net, options | {"style_weights": blends[0]}, "ratios", ratios)
        reserve(args, outputs, [args.output], [*_parts(blends, ratios).values()])
    if len(args.style) > 1:
        options["style_weights"] = blends
    content, styles, parts = options.pop("content"), options.pop("style"), _parts(blends, ratios)
    names = [*parts.values()]
    error: Exception | None = None
    with watch_run(args, outputs, signals, args.steps * len(names)) as watch:
        try:
            points = sweep(
                net,
                [content],
                styles,
                ratios,
                start=start,
                callback=lambda run, progress: watch.step(progress, *names[run]),
                **options,
                **optimize_options(args),
            )
        except Exception as problem:
            error, points = problem, getattr(problem, "results", [])
            if not points:
                raise
        watch.say_warnings([point.result.problem for point in points])
    say_on_the_way(outputs.written)
    code = _save(outputs, inputs, points, parts, blends)
    if error is not None:
        return failure(args.command, error, outputs.written)
    return code if len(points) == len(names) else INTERRUPTED


def _parts(blends: Sequence[Any], ratios: Sequence[float]) -> dict[tuple[int, float], list[str]]:
    """Return what is in the name of each run's picture, by number of the blend and ratio."""
    first = [[name] for name in names_of_blends(blends)] if len(blends) > 1 else [[]]
    last = list(zip(ratios, names_of_ratios(ratios), strict=True))
    return {(i, ratio): [*one, name] for i, one in enumerate(first) for ratio, name in last}


def _save(
    outputs: Outputs,
    inputs: Inputs,
    points: Sequence[SweepPoint],
    parts: dict[tuple[int, float], list[str]],
    blends: Sequence[Any],
) -> int:
    """Save each picture by itself and a figure of all, and return the exit code."""
    from nst_helpers import plots

    saved, titles = [], []
    for point in points:
        *blend, ratio = parts[point.style, point.ratio]
        titles.append(": ".join([*blend, f"alpha/beta = {ratio}"]))
        result, path = point.result, outputs.beside(*blend, ratio)
        own: dict[str, Any] = {"ratios": [point.ratio], "step": result.steps_done}
        if blends[point.style]:
            own["style_weights"] = [blends[point.style]]
        if result.history and outputs.save(result.image, path, **own):
            saved.append(path)
    say(f"each picture by itself: {', '.join(map(str, saved))}")
    images = [*inputs.pictures.values(), *(outputs.finish(p.result.image) for p in points)]
    axes = plots.show_images(images, [*inputs.pictures, *titles], columns=3)
    sheet = plots.figure_to_image(axes[0].figure)  # type: ignore[arg-type]
    if outputs.save(sheet, outputs.path, opaque=True):
        say(f"wrote {outputs.path}: {summary(points[-1].result)}")
    return exit_code(outputs, dict(zip(titles, (p.result for p in points), strict=True)))


if __name__ == "__main__":
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # no word about a home it cannot write
    code = main(signals=SIGNALS)
    SIGNALS.ignore()
    _console.flush()
    sys.exit(code)
