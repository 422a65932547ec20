"""The same without a notebook: ``python -m nst_helpers transfer CONTENT STYLE -o OUT``."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch
from tqdm.auto import tqdm

from nst_helpers import __version__
from nst_helpers.engine.devices import Precision
from nst_helpers.images import load_image, noise_like, sample_images, save_image, validate_output
from nst_helpers.losses import (
    CONTENT_LAYERS,
    RATIOS,
    STYLE_LAYERS,
    Convention,
    Memory,
    StyleTransferLoss,
)
from nst_helpers.network.features import Features, Pooling
from nst_helpers.network.input_formats import InputFormat
from nst_helpers.network.load import load_network
from nst_helpers.optimization import Optimizer, Progress, Result, optimize
from nst_helpers.plots import figure_to_image, show_images
from nst_helpers.sweeps import alpha_beta_sweep

INTERRUPTED = 130  # exit code, as shells have it: 128 + SIGINT
EXAMPLES = """\
examples:
  python -m nst_helpers transfer photo.jpg painting.jpg -o out.png
  python -m nst_helpers transfer chelsea night_sky -o cat.png --alpha 1e-2 --size 320
  python -m nst_helpers reconstruct chelsea --layer relu4_2 -o deep.png
  python -m nst_helpers texture pebbles -o more_pebbles.png
  python -m nst_helpers sweep chelsea night_sky -o sweep.png

Pictures are files, or the names of pictures that come with the package:
  {samples}

exit codes: 0 done; 1 something was wrong, and it says what; 2 a mistyped command;
130 interrupted, and what there was by then is saved
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = _parser().parse_args(arguments)
    try:
        validate_output(args.output)  # before the work, not after
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except torch.OutOfMemoryError as error:
        print(f"{args.command}: out of memory; try a smaller --size ({error})", file=sys.stderr)
    except (ValueError, OSError, ImportError) as error:
        print(f"{args.command}: {error}", file=sys.stderr)
    except RuntimeError as error:  # torch's own, such as a device that is not there
        print(f"{args.command}: {str(error).splitlines()[0]}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\n{args.command}: interrupted, nothing written", file=sys.stderr)
        return INTERRUPTED
    return 1


def _transfer(args: argparse.Namespace) -> int:
    content, style = _content_and_style(args)
    layers = {"content_layers": args.content_layers, "style_layers": args.style_layers}
    return _make(args, content, content=content, style=style, beta=args.beta, **layers)


def _reconstruct(args: argparse.Namespace) -> int:
    content = load_image(args.content, args.size)
    return _make(args, content, content=content, content_layers=args.layer)


def _texture(args: argparse.Namespace) -> int:
    style = load_image(args.style, args.size)
    return _make(args, style, style=style, style_layers=args.style_layers)


def _make(args: argparse.Namespace, like: torch.Tensor, **loss_options: Any) -> int:
    """Optimise one image of the shape of ``like``, and save it."""
    alpha = getattr(args, "alpha", 1.0)
    loss = StyleTransferLoss(_network(args), alpha=alpha, **_loss_options(args), **loss_options)
    start = like if args.init == "content" else noise_like(like, args.seed)
    with _bar(args.steps, args.quiet) as callback:
        result = optimize(loss, start, callback=callback, **_optimize_options(args))
    print(f"wrote {save_image(result.image, args.output)}: {_summary(result)}")
    return _exit_code([args.command], [result])


def _sweep(args: argparse.Namespace) -> int:
    content, style = _content_and_style(args)
    outputs = [args.output.with_stem(f"{args.output.stem}_{ratio:g}") for ratio in args.ratios]
    for output in outputs:
        validate_output(output)
    net = _network(args)
    with _bar(args.steps * len(outputs), args.quiet) as callback:
        results = alpha_beta_sweep(
            net,
            content,
            style,
            args.ratios,
            start=content if args.init == "content" else noise_like(content, args.seed),
            callback=lambda run, progress: callback(progress),
            content_layers=args.content_layers,
            style_layers=args.style_layers,
            **_loss_options(args),
            **_optimize_options(args),
        )
    for output, result in zip(outputs, results, strict=False):
        save_image(result.image, output)
    names = [f"alpha/beta = {ratio:g}" for ratio in args.ratios[: len(results)]]
    images = [content, style, *(result.image for result in results)]
    axes = show_images(images, ["content", "style", *names], columns=3)
    sheet = figure_to_image(axes[0].figure)  # type: ignore[arg-type]
    print(f"each picture by itself: {', '.join(str(o) for o in outputs[: len(results)])}")
    print(f"wrote {save_image(sheet, args.output)}: {_summary(results[-1])}")
    return max(_exit_code(names, results), 0 if len(results) == len(outputs) else INTERRUPTED)


def _network(args: argparse.Namespace) -> Features:
    return load_network(
        args.network,
        pooling=args.pooling,
        device=args.device,
        precision=args.precision,
        input_format=args.input_format,
    )


def _loss_options(args: argparse.Namespace) -> dict[str, Any]:
    return {"tv_weight": args.tv, "convention": args.convention, "memory": args.memory}


def _optimize_options(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("steps", "optimizer", "lr", "pyramid")}


def _content_and_style(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    content = load_image(args.content, args.size)
    return content, load_image(
        args.style, args.size if args.style_size is None else args.style_size
    )


@contextmanager
def _bar(steps: int, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    with warnings.catch_warnings(), tqdm(total=steps, unit="step", disable=quiet) as bar:
        warnings.simplefilter("ignore", UserWarning)  # a result has its problem with it

        def advance(progress: Progress) -> None:
            bar.set_postfix_str(f"loss {progress.terms['total']:.3g}", refresh=False)
            bar.update()

        yield advance


def _summary(result: Result) -> str:
    seconds = result.history[-1]["seconds"] if result.history else 0.0
    ending = "done" if result.stopped == "steps" else result.stopped
    return f"{result.steps_done} steps, {seconds:.1f} s, {ending}"


def _exit_code(names: Sequence[str], results: Sequence[Result]) -> int:
    """Return the worst exit code, and say on stderr which run has a problem."""
    codes = [0]
    for name, result in zip(names, results, strict=True):
        if result.problem:
            print(f"{name}: {result.problem}", file=sys.stderr)
        codes.append(INTERRUPTED if result.stopped == "interrupted" else int(not result.ok))
    return max(codes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nst_helpers",
        description="Neural style transfer from white noise (Gatys, Ecker & Bethge 2016).",
        epilog=EXAMPLES.format(samples=", ".join(sample_images())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    jobs = {
        "transfer": (_transfer, "a photograph in the style of a painting"),
        "reconstruct": (_reconstruct, "what one layer still knows of a photograph"),
        "texture": (_texture, "more of the same texture, from noise"),
        "sweep": (_sweep, "the same transfer with several ratios alpha/beta, in one figure"),
    }
    for name, (run, text) in jobs.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        command.set_defaults(run=run)
        _add_options(command, name)
    return parser


def _add_options(command: argparse.ArgumentParser, name: str) -> None:
    add = command.add_argument
    if name != "texture":
        add("content", help="photograph: a file or a sample's name")
    if name != "reconstruct":
        add("style", help="painting or texture: a file or a sample's name")
    add("-o", "--output", type=Path, required=True, help="picture to write (.png, .jpg, .webp)")
    add("--size", type=int, default=256, help="shorter side in pixels")
    add("--steps", type=int, default=300, help="evaluations of the loss")
    starts = ["noise"] if name == "texture" else ["noise", "content"]
    init = "content" if name == "transfer" else "noise"
    add("--init", choices=starts, default=init, help="where to start")
    if name == "transfer":
        add("--alpha", type=float, default=1e-3, help="weight of the content")
        add("--beta", type=float, default=1.0, help="weight of the style")
    if name == "sweep":
        add("--ratios", type=float, nargs="+", default=RATIOS, help="alpha/beta, several")
    if name == "reconstruct":
        add("--layer", nargs="+", default=["relu4_2"], help="layers to match")
    if name in ("transfer", "sweep"):
        add("--style-size", type=int, help="shorter side of the style picture; --size if not given")
        add("--content-layers", nargs="+", default=CONTENT_LAYERS, help="layers to match")
    if name != "reconstruct":
        add("--style-layers", nargs="+", default=STYLE_LAYERS, help="layers to match")
    add("--tv", type=float, default=0.0, help="weight of the total variation (smoothness)")
    add("--convention", choices=get_args(Convention), default="normalised")
    add(
        "--network",
        default="auto",
        help="auto, bundled, vgg19 (a 548 MB download), random, or a file",
    )
    formats = ("auto", *get_args(InputFormat))
    add("--input-format", choices=formats, default="auto", help="what the network's file takes")
    add("--pooling", choices=get_args(Pooling), default="avg", help="between the network's blocks")
    add("--optimizer", choices=get_args(Optimizer), default="lbfgs")
    add("--lr", type=float, help="learning rate, the step length; the optimiser's own if not given")
    add(
        "--pyramid",
        type=int,
        nargs="+",
        default=(),
        help="begin at these smaller sizes, smallest first, such as 64 128: larger strokes, sooner",
    )
    add("--seed", type=int, default=0, help="of the noise")
    add("--precision", choices=("auto", *get_args(Precision)), default="auto")
    add("--memory", choices=get_args(Memory), default="normal", help="low: larger, but slower")
    add("--device", help="cpu, cuda, mps; the fastest if not given")
    add("--quiet", action="store_true", help="no progress bar")


if __name__ == "__main__":
    sys.exit(main())
