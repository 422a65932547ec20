"""The options of the command line: each is checked by itself, then those that hang together."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, get_args

from nst_helpers import __version__
from nst_helpers import _option_values as _values
from nst_helpers._console import one_line
from nst_helpers._option_checks import complete, problem
from nst_helpers._option_values import ALPHA
from nst_helpers._validate import shown
from nst_helpers.control.recolor import Colors
from nst_helpers.engine.devices import Precision
from nst_helpers.engine.ending import Optimizer
from nst_helpers.images import sample_images
from nst_helpers.losses import CONTENT_LAYERS, RATIOS, STYLE_LAYERS, Convention, Memory
from nst_helpers.network.features import Pooling
from nst_helpers.network.input_formats import InputFormat

__all__ = ["parse"]

MOST_STEPS = 1_000_000_000
COMMANDS = {
    "transfer": "a photograph in the style of a painting",
    "reconstruct": "what one layer still knows of a photograph",
    "texture": "more of the same texture, from noise",
    "sweep": "the same transfer with several ratios alpha/beta, in one figure",
}
DESCRIPTIONS = {
    "transfer": "A photograph in the style of a painting, or of several, which are blended. It may "
    'also be a folder or a pattern in quotes, such as "photos/*.jpg": each picture is then painted '
    "by itself, and --output is a folder. Without the quotes a shell makes the first picture the "
    "content and all others styles."
}
WITHOUT = {"reconstruct": ("style",), "texture": ("content",)}
EXAMPLES = """\
examples:
  python -m nst_helpers transfer photo.jpg painting.jpg -o out.png
  python -m nst_helpers transfer chelsea night_sky -o cat.png --alpha 1e-2 --size 320
  python -m nst_helpers transfer chelsea night_sky -o cat.png --init cat.png --save-every 100
  python -m nst_helpers transfer chelsea night_sky wave --style-weights 0.3 0.7 -o blend.png
  python -m nst_helpers transfer "photos/*.jpg" night_sky -o painted/ --colors keep
  python -m nst_helpers transfer photo.jpg sky.jpg ground.jpg --content-mask regions.png -o out.png
  python -m nst_helpers reconstruct chelsea --layer relu4_2 -o deep.png
  python -m nst_helpers texture pebbles -o more_pebbles.png
  python -m nst_helpers sweep chelsea night_sky -o sweep.png
  python -m nst_helpers sweep chelsea night_sky wave --style-weights 1,0 0.5,0.5 0,1 -o blends.png

Pictures are files, or the names of pictures that come with the package:
  {samples}

A .png keeps the options it was made with: nst_helpers.load_settings("out.png") returns them.

exit codes: 0 done; 1 something was wrong, and it says what, a run's picture is saved all the same;
2 a mistyped command; 130 interrupted, 143 terminated, 129 hung up: what there was by then is saved;
70 a fault of this program, which the environment variable NST_TRACEBACK=1 shows in full
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command and its options; a mistyped one ends the program with exit code 2."""
    parser = _parser()
    parser.words = sys.argv[1:] if arguments is None else list(arguments)
    args = parser.parse_args(arguments)
    command: _Parser = args.parser
    complete(args)
    if wrong := problem(args):
        command.error(wrong)
    for name in ("ratios", "style_weights") if args.command == "sweep" else ():
        values = getattr(args, name)
        setattr(args, name, values and list(dict.fromkeys(values)))  # each picture once
    return args


class _Parser(argparse.ArgumentParser):
    """One whose messages take one line, and name the value, too."""

    words: Sequence[str] = ()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Also -1e5 and -inf are numbers, if wrong ones, and not options.
        self._negative_number_matcher = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        match = re.match(r"argument (\S+): expected (one|at least one) argument", message)
        for option in match[1].split("/") if match else ():
            if option in self.words[:-1]:
                value = self.words[self.words.index(option) + 1]
                message += (
                    f"; got {shown(value)}, which begins like an option: {option}=... takes it"
                )
        super().error(one_line(message))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.words = self.words or list(args or ())  # of a command: what follows its name
        return super().parse_known_args(args, namespace)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults as they are typed, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if not action.option_strings or default in (None, (), False, argparse.SUPPRESS):
            return action.help
        words = default if isinstance(default, tuple | list) else [default]
        text = " ".join(f"{x:g}" if isinstance(x, float) else str(x) for x in words)
        return f"{action.help} (default: {text})"


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m nst_helpers",
        description="Neural style transfer from white noise (Gatys, Ecker & Bethge 2016).",
        epilog=EXAMPLES.format(samples=", ".join(sample_images())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        pictures = [kind for kind in ("content", "style") if kind not in WITHOUT.get(name, ())]
        words = " ".join(pictures) + " [style ...]" * ("style" in pictures)
        usage = f"{parser.prog} {name} {words} -o FILE [option ...]"
        options: dict[str, Any] = {"usage": usage, "formatter_class": _Formatter}
        description = DESCRIPTIONS.get(name, text)
        command = commands.add_parser(name, help=text, description=description, **options)
        command.set_defaults(parser=command)
        _add_pictures(command, name, pictures)
        _add_control(command, name)
        _add_loss(command, name)
        _add_run(command)
        _add_network(command)
    return parser


def _add_pictures(command: argparse.ArgumentParser, name: str, pictures: Sequence[str]) -> None:
    kinds = {"content": "photograph", "style": "painting or texture"}
    for kind in pictures:
        several: dict[str, Any] = {"nargs": "+"} if kind == "style" else {}
        words = "; several are blended" if kind == "style" else ""
        if kind == "content" and name == "transfer":
            words = ", a folder or a pattern in quotes"
        text = f"{kinds[kind]}: a file or a sample's name{words}"
        command.add_argument(kind, type=_values.name, help=text, **several)
    add = command.add_argument_group("pictures").add_argument
    folder = "; or a folder, where nothing is replaced" if name == "transfer" else ""
    add(
        "-o",
        "--output",
        type=_values.name if name == "transfer" else _values.file_name,
        required=True,
        metavar="FILE",
        help=f"picture to write (.png, .jpg, .webp); an older one is replaced{folder}",
    )
    if name == "transfer":
        add(
            "--more-contents",
            type=_values.name,
            nargs="+",
            default=(),
            metavar="FILE",
            help="more photographs, folders or patterns: each is painted by itself",
        )
    add("--size", type=_values.side, metavar="PIXELS", default=256, help="shorter side in pixels")
    _add_start(add, name)


def _add_start(add: Callable[..., Any], name: str) -> None:
    words = "noise" if name == "texture" else "noise, content"
    add(
        "--init",
        type=_values.start_without_content if name == "texture" else _values.start,
        default="content" if name == "transfer" else "noise",
        metavar="START",
        help=f"where to start: {words}, or a picture, such as an earlier result to go on from",
    )
    add(
        "--seed",
        type=_values.whole_number(-(2**63), 2**64 - 1),
        default=0,
        metavar="N",
        help="of the noise",
    )
    add(
        "--save-every",
        type=_values.whole_number(1, MOST_STEPS),
        metavar="N",
        help="also write the picture after every N steps: out_0100.png and so on",
    )
    inside = ", and pictures in a folder, too" if name == "transfer" else ""
    singles = " and the pictures of single ratios" if name == "sweep" else ""
    add("--overwrite", action="store_true", help=f"let those{singles} replace older files{inside}")


def _add_control(command: argparse.ArgumentParser, name: str) -> None:
    if name == "reconstruct":
        return
    group = command.add_argument_group("several styles: which, where, whose colours, how coarse")
    add = group.add_argument
    is_sweep = name == "sweep"
    like = "blends to paint, such as 1,0 0.5,0.5 0,1 for two styles" if is_sweep else "their shares"
    add(
        "--style-weights",
        type=_values.blend if is_sweep else _values.weight,
        metavar="W,W" if is_sweep else "W",
        nargs="+",
        help=f"{like}; one number for each style, and equal if not given",
    )
    if name == "texture":
        return
    add(
        "--content-mask",
        type=_values.name,
        metavar="FILE",
        help="picture of flat colours, the content's regions: the darkest has the first style",
    )
    add(
        "--style-mask",
        type=_values.name,
        nargs="+",
        metavar="FILE",
        help="one for each style: a region has the style of the region with its colour",
    )
    add(
        "--colors",
        choices=get_args(Colors),
        default="style",
        help="keep: the content's are put back; match: the style gets them first; luminance: "
        "brightness alone is painted",
    )
    sizes = group.add_mutually_exclusive_group().add_argument
    sizes(
        "--style-scale",
        type=_values.scale,
        metavar="X",
        help="size of the style relative to the content: 0.5 for fine strokes, 2 for coarse ones, "
        "which a --pyramid brings out",
    )
    sizes(
        "--style-size",
        type=_values.side,
        metavar="PIXELS",
        help="the same as the style's shorter side in pixels; --size if not given",
    )


def _add_loss(command: argparse.ArgumentParser, name: str) -> None:
    add = command.add_argument_group("content and style").add_argument
    equivalent = "what looks the same in other conventions"
    if name == "transfer":
        add(
            "--alpha",
            type=_values.weight,
            metavar="X",
            help=f"weight of the content ({ALPHA:g}; {equivalent})",
        )
        add("--beta", type=_values.weight, metavar="X", default=1.0, help="weight of the style")
    if name == "sweep":
        ratios = " ".join(f"{ratio:g}" for ratio in RATIOS)
        add(
            "--ratios",
            type=_values.weight,
            metavar="X",
            nargs="+",
            help=f"alpha/beta ({ratios}; {equivalent})",
        )
    if name == "reconstruct":
        layers: dict[str, Any] = {"type": _values.layer, "nargs": "+", "default": ("relu4_2",)}
        add("--layer", **layers, metavar="LAYER", help="layers to match")
    if name in ("transfer", "sweep"):
        layers = {"type": _values.layer, "nargs": "+", "default": CONTENT_LAYERS}
        add("--content-layers", **layers, metavar="LAYER", help="layers to match")
    if name != "reconstruct":
        layers = {"type": _values.layer, "nargs": "+", "default": STYLE_LAYERS}
        add("--style-layers", **layers, metavar="LAYER", help="layers to match")
    add(
        "--tv",
        type=_values.weight,
        metavar="X",
        default=0.0,
        help="weight of the total variation (smoothness)",
    )
    add(
        "--convention",
        choices=get_args(Convention),
        default="normalised",
        help="constants of the losses",
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("optimisation").add_argument
    add(
        "--steps",
        type=_values.whole_number(1, MOST_STEPS),
        metavar="N",
        help="evaluations of the loss (300; of each size, where a transfer begins at smaller ones)",
    )
    add(
        "--optimizer",
        choices=get_args(Optimizer),
        default="lbfgs",
        help="L-BFGS, or Adam for less memory",
    )
    add(
        "--lr",
        type=_values.step_length,
        metavar="X",
        help="learning rate, the step length; the optimiser's own if not given",
    )
    add(
        "--pyramid",
        type=_values.side,
        nargs="+",
        metavar="PIXELS",
        help="begin at these smaller sizes, smallest first, such as 64 128: larger strokes, sooner;"
        " a transfer of 512 pixels and more does so by itself",
    )


def _add_network(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("network and machine").add_argument
    add(
        "--network",
        type=_values.name,
        default="auto",
        metavar="NAME",
        help="auto, bundled, vgg19 (a 548 MB download), random, or a file",
    )
    formats = ("auto", *get_args(InputFormat))
    add("--input-format", choices=formats, default="auto", help="what the network's file takes")
    add("--pooling", choices=get_args(Pooling), default="avg", help="between the network's blocks")
    precisions = ("auto", *get_args(Precision))
    add("--precision", choices=precisions, default="auto", help="of the network's arithmetic")
    text = "low: larger, but slower; what fits, from --size 512 on"
    add("--memory", choices=get_args(Memory), help=text)
    add(
        "--device",
        type=_values.present_device,
        metavar="NAME",
        help="cpu, cuda, mps; the fastest if not given",
    )
    add("--quiet", action="store_true", help="no progress bar")
