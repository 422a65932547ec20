"""The same without a notebook: ``python -m nst_helpers transfer CONTENT STYLE -o OUT``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm.auto import tqdm

import nst_helpers as nst
from nst_helpers.sweeps import RATIOS

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
        nst.check_output(args.output)  # before the work, not after
        return args.run(args)
    except torch.OutOfMemoryError as error:
        print(f"{args.command}: out of memory; try a smaller --size ({error})", file=sys.stderr)
    except (ValueError, OSError, ImportError) as error:
        print(f"{args.command}: {error}", file=sys.stderr)
    except RuntimeError as error:  # torch's own, such as a device that is not there
        print(f"{args.command}: {str(error).splitlines()[0]}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\n{args.command}: interrupted, nothing written", file=sys.stderr)
        return 130
    return 1


def _transfer(args: argparse.Namespace) -> int:
    content, style = _content_and_style(args)
    layers = {"content_layers": args.content_layers, "style_layers": args.style_layers}
    return _make(args, content, content=content, style=style, beta=args.beta, **layers)


def _reconstruct(args: argparse.Namespace) -> int:
    content = nst.load_image(args.content, args.size)
    return _make(args, content, content=content, content_layers=args.layer)


def _texture(args: argparse.Namespace) -> int:
    style = nst.load_image(args.style, args.size)
    return _make(args, style, style=style, style_layers=args.style_layers)


def _make(args: argparse.Namespace, like: torch.Tensor, **loss_options) -> int:
    """Optimise one picture of the shape of ``like``, and save it."""
    loss = nst.StyleTransferLoss(
        _network(args), alpha=getattr(args, "alpha", 1.0), **_loss_options(args), **loss_options
    )
    start = like if args.init == "content" else nst.noise_like(like, args.seed)
    with _bar(args.steps, args.quiet) as callback:
        result = nst.optimize(loss, start, callback=callback, **_optimize_options(args))
    return _report(result, nst.save_image(result.image, args.output))


def _sweep(args: argparse.Namespace) -> int:
    from nst_helpers.plots import figure_to_image, show_images

    content, style = _content_and_style(args)
    outputs = [args.output.with_stem(f"{args.output.stem}_{ratio:g}") for ratio in args.ratios]
    for output in outputs:
        nst.check_output(output)
    with _bar(args.steps * len(outputs), args.quiet) as callback:
        results = nst.alpha_beta_sweep(
            _network(args),
            content,
            style,
            args.ratios,
            start=content if args.init == "content" else nst.noise_like(content, args.seed),
            callback=lambda run, progress: callback(progress),
            content_layers=args.content_layers,
            style_layers=args.style_layers,
            **_loss_options(args),
            **_optimize_options(args),
        )
    for output, result in zip(outputs, results, strict=False):
        nst.save_image(result.image, output)
    titles = ["content", "style", *(f"alpha/beta = {ratio:g}" for ratio in args.ratios)]
    pictures = [content, style, *(result.image for result in results)]
    sheet = show_images(pictures, titles[: len(pictures)], columns=3)[0].figure
    print(f"each picture by itself: {', '.join(str(o) for o in outputs[: len(results)])}")
    codes = [_report(results[-1], nst.save_image(figure_to_image(sheet), args.output))]
    for ratio, result in zip(args.ratios, results, strict=False):
        if result.stopped not in ("done", "interrupted"):
            print(f"alpha/beta = {ratio:g}: {result.stopped}", file=sys.stderr)
            codes.append(1)
    return 130 if len(results) < len(outputs) else max(codes)


def _network(args: argparse.Namespace) -> nst.Features:
    return nst.load_network(
        args.network, pooling=args.pooling, device=args.device, precision=args.precision
    )


def _loss_options(args: argparse.Namespace) -> dict:
    return {"tv_weight": args.tv, "convention": args.convention, "memory": args.memory}


def _optimize_options(args: argparse.Namespace) -> dict:
    names = ("steps", "optimizer", "lr", "pyramid")
    return {name: getattr(args, name) for name in names}


def _content_and_style(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    content = nst.load_image(args.content, args.size)
    return content, nst.load_image(
        args.style, args.size if args.style_size is None else args.style_size
    )


@contextmanager
def _bar(steps: int, quiet: bool) -> Iterator[Callable[[nst.Progress], None]]:
    with tqdm(total=steps, unit="step", disable=quiet) as bar:

        def advance(progress: nst.Progress) -> None:
            bar.set_postfix_str(f"loss {progress.terms['total']:.3g}", refresh=False)
            bar.update()

        yield advance


def _report(result: nst.Result, path: Path) -> int:
    seconds = result.history[-1]["seconds"] if result.history else 0.0
    print(f"wrote {path}: {len(result.history)} steps, {seconds:.1f} s, {result.stopped}")
    return {"done": 0, "interrupted": 130}.get(result.stopped, 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nst_helpers",
        description="Neural style transfer from white noise (Gatys, Ecker & Bethge 2016).",
        epilog=EXAMPLES.format(samples=", ".join(nst.sample_images())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=nst.__version__)
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
        add("--content-layers", nargs="+", default=nst.CONTENT_LAYERS, help="layers to match")
    if name != "reconstruct":
        add("--style-layers", nargs="+", default=nst.STYLE_LAYERS, help="layers to match")
    add("--tv", type=float, default=0.0, help="weight of the total variation (smoothness)")
    add("--convention", choices=("normalised", "paper", "lecture"), default="normalised")
    add(
        "--network",
        default="auto",
        help="auto, bundled, vgg19 (a 548 MB download), random, or a file",
    )
    add("--pooling", choices=("avg", "max"), default="avg", help="between the network's blocks")
    add("--optimizer", choices=("lbfgs", "adam"), default="lbfgs")
    add("--lr", type=float, help="step length; the optimiser's own if not given")
    add(
        "--pyramid",
        type=int,
        nargs="+",
        default=(),
        help="begin at these smaller sizes, smallest first, such as 64 128: larger strokes, sooner",
    )
    add("--seed", type=int, default=0, help="of the noise")
    add("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    add("--memory", choices=("normal", "low"), default="normal", help="low: larger, but slower")
    add("--device", help="cpu, cuda, mps; the fastest if not given")
    add("--quiet", action="store_true", help="no progress bar")


if __name__ == "__main__":
    sys.exit(main())
