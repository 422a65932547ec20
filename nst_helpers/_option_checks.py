"""Options of the command line that hang together: what is wrong with them as a whole."""

from __future__ import annotations

import argparse
from itertools import pairwise

from nst_helpers._option_values import LARGEST
from nst_helpers.engine.sizes import STEPS, Sizes, plan_sizes
from nst_helpers.network.features import stride

__all__ = ["complete", "problem", "style_size"]


def complete(args: argparse.Namespace) -> None:
    """Choose what was not given: the sizes of a transfer that is large, and steps."""
    is_planned = args.command == "transfer" and args.pyramid is None
    sizes = plan_sizes(args.size) if is_planned else Sizes((args.size,), (STEPS,))
    args.pyramid = sizes.pyramid if args.pyramid is None else args.pyramid
    args.steps = sum(sizes.steps) if args.steps is None else args.steps


def problem(args: argparse.Namespace) -> str:
    """Return what is wrong, as argparse says it; "" if nothing is."""
    checks = (_sizes, _steps, _loss_weights, _style_weights, _masks)
    return next(filter(None, (check(args) for check in checks)), "")


def style_size(args: argparse.Namespace) -> int:
    """Return the shorter side of the styles in pixels."""
    given = vars(args)
    scaled = round(args.size * (given.get("style_scale") or 1))
    size: int = given.get("style_size") or max(1, scaled)
    return size


def _sizes(args: argparse.Namespace) -> str:
    """Return why a size is too small for a layer, or for the other sizes."""
    content, style = _layers(args)
    given = vars(args)
    sizes = [("--size", args.size, content + style)]
    if given.get("style_size"):
        sizes.append(("--style-size", args.style_size, style))
    if given.get("style_scale"):
        size, got = style_size(args), f"{args.style_scale:g} ({style_size(args)} pixels)"
        deepest = max(style, key=stride, default="relu1_1")
        if not stride(deepest) <= size <= LARGEST:
            least, most = stride(deepest), LARGEST
            return (
                f"argument --style-scale: --size {args.size} times it must be from {least} (for "
                f"{deepest}) to {most} pixels; got {got}"
            )
    sizes += [("--pyramid", size, content + style) for size in args.pyramid]
    for option, size, layers in sizes:
        deepest = max(layers, key=stride, default="relu1_1")
        if size < stride(deepest):
            return (
                f"argument {option}: must be at least {stride(deepest)} for {deepest}; got {size}"
            )
    if any(small >= large for small, large in pairwise((*args.pyramid, args.size))):
        got = " ".join(map(str, args.pyramid))
        return f"argument --pyramid: must rise, and stay below --size {args.size}; got {got}"
    return ""


def _layers(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the layers of content and style that count."""
    given = vars(args)
    content = [*given.get("layer", ()), *given.get("content_layers", ())]
    style = [*given.get("style_layers", ())]
    has_content = given.get("alpha") != 0 and any(given.get("ratios") or [1])
    has_style = given.get("beta") != 0
    return content if has_content else [], style if has_style else []


def _steps(args: argparse.Namespace) -> str:
    if args.save_every and args.save_every > args.steps:
        return f"argument --save-every: must be at most --steps {args.steps}; got {args.save_every}"
    if args.steps <= len(args.pyramid):
        least = len(args.pyramid) + 1
        return f"argument --steps: must be at least {least}, one for each size; got {args.steps}"
    return ""


def _loss_weights(args: argparse.Namespace) -> str:
    if args.command == "transfer" and args.alpha == 0 and args.beta == 0:
        return "argument --alpha: 0 and --beta 0 leave nothing to match; got 0"
    return ""


def _style_weights(args: argparse.Namespace) -> str:
    """Return why weights do not fit the styles."""
    weights = vars(args).get("style_weights")
    if not weights:
        return ""
    count, is_list = len(args.style), isinstance(weights[0], tuple)
    for each in weights if is_list else [weights]:
        got = ("," if is_list else " ").join(f"{number:g}" for number in each)
        if len(each) != count:
            numbers = "1 number" if count == 1 else f"{count} numbers"
            like = (" with a comma between" if is_list else "") if count > 1 else ""
            return (
                f"argument --style-weights: must be {numbers}{like}, one for each style; got {got}"
            )
        if not any(each):
            return f"argument --style-weights: must not all be 0; got {got}"
    return ""


def _masks(args: argparse.Namespace) -> str:
    """Return why masks do not fit the styles."""
    given = vars(args)
    content, style = given.get("content_mask"), given.get("style_mask")
    if style and not content:
        return f"argument --style-mask: needs --content-mask, where styles go; got {style[0]!r}"
    if style and len(style) != len(args.style):
        count = len(args.style)
        got = " ".join(style)
        return f"argument --style-mask: must be {count} pictures, one for each style; got {got!r}"
    if content and not style and len(args.style) > 1 and args.style_weights:
        return (
            "argument --style-weights: with --content-mask alone each style has a region of its "
            "own: weights blend styles that have a --style-mask each; got "
            f"{args.style_weights[0]!r}"
        )
    return ""
