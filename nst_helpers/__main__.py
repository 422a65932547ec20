"""The same without a notebook: ``python -m nst_helpers transfer CONTENT STYLE -o OUT``."""

# ruff: noqa: E402

from __future__ import annotations

from nst_helpers._signals import INTERRUPTED, Signals

SIGNALS = Signals()
if __name__ == "__main__":
    SIGNALS.catch_in_program()  # before torch is imported, which takes seconds

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from nst_helpers import _console, _options
from nst_helpers._console import say, shown
from nst_helpers._conventions import equivalent_factor
from nst_helpers._outputs import Outputs, names_of_ratios
from nst_helpers._watch import watch_run
from nst_helpers.images import (
    cover_image,
    load_alpha,
    load_image,
    noise_like,
    validate_output,
)
from nst_helpers.losses import RATIOS, StyleTransferLoss
from nst_helpers.network.features import Features
from nst_helpers.network.load import load_network
from nst_helpers.optimization import Result, optimize
from nst_helpers.sweeps import sweep

NAMED = 6  # pictures in a line
WRONG, FAULT = 1, 70  # exit codes; 70 is a program's own fault in BSD's sysexits.h, too


class _Problem(Exception):
    """What people can mend, in a sentence."""


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
            make = _sweep if args.command == "sweep" else _make
            return make(args, outputs, signals)
    except Exception as error:
        if signals.received and not signals.at_work:  # what became of it in somebody else's code
            raise KeyboardInterrupt from error
        return _failure(args.command, error, outputs)


def _failure(name: str, error: Exception, outputs: Outputs) -> int:
    """Say what is wrong, and return the exit code."""
    code, text = WRONG, str(error).strip() or type(error).__name__
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        text = f"out of memory; try a smaller --size ({text})"
    elif isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError):
        text = text.splitlines()[0]  # torch's own, such as a device that fails
    elif not isinstance(error, ValueError | OSError | ImportError | _Problem):
        code, text = FAULT, f"this is a fault of nst_helpers: {type(error).__name__}: {text}"
        text += "; set NST_TRACEBACK=1 for the details, and report it"
    say(f"{name}: {text}", error=True)
    if outputs.written:
        say(f"{name}: written before: {', '.join(map(str, outputs.written))}", error=True)
    if os.environ.get("NST_TRACEBACK"):
        traceback.print_exception(error)
    return code


# --- the commands --------------------------------------------------------------------------------


def _make(args: argparse.Namespace, outputs: Outputs, signals: Signals) -> int:
    """Optimise one image, and save it."""
    _reserve(args, outputs, [()])
    pictures, masks = _pictures(args, outputs)
    start, net = _start(args, next(iter(pictures.values()))), _network(args)
    options = _loss_options(args)
    if args.command == "transfer":
        alpha = _in_convention(args, net, pictures, "alpha", [_options.ALPHA])[0]
        options |= {"alpha": alpha, "beta": args.beta}
    elif args.command == "reconstruct":
        options["alpha"] = 1.0
    loss = StyleTransferLoss(net, **pictures, **masks, **options)
    error: Exception | None = None
    with watch_run(args, outputs, signals, args.steps) as watch:
        try:
            result = optimize(loss, start, callback=watch.step, **_optimize_options(args))
        except Exception as failure:
            if watch.last is None:
                raise
            error, result = failure, watch.last.result()  # the steps before it are not lost
        watch.say_warnings([result.problem])
    _say_on_the_way(outputs)
    if outputs.save(result.image, outputs.path):
        say(f"wrote {outputs.path}: {_summary(result)}")
    code = _exit_code(outputs, {args.command: result})
    return code if error is None else _failure(args.command, error, outputs)


def _sweep(args: argparse.Namespace, outputs: Outputs, signals: Signals) -> int:
    """Optimise one image for each ratio, and save them and a figure of all."""
    from nst_helpers import plots

    are_known = args.ratios or args.convention == "normalised"
    ratios = args.ratios or list(RATIOS)
    if are_known:
        _reserve(args, outputs, [(name,) for name in names_of_ratios(ratios)])
    pictures, masks = _pictures(args, outputs)
    start, net = _start(args, pictures["content"]), _network(args)
    if not are_known:
        ratios = _in_convention(args, net, pictures, "ratios", ratios)
        _reserve(args, outputs, [(name,) for name in names_of_ratios(ratios)])
    names = dict(zip(ratios, names_of_ratios(ratios), strict=True))
    error: Exception | None = None
    with watch_run(args, outputs, signals, args.steps * len(ratios)) as watch:
        try:
            points = sweep(
                net,
                [pictures["content"]],
                [pictures["style"]],
                ratios,
                start=start,
                callback=lambda run, progress: watch.step(progress, names[ratios[run]]),
                **masks,
                **_loss_options(args),
                **_optimize_options(args),
            )
        except Exception as failure:
            error, points = failure, getattr(failure, "results", [])
            if not points:
                raise
        watch.say_warnings([point.result.problem for point in points])
    results = {names[point.ratio]: point.result for point in points}
    _say_on_the_way(outputs)
    singles = {outputs.beside(name): result for name, result in results.items() if result.history}
    saved = [path for path, result in singles.items() if outputs.save(result.image, path)]
    say(f"each picture by itself: {', '.join(map(str, saved))}")
    titles = [f"alpha/beta = {name}" for name in results]
    images = [*pictures.values(), *(result.image for result in results.values())]
    axes = plots.show_images(images, [*pictures, *titles], columns=3)
    sheet = plots.figure_to_image(axes[0].figure)  # type: ignore[arg-type]
    if outputs.save(sheet, outputs.path, opaque=True):
        say(f"wrote {outputs.path}: {_summary(points[-1].result)}")
    code = _exit_code(outputs, dict(zip(titles, results.values(), strict=True)))
    if error is not None:
        return _failure(args.command, error, outputs)
    return code if len(results) == len(ratios) else INTERRUPTED


def _reserve(args: argparse.Namespace, outputs: Outputs, runs: Sequence[Sequence[str]]) -> None:
    with _about("--output", args.output):
        outputs.open(args.output, args.command)
    with _about("--output", ""):
        outputs.reserve(
            runs, steps=args.steps, save_every=args.save_every, overwrite=args.overwrite
        )


def _pictures(args: argparse.Namespace, outputs: Outputs) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return content and style, those that the command has; and masks of cut-outs.

    By these, what is transparent does not count in the Gram matrices.
    """
    sizes = {"content": args.size, "style": getattr(args, "style_size", None) or args.size}
    pictures, masks = {}, {}
    for name in (name for name in sizes if name in args):
        file = getattr(args, name)
        with _about(name, file):
            pictures[name] = load_image(file, sizes[name])
            alpha = load_alpha(file, sizes[name])
        if bool((alpha < 1).any()):
            masks[f"{name}_mask"] = alpha
    outputs.alpha = masks.get("content_mask")
    if outputs.alpha is not None and not outputs.holds_alpha:
        text = f"{args.content} is a cut-out, and {outputs.path.suffix} cannot be: on white"
        say(f"{args.command}: {text}", error=True)
    with _about("--output", args.output):
        height, width = next(iter(pictures.values())).shape[2:]
        validate_output(args.output, (width, height))  # some formats end at 16,383 pixels
    return pictures, masks if len(pictures) == 2 else {}


def _start(args: argparse.Namespace, like: torch.Tensor) -> torch.Tensor:
    if args.init == "noise":
        return noise_like(like, args.seed)
    if args.init == "content":
        return like
    with _about("--init", args.init):
        return cover_image(load_image(args.init), *like.shape[2:])


def _network(args: argparse.Namespace) -> Features:
    with _about("--network", args.network):
        return load_network(
            args.network,
            pooling=args.pooling,
            device=args.device,
            precision=args.precision,
            input_format=args.input_format,
        )


def _loss_options(args: argparse.Namespace) -> dict[str, Any]:
    layers = {"content_layers": getattr(args, "layer", None) or getattr(args, "content_layers", ())}
    layers["style_layers"] = getattr(args, "style_layers", ())
    options = {"tv_weight": args.tv, "convention": args.convention, "memory": args.memory}
    return options | {name: list(dict.fromkeys(value)) for name, value in layers.items() if value}


def _optimize_options(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("steps", "optimizer", "lr", "pyramid")}


def _in_convention(
    args: argparse.Namespace,
    net: Features,
    pictures: dict[str, Any],
    option: str,
    defaults: Sequence[float],
) -> list[float]:
    """Return the weights of ``option``; if not given, what weighs alike in another convention."""
    value = getattr(args, option)
    if value is not None:
        return value if isinstance(value, list) else [value]
    if args.convention == "normalised":
        return list(defaults)
    noise = noise_like(pictures["content"], args.seed)
    with _about(f"--{option} must be given", ""):
        options = _loss_options(args)
        factor = equivalent_factor(net, pictures, noise, args.convention, options)
    values = [default * factor for default in defaults]
    text = " ".join(f"{value:.6g}" for value in values)
    like = " ".join(f"{default:g}" for default in defaults)
    say(f"--{option} {text}: as {like} in the normalised convention")
    return values


@contextmanager
def _about(option: str, value: object) -> Iterator[None]:
    """Say which option, and what was given, in an error about it."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        text = str(error)
        given = "" if str(value) in text else f"{shown(str(value))}: "
        raise _Problem(f"{option}: {given}{text}") from error


# --- how it ended ------------------------------------------------------------------------------


def _say_on_the_way(outputs: Outputs) -> None:
    """Name the pictures that were written so far."""
    paths = [str(path) for path in outputs.written]
    if len(paths) > NAMED:
        paths[NAMED - 1 : -1] = [f"... ({len(paths)} in all) ..."]
    if paths:
        say(f"on the way: {', '.join(paths)}")


def _summary(result: Result) -> str:
    seconds = result.history[-1]["seconds"] if result.history else 0.0
    ending = "done" if result.stopped == "steps" else result.stopped
    return f"{result.steps_done} steps, {seconds:.1f} s, {ending}"


def _exit_code(outputs: Outputs, results: dict[str, Result]) -> int:
    """Return the exit code, and say on stderr which run has a problem."""
    codes = [0 if outputs.complete else WRONG]
    for name, result in results.items():
        if result.problem:
            say(f"{name}: {result.problem}", error=True)
        codes.append(INTERRUPTED if result.stopped == "interrupted" else WRONG * (not result.ok))
    return max(codes)


if __name__ == "__main__":
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # no word about a home it cannot write
    exit_code = main(signals=SIGNALS)
    SIGNALS.ignore()
    _console.flush()
    sys.exit(exit_code)
