"""What the explorer shows of a run: picture, progress, curves, buttons, messages, kept pictures.

Knows nothing of threads or networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import ipywidgets
import torch
from ipywidgets import Box, HBox, VBox

from nst_helpers.explorer.recording import CurvePoint
from nst_helpers.explorer.settings import shorten
from nst_helpers.explorer.widgets import (
    WIDE,
    Markup,
    SafeHTML,
    close_widget,
    markup,
    seal_widget,
)
from nst_helpers.images import encode_image
from nst_helpers.language import N_, _
from nst_helpers.optimization import Result

__all__: list[str] = []

MAX_KEPT = 12  # pictures in the strip
MAX_MESSAGE = 1000  # letters
MAX_POINTS = 300  # of a curve, which is 560 pixels wide
NOTHING = Markup("")
BUTTONS = {  # icon and tooltip; texts are marked here, and translated where they are shown
    N_("Start"): ("play", N_("Paint; go on after Pause, Stop or the last step")),
    N_("Pause"): ("pause", N_("Hold the picture as it is; sliders may be turned meanwhile")),
    N_("Step"): ("step-forward", N_("One step, then pause")),
    N_("Stop"): ("stop", N_("End the run, and keep the picture")),
    N_("Reset"): ("refresh", N_("Back to the start, with the settings below")),
    N_("Keep"): ("bookmark", N_("Put the picture into the strip, to compare")),
    N_("Save PNG"): ("download", N_("Write the picture, its settings in the file")),
    N_("Save film"): ("film", N_("Write the run as a small animation (WebP)")),
}
PAUSE, RESUME = ("Pause", "pause"), (N_("Resume"), "play")
BACK, BACK_TOOLTIP = N_("Back to this"), N_("Go back to this picture and its settings")
REMOVE, REMOVE_TOOLTIP = "x", N_("Remove this picture from the strip")
# What is put in by ``format`` comes in this order, in any language or another one by {1} and {0}.
STATUS = N_("step <b>{}</b> of {}")
PACE = N_("{:.0f} steps per second · {:.0f} s left")
PAUSED = N_("paused")
STRIP_IS_FULL = N_("{} pictures are kept already; remove one (x) first")
NO_MEMORY = N_("Not enough memory: {}.")
SMALLER = N_("Try size {}, and Reset.")
CONVERGED = N_("No step makes the loss any lower. Turn a slider, and Start.")
PROBLEM = N_("{}. Turn something, and Start.")
LOSSES = {"content": N_("content loss"), "style": N_("style loss")}
LAST_STEP = N_("{:.0f} steps")
PLOT = N_("content and style loss against the step")
ENABLED = {  # the buttons that do not always work, and the states in which they do
    "Start": ("idle", "paused"),
    "Pause": ("running", "paused"),
    "Step": ("idle", "paused"),
    "Stop": ("running", "paused"),
}


class Canvas:
    """The picture, and what goes with it.

    Attributes
    ----------
    picture, bar, status, message, plot : ipywidgets.Widget
        The picture, its progress in a bar and in words, a message, and the loss curves.
    buttons : dict of str to ipywidgets.Button
        By what is written on them.
    view : ipywidgets.Widget
        All of them but the curves.
    """

    def __init__(self) -> None:
        self.picture = ipywidgets.Image(format="jpeg")
        self.bar = ipywidgets.IntProgress(**WIDE)
        self.status, self.message, self.plot = SafeHTML(), SafeHTML(), SafeHTML()
        self.buttons = {
            name: ipywidgets.Button(description=_(name), icon=icon, tooltip=_(tip), **WIDE)
            for name, (icon, tip) in BUTTONS.items()
        }
        self.buttons["Start"].button_style = "primary"
        buttons = list(self.buttons.values())
        self.view = VBox(
            [
                Box([self.picture]).add_class("nst-picture"),
                self.bar,
                self.status.add_class("nst-status"),
                HBox(buttons[:5]),
                HBox(buttons[5:]),
                self.message.add_class("nst-message"),
            ]
        ).add_class("nst-canvas")

    def show(
        self,
        picture: bytes,
        step: int,
        end: int,
        curve: Sequence[CurvePoint],
        state: str = "idle",
        steps_per_second: float = 0.0,
    ) -> None:
        """Show a picture, how far it has come, and the losses on the way there.

        Parameters
        ----------
        picture : bytes
            JPEG.
        step, end : int
            The picture's step, and the last one.
        curve : sequence of CurvePoint
            The losses.
        state : {"idle", "running", "paused"}
            Of the run.
        steps_per_second : float
            Its pace; 0 if it is not known.
        """
        self.picture.value = picture
        self.bar.max, self.bar.value = end, step
        status = markup(_(STATUS), step, end)
        if steps_per_second and state == "running":
            seconds = max(0, end - step) / steps_per_second
            status = markup("{} · {}", status, _(PACE).format(steps_per_second, seconds))
        elif state == "paused":
            status = markup("{} · {}", status, _(PAUSED))
        self.status.value = status
        self.plot.value = curves_svg(curve, end)

    def fit_buttons(self, state: str) -> None:
        """Enable the buttons that work in a state, and name what Pause does in it.

        Parameters
        ----------
        state : {"idle", "running", "paused"}
            Of the run.
        """
        for name, states in ENABLED.items():
            self.buttons[name].disabled = state not in states
        pause = self.buttons["Pause"]
        text, pause.icon = RESUME if state == "paused" else PAUSE
        pause.description = _(text)

    def say(self, text: str, link: Markup = NOTHING) -> None:
        """Show a message, or none.

        Parameters
        ----------
        text : str
            Plain text, which may come from a visitor.
        link : Markup
            What to put after it.
        """
        text = shorten(text, MAX_MESSAGE)
        says = markup('<div role="status">{}{}</div>', text, link)
        self.message.value = says if text or link else NOTHING


class KeptPicture(NamedTuple):
    """A picture in the strip: the result it came from, its settings, and its card."""

    result: Result
    settings: dict[str, Any]
    card: VBox

    @property
    def buttons(self) -> tuple[ipywidgets.Button, ipywidgets.Button]:
        """The card's buttons: go back to it, and remove it."""
        back, remove = self.card.children[-1].children
        return back, remove


class Strip:
    """Pictures kept for comparison.

    Attributes
    ----------
    kept : list of KeptPicture
        From left to right.
    view : ipywidgets.Widget
        Their cards.
    """

    def __init__(self) -> None:
        self.kept: list[KeptPicture] = []
        self.view = HBox().add_class("nst-strip")

    def add(
        self,
        result: Result,
        settings: dict[str, Any],
        caption: Markup,
        image: torch.Tensor | None = None,
    ) -> KeptPicture:
        """Add a picture.

        Parameters
        ----------
        result : Result
            What to go back to.
        settings : dict
            The settings that made it.
        caption : Markup
            What to put below it.
        image : torch.Tensor, optional
            What to show; that of the result by default.

        Returns
        -------
        KeptPicture
            Whose buttons do nothing yet.

        Raises
        ------
        ValueError
            If the strip is full.
        """
        if len(self.kept) >= MAX_KEPT:
            raise ValueError(_(STRIP_IS_FULL).format(MAX_KEPT))
        image = result.image if image is None else image
        thumbnail = ipywidgets.Image(value=encode_image(image), format="jpeg")
        back = ipywidgets.Button(description=_(BACK), tooltip=_(BACK_TOOLTIP))
        remove = ipywidgets.Button(description=REMOVE, tooltip=_(REMOVE_TOOLTIP))
        card = VBox([thumbnail, SafeHTML(caption), HBox([back, remove])]).add_class("nst-card")
        seal_widget(card)
        kept = KeptPicture(result, settings, card)
        self.kept.append(kept)
        self._show()
        return kept

    def remove(self, kept: KeptPicture) -> None:
        """Take a picture out.

        Parameters
        ----------
        kept : KeptPicture
            As ``add`` returned it.
        """
        self.kept = [other for other in self.kept if other is not kept]
        self._show()
        close_widget(kept.card)

    def _show(self) -> None:
        self.view.children = tuple(kept.card for kept in self.kept)


def explain(error: Exception, size: int) -> str:
    """Return what to tell people of an error.

    Parameters
    ----------
    error : Exception
        Of which our own kinds explain themselves.
    size : int
        Shorter side of the picture, in pixels: where memory is short, a smaller one is proposed.
    """
    if isinstance(error, RuntimeError) and "allocate" in str(error):
        # Torch names the line of its source.
        error = MemoryError(_("{} pixels are too many").format(size))
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "memory" in str(error):
        smaller = int(0.7 * size) // 16 * 16
        text = _(NO_MEMORY).format(error)
        return text if "would fit" in text else " ".join([text, _(SMALLER).format(smaller)])
    if isinstance(error, (ValueError, OSError, ImportError)):
        return f"{error}"
    return f"{type(error).__name__}: {error}"


def explain_end(result: Result) -> str:
    """Return what to tell people of a run that has ended, if it is more than that.

    Parameters
    ----------
    result : Result
        Of the run.
    """
    if result.problem:
        return _(PROBLEM).format(result.problem)
    if result.stopped == "converged":
        return _(CONVERGED)
    return ""


def curves_svg(curve: Sequence[CurvePoint], end: int) -> Markup:
    """Return content and style loss against the step, on a logarithmic axis, as SVG.

    Not by matplotlib, which is not made for threads, takes longer than a step, and does not know
    the theme's colours.

    Parameters
    ----------
    curve : sequence of CurvePoint
        Of many, about 300 are drawn.
    end : int
        The last step of the axis.
    """
    width, height, left, bottom = 560, 150, 52, 20
    points = list(curve)
    points = points[:: max(1, len(points) // MAX_POINTS)] + points[-1:]
    losses = {
        "content": [(point.step, point.content) for point in points if point.content > 0],
        "style": [(point.step, point.style) for point in points if point.style > 0],
    }
    values = [point[1] for line in losses.values() for point in line]
    low = math.floor(math.log10(min(values))) if values else -3
    high = math.ceil(math.log10(max(values))) if values else 1
    high = max(high, low + 1)

    def place(step: float, value: float) -> tuple[float, float]:
        x = left + (width - left - 4) * step / max(1, end)
        y = 6 + (height - bottom - 6) * (high - math.log10(value)) / (high - low)
        return x, y

    parts = []
    for power in range(low, high + 1, max(1, (high - low) // 4)):
        y = place(0, 10.0**power)[1]
        parts.append(f'<path class="nst-grid" d="M{left} {y:.1f}H{width - 4}"/>')
        parts.append(
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        )
    ticks = ((0, "start", "{:.0f}"), (0.5, "middle", "{:.0f}"), (1, "end", _(LAST_STEP)))
    for share, anchor, label in ticks:
        x = place(share * end, 1)[0]
        text = label.format(share * end)
        parts.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="{anchor}">{text}</text>')
    for name, line in losses.items():
        if line:
            places = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in line)
            parts.append(f'<polyline class="nst-{name}" points="{places}"/>')
    key = "".join(
        f'<tspan class="nst-{name}-text" dx="12">{_(text)}</tspan>' for name, text in LOSSES.items()
    )
    parts.append(f'<text x="{width - 196}" y="18" class="nst-key">{key}</text>')
    return Markup(  # numbers, and the names of the two losses
        f'<svg class="nst-plot" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{_(PLOT)}">{"".join(parts)}</svg>'
    )
