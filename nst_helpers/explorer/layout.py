"""Where the explorer's widgets stand, and what of them is folded away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ipywidgets
from ipywidgets import Box, HBox, VBox

from nst_helpers.explorer.canvas import Canvas
from nst_helpers.explorer.fields import PictureChoice
from nst_helpers.explorer.weight_controls import WeightControls
from nst_helpers.explorer.widgets import Markup, SafeHTML, markup
from nst_helpers.language import N_, _, current_language

__all__: list[str] = []

CSS = Path(__file__).with_name("explorer.css").read_text(encoding="utf-8")
TITLE = N_("<b>Neural style transfer</b> · Press Start, then turn something: the picture answers.")
LAYERS = N_("<b>style layers</b>: weights")
CONTENT_LAYER = N_("<b>content</b> from")
GONE = N_("The kernel is gone. Run the cell again for a new explorer.")
LEFT = N_("This page was left, and what it painted is gone. Reload it to begin again.")
MORE = N_("More: a second style, colours, strokes")
MORE_TOOLTIP = N_(
    "Show or hide a second style, whose colours are painted, and how coarse strokes are"
)


class Fold:
    """A row that is rarely needed, and the button that shows it.

    Parameters
    ----------
    row : ipywidgets.Widget
        Hidden at first.

    Attributes
    ----------
    button : ipywidgets.ToggleButton
        Pressed: the row is shown.
    row : ipywidgets.Widget
        What is folded away.
    """

    def __init__(self, row: ipywidgets.Widget) -> None:
        self.row = row
        self.button = ipywidgets.ToggleButton(description=_(MORE), tooltip=_(MORE_TOOLTIP))
        self.button.observe(lambda change: self._show(), "value")
        self._show()

    def open(self) -> None:
        """Show the row."""
        self.button.value = True

    def _show(self) -> None:
        is_open = self.button.value
        self.button.icon = "caret-down" if is_open else "caret-right"
        self.row.layout.display = None if is_open else "none"


def arrange_knobs(
    weights: WeightControls, content_layer: ipywidgets.Widget, plot: ipywidgets.Widget
) -> VBox:
    """Return what stands beside the picture: weights, and the curves below them.

    Parameters
    ----------
    weights : WeightControls
    content_layer, plot : ipywidgets.Widget
    """
    return VBox(
        [
            weights.label,
            weights.ratio.add_class("nst-ratio"),
            weights.presets.add_class("nst-presets"),
            HBox([SafeHTML(markup(_(LAYERS))), weights.equal]).add_class("nst-row"),
            VBox(list(weights.layers.values())).add_class("nst-layers"),
            HBox([SafeHTML(markup(_(CONTENT_LAYER))), content_layer]).add_class("nst-row"),
            plot,
        ]
    ).add_class("nst-knobs")


def arrange_choice(choice: PictureChoice) -> HBox:
    """Return a picture's thumbnail, and beside it how another one is chosen.

    Parameters
    ----------
    choice : PictureChoice
    """
    sources = HBox([w for w in (choice.upload, choice.path) if w is not None])
    return HBox(
        [
            Box([choice.thumbnail]).add_class("nst-thumbnail"),
            VBox([choice.select.add_class("nst-field"), sources]),
        ]
    ).add_class("nst-choice")


def arrange(
    canvas: Canvas,
    knobs: VBox,
    choices: Mapping[str, PictureChoice],
    fields: Mapping[str, ipywidgets.Widget],
) -> tuple[list[ipywidgets.Widget], Fold]:
    """Return the rows of the explorer, from top to bottom, and the fold that is one of them.

    Parameters
    ----------
    canvas : Canvas
    knobs : VBox
        As ``arrange_knobs`` returns it.
    choices : dict of str to PictureChoice
    fields : dict of str to ipywidgets.Widget
    """
    numbers = Box(
        [fields[n].add_class("nst-field") for n in ("start", "size", "steps", "seed", "network")]
    ).add_class("nst-numbers")
    content, style, second = map(arrange_choice, choices.values())
    colors = VBox([fields["colors"].add_class("nst-field")]).add_class("nst-colors")
    sliders = VBox([fields["blend"], fields["style_scale"]]).add_class("nst-layers")
    fold = Fold(HBox([second, sliders.add_class("nst-sliders"), colors]).add_class("nst-setup"))
    fold.row.add_class("nst-folded")
    rows = [
        SafeHTML(Markup(f"<style>{CSS}{_ends()}</style>")),
        HBox([canvas.view, knobs]).add_class("nst-main"),
        HBox([content, style, numbers]).add_class("nst-setup"),
        fold.button.add_class("nst-fold"),
        fold.row,
    ]
    return rows, fold


def _ends() -> str:
    """Return CSS with what a page says once its kernel has ended: no widget can do so then."""
    return f'.nst-{current_language()} {{ --nst-gone: "{_(GONE)}"; --nst-left: "{_(LEFT)}"; }}'
