"""Tensors to figures: takes and returns matplotlib axes, shows images as they are."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import DisplayHandle, Image, display
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nst_helpers import _convert, _validate
from nst_helpers.images import to_image, to_pil
from nst_helpers.losses import CONTENT_LAYERS, STYLE_LAYERS
from nst_helpers.network.features import Features, stride
from nst_helpers.optimization import Progress, Result

__all__ = [
    "LiveView",
    "plot_history",
    "plot_layers",
    "show_images",
    "show_matrix",
]

SHOWN = (-1.0, 2.0)  # what is clipped when shown; beyond it, values are no image's
AXES = "matplotlib's Axes"
FONT, TITLE = 11, 12  # points, for a figure as it is shown: readable on a projector
# Okabe & Ito's colours, which colour-blind people can tell apart.
COLOURS = {"total": "#000000", "content": "#0072B2", "style": "#D55E00", "tv": "#009E73"}


def show_images(
    images: Sequence[torch.Tensor] | torch.Tensor,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    height: float = 3.2,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Show images side by side.

    Parameters
    ----------
    images : sequence of torch.Tensor, or one (B, 3, H, W)
        Each (1, 3, H, W) or (3, H, W) in [0, 1]; values a little outside are clipped. Pillow
        pictures and arrays (H, W, 3) are taken as well. Sizes may differ.
    titles : sequence of str, optional
        One for each image.
    columns : int, optional
        Images in a row; all in one row by default.
    height : float
        Of a row, in inches, in a figure of its own.
    axes : sequence of Axes, optional
        Where to draw instead, one for each image.

    Returns
    -------
    list of Axes
    """
    shown = _convert.each("images", images, SHOWN)
    if not shown:
        raise ValueError("there are no images to show: got an empty list of images")
    pictures = [to_pil(image.clamp(0, 1)) for image in shown]
    if titles is not None:
        titles = _labels("titles", titles, len(pictures), may_be_empty=False)
    if columns is not None:
        columns = _validate.positive_int("columns", columns)
    height = _validate.number_between("height", height, 0.1, 100)
    if axes is None:
        columns = min(columns or len(pictures), len(pictures))
        rows = math.ceil(len(pictures) / columns)
        aspect = sum(p.width / p.height for p in pictures) / len(pictures)
        size = (columns * height * aspect, rows * (height + (0.3 if titles else 0.1)))
        figure = plt.figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for unused in grid[len(pictures) :]:
            unused.axis("off")
        axes = list(grid)
    what = f"a list of {AXES}, one for each of {len(pictures)} images"
    axes = [
        _validate.instance("axes", ax, Axes, what) for ax in _validate.listed("axes", axes, what)
    ]
    if len(axes) < len(pictures):
        raise _validate.wrong("axes", what, axes)
    for i, (picture, ax) in enumerate(zip(pictures, axes, strict=False)):
        ax.imshow(picture, interpolation="antialiased")
        ax.set(xticks=[], yticks=[], anchor="N")  # titles of a row on one line
        ax.spines[:].set_visible(False)
        if titles is not None:
            ax.set_title(titles[i], fontsize=TITLE)
    return axes[: len(pictures)]


def _ax(ax: Any, size: tuple[float, float]) -> Axes:
    """Return where to draw: as given, or in a figure of its own."""
    if ax is None:
        return plt.figure(figsize=size, layout="constrained").subplots()
    drawn_on: Axes = _validate.instance("ax", ax, Axes, f"{AXES}, or None")
    return drawn_on


def _labels(name: str, values: Any, count: int, may_be_empty: bool = True) -> list[str]:
    what = f"a list of {count} texts"
    texts = _validate.listed(name, values, what)
    if len(texts) != count and (texts or not may_be_empty):
        raise _validate.wrong(name, what, values)
    texts = [str(_validate.instance(name, text, (str, int, float), what)) for text in texts]
    return [text.encode(errors="replace").decode() for text in texts]


def plot_history(history: Sequence[dict[str, float]] | Result, ax: Axes | None = None) -> Axes:
    """Plot the loss terms against the step, on a logarithmic axis.

    Terms that are 0 are left out, and so is the total where it is one of the terms.

    Parameters
    ----------
    history : list of dict, or Result
        As ``optimize`` records it.
    ax : Axes, optional
        Where to draw; a figure of its own by default.

    Returns
    -------
    Axes
    """
    entries = history.history if isinstance(history, Result) else history
    records = _validate.history("history", entries, COLOURS)
    ax = _ax(ax, (5, 3.2))
    steps = [entry["step"] for entry in records]
    curves = {name: [entry.get(name, 0) for entry in records] for name in COLOURS}
    total = curves.pop("total")
    if total not in curves.values():
        curves = {"total": total, **curves}
    for name, values in curves.items():
        if any(values):
            style = "--" if "total" in curves and name != "total" else "-"
            ax.semilogy(steps, values, style, color=COLOURS[name], label=name)
    ax.set_xlabel("step", fontsize=TITLE)
    ax.set_ylabel("loss", fontsize=TITLE)
    ax.tick_params(labelsize=FONT)
    ax.grid(alpha=0.3)
    if ax.lines:
        ax.legend(frameon=False, fontsize=TITLE)
    return ax


def show_matrix(
    matrix: torch.Tensor,
    title: str | None = None,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Show a matrix of numbers >= 0, such as a Gram matrix, from dark (0) to bright.

    Parameters
    ----------
    matrix : torch.Tensor
        (R, C). With names, each number is written into its place.
    title : str, optional
    rows, columns : sequence of str
        Names of rows and columns.
    limit : float, optional
        The brightest value; the matrix's own largest by default. Give matrices to compare the same.
    ax : Axes, optional
        Where to draw; a figure of its own by default.

    Returns
    -------
    Axes
    """
    what = "a matrix (R, C) of numbers"
    if isinstance(matrix, np.ndarray) and matrix.dtype.kind in "fiu":
        matrix = torch.from_numpy(matrix.astype(np.float32))
    values = _validate.tensor("matrix", matrix, what, "RC").detach().float().cpu().numpy()
    rows = _labels("rows", rows, values.shape[0])
    columns = _labels("columns", columns, values.shape[1])
    if title is not None:
        _validate.instance("title", title, str, "a text, or None")
    limit = values.max() if limit is None else _validate.positive_number("limit", limit)
    size = (1.5 + 0.9 * len(columns), 0.9 + 0.45 * len(rows)) if len(rows) else (3.6, 3.4)
    ax = _ax(ax, size)
    ax.imshow(values, vmin=0, vmax=limit, cmap="viridis", interpolation="nearest")
    ax.set_aspect("auto" if len(rows) else "equal")
    ax.set_xticks(range(len(columns)), columns, fontsize=FONT)
    ax.set_yticks(range(len(rows)), rows, fontsize=FONT)
    ax.set_title(title or "", fontsize=TITLE)
    ax.spines[:].set_visible(False)
    if len(rows) or len(columns):
        for (row, column), value in np.ndenumerate(values):
            colour = "black" if value > 0.6 * limit else "white"
            number = ax.text(column, row, f"{value:.2g}", color=colour, fontsize=FONT)
            number.set(ha="center", va="center")
    return ax


def plot_layers(net: Features, size: int = 256, ax: Axes | None = None) -> Axes:
    """Draw a network as a map: every layer that a picture passes, with its size.

    Parameters
    ----------
    net : Features
    size : int
        Side of a square picture, in pixels. A box is as high as its layer's maps, and the wider
        the more maps there are; the layers of the style and the content loss are coloured.
    ax : Axes, optional
        Where to draw; a figure of its own by default.

    Returns
    -------
    Axes
    """
    _validate.instance("net", net, Features, "a network, as load_network returns it")
    size = _validate.positive_int("size", size)
    _validate.number_between("size", size, 1, 1e6)
    ax = _ax(ax, (11, 4.2))
    x, ticks = 0.0, []
    for box in _boxes(net, size):
        width = 0.35 + 0.1 * math.log2(box.channels)
        middle, top = x + width / 2, box.side / 2
        ax.bar(middle, box.side, width, bottom=-top, color=box.colour, edgecolor="white")
        if box.has_label:
            label = f"{box.channels} x\n{box.side} x {box.side}"
            ax.text(middle, top + size / 40, label, ha="center", va="bottom", fontsize=FONT)
        ticks.append((middle, box.layer))
        x += width + box.gap
    ax.set_xticks(*zip(*ticks, strict=True), rotation=90, fontsize=FONT)
    kinds = ("style", "content")
    key = [Patch(color=COLOURS[kind], label=f"layers of the {kind} loss") for kind in kinds]
    ax.legend(handles=key, loc="upper right", frameon=False, fontsize=TITLE)
    ax.set(yticks=[], xlim=(-0.6, x), ylim=(-0.55 * size, 0.72 * size))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


class _Box(NamedTuple):
    """A layer on the map of a network: C maps of side x side, and the gap behind it."""

    layer: str
    channels: int
    side: int
    colour: str
    has_label: bool
    gap: float


def _boxes(net: Features, size: int) -> Iterator[_Box]:
    """Return what a picture passes on its way through a network."""
    yield _Box("picture", 3, size, "#dddddd", True, 2.0)
    channels = 3
    for layer in net.layers:
        side = -(-size // stride(layer))  # pools round up
        if layer.startswith("pool"):
            yield _Box(layer, channels, side, "#bbbbbb", False, 0.5)
        elif layer.startswith("relu"):
            channels = net.convolution(layer.replace("relu", "conv")).out_channels
            colour = COLOURS["style"] if layer in STYLE_LAYERS else "#dddddd"
            colour = COLOURS["content"] if layer in CONTENT_LAYERS else colour
            is_first_of_block = layer.endswith("_1")
            yield _Box(layer, channels, side, colour, is_first_of_block, 0.12)


def figure_to_image(figure: Figure) -> torch.Tensor:
    """Draw a figure into an image that ``save_image`` can write.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Left as it is.

    Returns
    -------
    torch.Tensor
        (1, 3, H, W) in [0, 1].
    """
    canvas_before = figure.canvas
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_canvas(canvas_before)
    return to_image(np.asarray(canvas.buffer_rgba())[..., :3])


class LiveView:
    """A callback for ``optimize`` that shows image and loss in a notebook while it runs.

    Parameters
    ----------
    show_every : int
        Steps between two drawings, 1 or more; the last step is always shown.
    height : float
        Of the figure, in inches.

    Notes
    -----
    It draws one figure again and again in the same place, without pyplot, and what is left in the
    notebook is an ordinary picture that can be seen where nothing runs.
    """

    def __init__(self, show_every: int = 25, height: float = 3.4) -> None:
        self.show_every = _validate.positive_int("show_every", show_every)
        self.height = _validate.number_between("height", height, 0.1, 100)
        self.history: list[dict[str, float]] = []
        self._handle: DisplayHandle | None = None

    def __call__(self, progress: Progress) -> None:
        """Record the step, and every ``show_every`` steps draw."""
        _validate.instance("progress", progress, Progress, "the Progress that optimize hands over")
        if self.history and progress.step <= self.history[-1]["step"]:
            self.history.clear()  # another run
        self.history.append({"step": progress.step, **progress.terms})
        if progress.step % self.show_every and progress.step not in (1, progress.steps):
            return
        self._show(self.draw(progress))

    def draw(self, progress: Progress) -> Figure:
        """Return the figure: the image, of a batch the first one, and the loss so far."""
        image = progress.image()[:1]
        width = self.height * image.shape[3] / image.shape[2]
        figure = Figure(figsize=(width + 5, self.height), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(width, 5))
        per_step = progress.seconds / progress.step
        title = f"step {progress.step} of {progress.steps}   {per_step:.2f} s per step"
        show_images([image], [title], axes=[left])
        plot_history(self.history, right)
        right.set_xlim(0, progress.steps)
        return figure

    def _show(self, figure: Figure) -> None:
        file = io.BytesIO()
        figure.savefig(file, format="jpeg", dpi=120, pil_kwargs={"quality": 85})
        picture = Image(file.getvalue(), format="jpeg")
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)
