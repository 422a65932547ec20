"""Commands that paint one picture by itself, or many, one after the other."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from nst_helpers import __version__, _contents
from nst_helpers._console import Problem, about, say
from nst_helpers._conventions import equivalent_factor
from nst_helpers._endings import exit_code, failure, say_on_the_way, summary
from nst_helpers._inputs import Inputs, Style, load_inputs, load_styles, make_start
from nst_helpers._option_values import ALPHA
from nst_helpers._outputs import Outputs
from nst_helpers._signals import INTERRUPTED, Signals
from nst_helpers._watch import watch_run
from nst_helpers.engine.sizes import LARGE, plan_sizes
from nst_helpers.images import noise_like, validate_output
from nst_helpers.losses import Memory, StyleTransferLoss
from nst_helpers.network.features import Features
from nst_helpers.network.load import load_network
from nst_helpers.optimization import optimize
from nst_helpers.prints import PAIRS, estimate_needs

__all__ = [
    "in_convention",
    "loss_options",
    "make_network",
    "optimize_options",
    "paint",
    "prepare",
    "reserve",
    "transfer",
]

NOT_SETTINGS = ("parser", "output", "more_contents", "overwrite", "quiet", "save_every")


def transfer(args: argparse.Namespace, outputs: Outputs, signals: Signals) -> int:
    """Paint each content by itself: what goes wrong with one does not end the rest."""
    with about("content", ""):
        contents = _contents.contents_of([args.content, *args.more_contents], args.command)
    is_one = contents == [args.content]
    steps = range(args.save_every, args.steps + 1, args.save_every) if args.save_every else ()
    with about("--output", args.output):
        paths = _contents.pictures_of(contents, args.output, is_one=is_one, steps=steps)
    is_file = is_one and paths == [Path(args.output)]
    _refuse(args, len(contents), is_file)
    paths = reserve(args, outputs, paths, replace=is_file)
    styles = load_styles(args)
    if is_one:
        return _paint(args, args.content, styles, lambda: make_network(args), outputs, signals)
    net, codes = make_network(args), []
    for content, path in zip(contents, paths, strict=True):
        signals.check()
        outputs.begin(path)
        try:
            codes.append(_paint(args, content, styles, lambda: net, outputs, signals))
        except Exception as error:
            name = args.command if content in str(error) else f"{args.command}: {content}"
            codes.append(failure(name, error))
        if codes[-1] == INTERRUPTED:
            break
    say(f"{codes.count(0)} of {len(contents)} contents are painted, in {args.output}")
    return max(codes)


def paint(args: argparse.Namespace, outputs: Outputs, signals: Signals) -> int:
    """Optimise one image."""
    reserve(args, outputs, [args.output])
    content, styles = vars(args).get("content"), load_styles(args)
    return _paint(args, content, styles, lambda: make_network(args), outputs, signals)


def _refuse(args: argparse.Namespace, contents: int, is_file: bool) -> None:
    """Raise for what is not meant, most likely."""
    if args.content_mask and contents > 1:
        raise Problem(f"--content-mask: {args.content_mask} is for one content, and not {contents}")
    is_said = args.style_weights or args.content_mask
    if contents == 1 and not is_file and len(args.style) > 1 and not is_said:
        raise Problem(
            f"style: {len(args.style)} styles for one content, in a folder: if most of them are "
            "contents, put their pattern in quotes; if not, add --style-weights"
        )


def _paint(
    args: argparse.Namespace,
    content: str | None,
    styles: Sequence[Style],
    network: Callable[[], Features],
    outputs: Outputs,
    signals: Signals,
) -> int:
    """Optimise one image, and save it."""
    inputs, before = prepare(args, content, styles, outputs), len(outputs.written)
    start, net = make_start(args, inputs.like), network()
    options = loss_options(args) | inputs.arguments
    if vars(args).get("style_weights"):
        options["style_weights"] = args.style_weights
    if args.command == "transfer":
        alpha = in_convention(args, net, options, "alpha", [ALPHA])[0]
        options |= {"alpha": alpha, "beta": args.beta}
        outputs.settings["alpha"] = alpha
    elif args.command == "reconstruct":
        options["alpha"] = 1.0
    loss = StyleTransferLoss(net, **options)
    if args.size >= LARGE:
        loss.memory = _say_needs(args, loss, start)
    error: Exception | None = None
    with watch_run(args, outputs, signals, args.steps) as watch:
        try:
            result = optimize(loss, start, callback=watch.step, **optimize_options(args))
        except Exception as problem:
            if watch.last is None:
                raise
            error, result = problem, watch.last.result()  # the steps before it are not lost
        watch.say_warnings([result.problem])
    say_on_the_way(outputs.written[before:])
    if outputs.save(result.image, outputs.path, step=result.steps_done):
        say(f"wrote {outputs.path}: {summary(result)}")
    code = exit_code(outputs, {args.command: result})
    return code if error is None else failure(args.command, error, outputs.written[before:])


def _say_needs(args: argparse.Namespace, loss: StyleTransferLoss, start: torch.Tensor) -> Memory:
    """Say what a large picture will take, and return how it is held in memory."""
    sizes = plan_sizes(args.size, args.steps, args.pyramid)
    names = ("optimizer", "lr", "history_size")
    options = {name: value for name, value in optimize_options(args).items() if name in names}
    needs = estimate_needs(loss, start, sizes, args.memory, **options)
    say(f"{args.command}: {sizes}: {needs}")
    return needs.memory


# --- what commands share -------------------------------------------------------------------------


def reserve(
    args: argparse.Namespace,
    outputs: Outputs,
    paths: Sequence[Path],
    runs: Sequence[Sequence[str]] = ((),),
    *,
    replace: bool = True,
) -> list[Path]:
    """Return the paths of pictures, once all that is written can be."""
    with about("--output", args.output):
        paths = [validate_output(path) for path in paths]
    with about("--output", ""):
        outputs.reserve(
            paths,
            runs,
            steps=args.steps,
            save_every=args.save_every,
            replace=replace,
            overwrite=args.overwrite,
        )
    return paths


def prepare(
    args: argparse.Namespace, content: str | None, styles: Sequence[Style], outputs: Outputs
) -> Inputs:
    """Return what the loss compares, and say to the outputs what becomes of its image."""
    inputs = load_inputs(args, content, styles)
    outputs.alpha, outputs.finish = inputs.alpha, inputs.finish
    outputs.settings = _settings(args, content)
    if outputs.alpha is not None and not outputs.holds_alpha:
        text = f"{content} is a cut-out, and {outputs.path.suffix} cannot be: on white"
        say(f"{args.command}: {text}", error=True)
    with about("--output", args.output):
        height, width = inputs.like.shape[2:]
        validate_output(outputs.path, (width, height))  # some formats end at 16,383 pixels
    return inputs


def _settings(args: argparse.Namespace, content: str | None) -> dict[str, Any]:
    """Return the options of a picture by name, as a file can keep them."""
    settings = {"version": __version__, **vars(args), "content": content}
    kept = {
        name: value
        for name, value in settings.items()
        if name not in NOT_SETTINGS and value not in (None, ()) and value is not False
    }
    return {
        name: value if isinstance(value, int | float | list | tuple) else str(value)
        for name, value in kept.items()
    }


def make_network(args: argparse.Namespace) -> Features:
    """Return the network of a command."""
    with about("--network", args.network):
        return load_network(
            args.network,
            pooling=args.pooling,
            device=args.device,
            precision=args.precision,
            input_format=args.input_format,
        )


def loss_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the loss, but for its pictures, masks and weights."""
    layers = {"content_layers": getattr(args, "layer", None) or getattr(args, "content_layers", ())}
    layers["style_layers"] = getattr(args, "style_layers", ())
    options = {"tv_weight": args.tv, "convention": args.convention}
    options["memory"] = args.memory or "normal"
    return options | {name: list(dict.fromkeys(value)) for name, value in layers.items() if value}


def optimize_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return those of ``optimize``."""
    options = {name: getattr(args, name) for name in ("steps", "optimizer", "lr", "pyramid")}
    if args.pyramid:
        options["steps"] = plan_sizes(args.size, args.steps, args.pyramid).steps
    return options | ({"history_size": PAIRS} if args.size >= LARGE else {})


def in_convention(
    args: argparse.Namespace,
    net: Features,
    arguments: dict[str, Any],
    option: str,
    defaults: Sequence[float],
) -> list[float]:
    """Return the weights of ``option``; if not given, what weighs alike in another convention."""
    value = getattr(args, option)
    if value is not None:
        return value if isinstance(value, list) else [value]
    if args.convention == "normalised":
        return list(defaults)
    noise = noise_like(arguments["content"], args.seed)
    with about(f"--{option} must be given", ""):
        factor = equivalent_factor(net, arguments, noise, args.convention)
    values = [default * factor for default in defaults]
    text = " ".join(f"{value:.6g}" for value in values)
    like = " ".join(f"{default:g}" for default in defaults)
    say(f"--{option} {text}: as {like} in the normalised convention")
    return values
