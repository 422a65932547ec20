"""Tensors to figures: takes and returns matplotlib axes, shows images as they are."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nst_helpers.images import to_image, to_pil
from nst_helpers.optimize import Progress, Result

__all__ = ["LiveView", "figure_to_image", "figures_as_jpeg", "plot_history", "show_images"]

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
        Each (1, 3, H, W) or (3, H, W) in [0, 1]; values outside are clipped. Sizes may differ.
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
    pictures = [to_pil(image) for image in images]
    if not pictures:
        raise ValueError("there are no images to show")
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"{len(titles)} titles for {len(pictures)} images")
    if axes is None:
        columns = min(columns or len(pictures), len(pictures))
        rows = math.ceil(len(pictures) / columns)
        shape = np.mean([p.width / p.height for p in pictures])
        size = (columns * height * shape, rows * (height + 0.3))
        figure = plt.figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for unused in axes[len(pictures) :]:
            unused.axis("off")
    axes = list(axes)[: len(pictures)]
    for i, (picture, ax) in enumerate(zip(pictures, axes, strict=True)):
        ax.imshow(picture, interpolation="antialiased")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if titles is not None:
            ax.set_title(titles[i])
    return axes


def plot_history(history: Sequence[dict] | Result, ax: Axes | None = None) -> Axes:
    """Plot the loss terms against the step, on a logarithmic axis; terms that are 0 are left out.

    Parameters
    ----------
    history : list of dict, or Result
        As ``optimize`` records it.
    ax : Axes, optional
        Where to draw; a figure of its own by default.
    """
    history = history.history if isinstance(history, Result) else history
    if ax is None:
        ax = plt.figure(figsize=(5, 3.2), layout="constrained").subplots()
    steps = [entry["step"] for entry in history]
    for name, colour in COLOURS.items():
        values = [entry.get(name, 0) for entry in history]
        if any(values):
            style = "-" if name == "total" else "--"
            ax.semilogy(steps, values, style, color=colour, label=name)
    ax.set(xlabel="step", ylabel="loss")
    ax.grid(alpha=0.3)
    if ax.lines:
        ax.legend(frameon=False)
    return ax


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
    own = figure.canvas
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_canvas(own)
    return to_image(np.asarray(canvas.buffer_rgba())[..., :3])


def figures_as_jpeg(quality: int = 85, dpi: int = 100) -> None:
    """Keep a notebook's figures as JPEG, which is much smaller than PNG; elsewhere, do nothing.

    Parameters
    ----------
    quality : int
        Of the JPEG, up to 95.
    dpi : int
        Pixels per inch of a figure.
    """
    from IPython import get_ipython

    if get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("jpeg", pil_kwargs={"quality": quality})
        plt.rcParams["figure.dpi"] = dpi


class LiveView:
    """A callback for ``optimize`` that shows the picture and the loss in a notebook as it runs.

    Parameters
    ----------
    show_every : int
        Steps between two pictures; the last step is always shown.
    height : float
        Of the figure, in inches.

    Notes
    -----
    It draws one figure again and again in the same place, without pyplot, and what is left in the
    notebook is an ordinary picture that can be seen where nothing runs.
    """

    def __init__(self, show_every: int = 25, height: float = 3.4) -> None:
        if show_every < 1:
            raise ValueError(f"show_every must be 1 or more; got {show_every!r}")
        self.show_every, self.height = show_every, height
        self.history: list[dict] = []
        self._display = None

    def __call__(self, progress: Progress) -> None:
        """Record the step, and every ``show_every`` steps draw."""
        if self.history and progress.step <= self.history[-1]["step"]:
            self.history.clear()  # another run
        self.history.append({"step": progress.step, **progress.terms})
        if progress.step % self.show_every and progress.step not in (1, progress.steps):
            return
        self._show(self.draw(progress))

    def draw(self, progress: Progress) -> Figure:
        """Return the figure: the picture, and the loss so far."""
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
        from IPython.display import Image, display

        file = io.BytesIO()
        figure.savefig(file, format="jpeg", dpi=90, pil_kwargs={"quality": 85})
        picture = Image(file.getvalue(), format="jpeg")
        if self._display is None:
            self._display = display(picture, display_id=True)
        else:
            self._display.update(picture)
