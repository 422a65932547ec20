"""The diagram of the whole: a picture, a network, what is asked for, and the way back."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from IPython.display import Image
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import BoxStyle, FancyBboxPatch, Polygon, Rectangle

from nst_helpers import _validate
from nst_helpers.images import load_image, noise_like
from nst_helpers.layer_losses import gram_matrix
from nst_helpers.lesson.figures import as_png
from nst_helpers.network.load import load_network
from nst_helpers.plots import COLOURS

__all__ = ["PARTS", "RESULT", "draw_pipeline", "show_pipeline"]

PARTS = ("picture", "features", "content", "gram", "style", "total", "pixels")
BLOCKS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
RESULT = Path(__file__).with_name("coffee_bojagi.webp")  # made by this package
PIXELS = 96  # of the pictures in the diagram
DARK, PALE = "#222222", "#b0b0b0"
FONT = 12


def show_pipeline(here: str | Iterable[str] | None = None) -> Image:
    """Show how a picture is made, and which part of that is meant.

    Parameters
    ----------
    here : str or sequence of str, optional
        One or several of ``PARTS``: "picture", "features", "content", "gram", "style", "total",
        "pixels". These are in colour, the rest is grey; by default all is in colour.

    Returns
    -------
    IPython.display.Image
    """
    return as_png(draw_pipeline(here), colours=256)


def draw_pipeline(here: str | Iterable[str] | None = None) -> Figure:
    """Return the figure that ``show_pipeline`` shows.

    Parameters
    ----------
    here : str or sequence of str, optional
        As for ``show_pipeline``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    lit = set(PARTS) if here is None else _parts(here)
    figure = Figure(figsize=(11, 4.6))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 11), ylim=(0, 4.6), aspect="equal")
    ax.axis("off")
    seen = _seen()
    _draw_picture(ax, seen, "picture" in lit)
    _draw_network(ax, seen, "features" in lit)
    _draw_grams(ax, seen, "gram" in lit)
    _draw_style(ax, seen, "style" in lit)
    _draw_content(ax, seen, "content" in lit)
    _draw_total(ax, "total" in lit)
    _draw_way_back(ax, "pixels" in lit)
    return figure


def _parts(here: Any) -> set[str]:
    names = [here] if isinstance(here, str) else _validate.listed("here", here, "names of parts")
    return {_validate.one_of("here", name, PARTS) for name in names}


class _Seen(NamedTuple):
    """What the diagram shows: arrays (H, W, 3) and (H, W), from 0 to 1."""

    noise: Any
    halfway: Any
    result: Any
    photograph: Any
    painting: Any
    maps: dict[str, Any]  # the strongest map of each block
    grams: dict[str, Any]
    content: Any


@functools.cache
def _seen() -> _Seen:
    """Look at three small pictures with the bundled network; a quarter of a second, once."""
    result = load_image(RESULT, PIXELS)[..., 16 : 16 + PIXELS]
    photograph = load_image("coffee", PIXELS)
    photograph = photograph[..., 16 : 16 + PIXELS]
    painting = load_image("bojagi", PIXELS)[..., :PIXELS]
    noise = noise_like(result, seed=0, std=0.25)
    net = load_network("bundled", device="cpu", precision="float32")
    layers = [*BLOCKS, "relu4_2"]
    with torch.no_grad():
        features = net(result, layers)
    grams = {layer: gram_matrix(features[layer])[0, :16, :16].sqrt() for layer in BLOCKS}
    return _Seen(
        noise=_pixels(noise),
        halfway=_pixels(0.5 * (noise + result)),
        result=_pixels(result),
        photograph=_pixels(photograph),
        painting=_pixels(painting),
        maps={layer: _strongest(features[layer]) for layer in BLOCKS},
        grams={layer: _from_0_to_1(gram) for layer, gram in grams.items()},
        content=_strongest(features["relu4_2"]),
    )


def _strongest(features: torch.Tensor) -> Any:
    """Return the map that varies most, compared with its largest value, away from the edges."""
    inner = features[0, :, 1:-1, 1:-1]
    best = (inner.std((1, 2)) / inner.amax((1, 2)).clamp(min=1e-6)).argmax()
    return _from_0_to_1(features[0, best])


def _pixels(image: torch.Tensor) -> Any:
    return image[0].clamp(0, 1).permute(1, 2, 0).numpy()


def _from_0_to_1(values: torch.Tensor) -> Any:
    return (values / values.max().clamp(min=1e-6)).clamp(0, 1).numpy()


# --- parts, from left to right; coordinates are inches -------------------------------------------


def _draw_picture(ax: Axes, seen: _Seen, lit: bool) -> None:
    for i, picture in enumerate((seen.noise, seen.halfway, seen.result)):
        _image(ax, picture, (0.2 + 0.3 * i, 2.2 - 0.35 * i, 1.2), lit, layer=3 + i)
    _text(ax, (0.2, 3.8), "the picture,", lit, ha="left", weight="bold")
    _text(ax, (0.2, 3.57), "from white noise on", lit, ha="left")
    _arrow(ax, [(2.06, 2.3), (2.48, 2.3)], lit)


def _draw_network(ax: Axes, seen: _Seen, lit: bool) -> None:
    for block in _blocks():
        x, y, side, depth = block.x, 2.3 - block.side / 2, block.side, block.depth
        over, up = (x + side + depth, y + depth / 2), y + side + depth / 2
        for corners in (
            [(x, y + side), (x + depth, up), (over[0], up), (x + side, y + side)],
            [(x + side, y), over, (over[0], up), (x + side, y + side)],
        ):
            face = "#35b779" if lit else "#e6e6e6"
            ax.add_patch(Polygon(corners, facecolor=face, edgecolor="white", linewidth=1))
        _image(ax, seen.maps[block.layer], (x, y, side), lit)
        _text(ax, (x + side / 2, y - 0.07), block.layer[4], lit, va="top")
    _text(ax, (2.55, 1.3), "a trained network, frozen", lit, ha="left", weight="bold")


class _Block(NamedTuple):
    """A block of the network: its first ReLU, and where its box stands."""

    layer: str
    x: float
    side: float
    depth: float


def _blocks() -> list[_Block]:
    sizes = ((1.12, 0.08), (0.82, 0.15), (0.6, 0.24), (0.44, 0.33), (0.33, 0.33))
    x, blocks = 2.55, []
    for layer, (side, depth) in zip(BLOCKS, sizes, strict=True):
        blocks.append(_Block(layer, x, side, depth))
        x += side + depth + 0.05
    return blocks


def _draw_grams(ax: Axes, seen: _Seen, lit: bool) -> None:
    for block in _blocks():
        middle = block.x + (block.side + block.depth) / 2
        top = 2.36 + (block.side + block.depth) / 2
        _arrow(ax, [(middle, top), (middle, 3.44)], lit, COLOURS["style"])
        _image(ax, seen.grams[block.layer], (middle - 0.25, 3.48, 0.5), lit, COLOURS["style"])
    text = "Gram matrices $G$: relu1_1, 2_1, 3_1, 4_1, 5_1"
    _text(ax, (2.85, 4.3), text, lit, COLOURS["style"], ha="left", weight="bold")
    _arrow(ax, [(7.06, 3.73), (7.46, 3.73)], lit, COLOURS["style"])


def _draw_style(ax: Axes, seen: _Seen, lit: bool) -> None:
    text = "style loss\n$(G - A)^2$"
    _box(ax, (7.5, 3.34, 1.36, 0.78), text, lit, COLOURS["style"])
    _image(ax, seen.painting, (9.3, 3.3, 0.86), lit, COLOURS["style"])
    _arrow(ax, [(9.26, 3.73), (8.9, 3.73)], lit, COLOURS["style"])
    _text(ax, (9.73, 4.3), "painting: $A$", lit, COLOURS["style"])


def _draw_content(ax: Axes, seen: _Seen, lit: bool) -> None:
    colour, block = COLOURS["content"], _blocks()[3]
    middle = block.x + block.side / 2
    _arrow(ax, [(middle, 1.8), (middle, 1.44)], lit, colour)
    _image(ax, seen.content, (middle - 0.29, 0.82, 0.58), lit, colour)
    text = "feature maps $F$ of relu4_2"
    _text(ax, (middle - 0.4, 0.95), text, lit, colour, ha="right", weight="bold")
    _arrow(ax, [(middle + 0.33, 1.11), (7.46, 1.11)], lit, colour)
    _box(ax, (7.5, 0.72, 1.36, 0.78), "content loss\n$(F - P)^2$", lit, colour)
    _image(ax, seen.photograph, (9.3, 0.82, 0.86), lit, colour)
    _arrow(ax, [(9.26, 1.11), (8.9, 1.11)], lit, colour)
    _text(ax, (9.73, 0.66), "photograph: $P$", lit, colour)


def _draw_total(ax: Axes, lit: bool) -> None:
    _arrow(ax, [(8.18, 3.3), (8.18, 2.52), (9.36, 2.52)], lit, COLOURS["style"])
    _arrow(ax, [(8.18, 1.54), (8.18, 2.14), (9.36, 2.14)], lit, COLOURS["content"])
    _text(ax, (8.75, 2.72), r"times $\beta$", lit, COLOURS["style"])
    _text(ax, (8.75, 1.95), r"times $\alpha$", lit, COLOURS["content"])
    _box(ax, (9.4, 1.94, 1.4, 0.78), "total loss", lit, DARK)


def _draw_way_back(ax: Axes, lit: bool) -> None:
    _arrow(ax, [(10.5, 1.9), (10.5, 0.3), (1.4, 0.3), (1.4, 1.46)], lit)
    text = "back to the pixels: the gradient says how each one has to change"
    _text(ax, (5.6, 0.3), text, lit, weight="bold", bbox={"facecolor": "white", "edgecolor": "w"})


# --- how a part is drawn: in colour, or grey -----------------------------------------------------


def _image(
    ax: Axes,
    values: Any,
    place: tuple[float, float, float],
    lit: bool,
    frame: str = DARK,
    layer: int = 3,
) -> None:
    x, y, side = place
    colours = colormaps["viridis"](values)[..., :3] if values.ndim == 2 else values
    if not lit:
        grey = colours @ (0.299, 0.587, 0.114)
        colours = (0.72 + 0.23 * grey[..., None]) * (1, 1, 1)
    ax.imshow(colours, extent=(x, x + side, y, y + side), interpolation="nearest", zorder=layer)
    edge = frame if lit else PALE
    outline = Rectangle((x, y), side, side, fill=False, edgecolor=edge, linewidth=1.5)
    ax.add_patch(outline).set_zorder(layer + 0.5)


def _text(
    ax: Axes, at: tuple[float, float], text: str, lit: bool, colour: str = DARK, **options: Any
) -> None:
    options = {"ha": "center", "va": "center", "size": FONT, **options}
    ax.text(*at, text, color=colour if lit else PALE, zorder=5, **options)


def _arrow(ax: Axes, points: list[tuple[float, float]], lit: bool, colour: str = DARK) -> None:
    colour, width = (colour, 2.0) if lit else (PALE, 1.2)
    ax.plot(*zip(*points[:-1], strict=True), color=colour, linewidth=width, zorder=2)
    arrow = {"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0}
    arrow |= {"mutation_scale": 15}
    ax.annotate("", points[-1], points[-2], arrowprops=arrow, zorder=2)


def _box(
    ax: Axes, place: tuple[float, float, float, float], text: str, lit: bool, colour: str
) -> None:
    x, y, width, height = place
    style = BoxStyle("round", pad=0, rounding_size=0.12)
    colour = colour if lit else PALE
    ax.add_patch(FancyBboxPatch((x, y), width, height, style, facecolor=colour, edgecolor="none"))
    middle = (x + width / 2, y + height / 2)
    ax.text(*middle, text, ha="center", va="center", size=FONT, color="white", weight="bold")
