"""The explorer's controls, and the settings that they stand for.

Knows nothing of runs or networks; ``explorer`` decides when a setting takes effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets
import torch
from ipywidgets import HTML, Box, HBox, VBox

from nst_helpers.explorer.canvas import Canvas, Strip
from nst_helpers.explorer.pictures import Pictures
from nst_helpers.explorer.weight_controls import WeightControls
from nst_helpers.explorer.widgets import WIDE, set_value
from nst_helpers.images import sample_images
from nst_helpers.losses import CONTENT_LAYERS

__all__: list[str] = []

CSS = Path(__file__).with_name("explorer.css").read_text(encoding="utf-8")
TITLE = "<b>Neural style transfer</b> · Press Start, then turn something: the picture answers."
TOOLTIPS = {
    "content": "The photograph: what is where. A new one counts from the next Reset.",
    "style": "The painting: colours, strokes and motifs. Change it while it paints.",
}


@dataclass
class PictureChoice:
    """The widgets to choose the content or the style: from a list, by upload, by path."""

    select: ipywidgets.Dropdown
    thumbnail: ipywidgets.Image
    upload: ipywidgets.FileUpload
    path: ipywidgets.Text | None  # none on a served page


class Controls:
    """All of the explorer's widgets.

    Parameters
    ----------
    pictures : Pictures
        What content and style are chosen from.
    served : bool
        Leave out what a visitor of a page must not have: paths of this machine.
    explain : callable
        Exception to the message that is shown.

    Attributes
    ----------
    canvas : Canvas
        The picture and what goes with it.
    choices : dict of str to PictureChoice
        How "content" and "style" are chosen.
    weights : WeightControls
        alpha / beta and the weights of the style layers.
    fields : dict of str to ipywidgets.Widget
        The other settings: each is the value of its widget.
    strip : Strip
        The pictures kept for comparison.
    view : ipywidgets.Widget
        Everything.
    """

    def __init__(
        self,
        pictures: Pictures,
        served: bool = False,
        explain: Callable[[Exception], str] = str,
    ) -> None:
        self.pictures, self.served, self.explain = pictures, served, explain
        self.canvas, self.weights, self.strip = Canvas(), WeightControls(), Strip()
        self.choices = {
            role: _make_choice(role, tooltip, served) for role, tooltip in TOOLTIPS.items()
        }
        self.fields = {
            **{role: choice.select for role, choice in self.choices.items()},
            **_make_fields(),
        }
        self.view = self._arrange()

    @property
    def settings(self) -> dict[str, Any]:
        """What the controls say, as a dict that JSON can hold; set all of it, or some."""
        alpha, beta = self.weights.alpha_beta
        return {
            **{name: field.value for name, field in self.fields.items()},
            "alpha": alpha,
            "beta": beta,
            "style_layer_weights": self.weights.layer_weights,
        }

    @settings.setter
    def settings(self, settings: dict[str, Any]) -> None:
        known = {*self.fields, "alpha", "beta", "style_layer_weights", "step"}
        if unknown := set(settings) - known:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        for name, field in self.fields.items():
            if name in settings and name in self.choices:
                self.choose(name, settings[name])
            elif name in settings:
                set_value(name, field, settings[name])
        self.weights.layer_weights = settings.get("style_layer_weights", {})
        if "alpha" in settings or "beta" in settings:
            alpha, beta = self.weights.alpha_beta
            self.weights.alpha_beta = settings.get("alpha", alpha), settings.get("beta", beta)

    def choose(self, role: str, picture: str | Path | torch.Tensor) -> None:
        """Select a picture, and put it among the options if it is a new one.

        Parameters
        ----------
        role : {"content", "style"}
            What it is to be.
        picture : str, Path or torch.Tensor
            As for ``Pictures.add``.
        """
        name = self.pictures.add(picture, "your image" if role == "content" else "your style")
        choice = self.choices[role]
        thumbnail = self.pictures.thumbnail(name)
        if name not in choice.select.options:
            choice.select.options = (*choice.select.options, name)
        choice.select.value = name
        choice.thumbnail.value = thumbnail

    def offer_networks(self, options: Mapping[str, str], name: str) -> None:
        """Fill the list of networks.

        Parameters
        ----------
        options : dict of str to str
            What is shown, and the network's name.
        name : str
            Of the one to select.
        """
        field = self.fields["network"]
        field.options, field.value = [*options.items()], name

    def connect(
        self, actions: Mapping[str, Callable[[], object]], on_setting: Callable[[str], object]
    ) -> None:
        """Let buttons and fields do something.

        Parameters
        ----------
        actions : dict of str to callable
            What to do when a button is pressed, by what is written on it.
        on_setting : callable
            Given the name of a setting that has changed, if it is one of the fields.
        """
        for name, action in actions.items():
            self.canvas.buttons[name].on_click(self.report_errors(action))
        for role, choice in self.choices.items():
            show, upload = partial(self.show_thumbnail, role), partial(self.accept_upload, role)
            choice.select.observe(self.report_errors(show), "value")
            choice.upload.observe(self.report_errors(upload), "value")
            if choice.path is not None:
                path = partial(self.accept_path, role)
                choice.path.observe(self.report_errors(path), "value")
        for name, field in self.fields.items():
            field.observe(self.report_errors(partial(on_setting, name)), "value")

    def report_errors(self, action: Callable[[], object]) -> Callable[[object], None]:
        """Return a handler that shows exceptions in the message area.

        Parameters
        ----------
        action : callable
            What to do. A traceback of it would go nowhere.
        """

        def handle(_: object) -> None:
            try:
                action()
            except Exception as error:
                self.canvas.say(self.explain(error))

        return handle

    def accept_upload(self, role: str) -> None:
        """Choose what has just been uploaded, if anything.

        Parameters
        ----------
        role : {"content", "style"}
            What it is to be.
        """
        upload = self.choices[role].upload
        if upload.value:
            file = upload.value[0]
            upload.value = ()  # the same file may come again
            self.choose(role, self.pictures.add_upload(file["name"], bytes(file["content"])))

    def accept_path(self, role: str) -> None:
        """Choose the picture whose path was typed in, if any.

        Parameters
        ----------
        role : {"content", "style"}
            What it is to be.
        """
        text = self.choices[role].path
        if text is not None and text.value.strip():
            self.choose(role, Path(text.value.strip()).expanduser())
            text.value = ""

    def show_thumbnail(self, role: str) -> None:
        """Show the picture that is selected.

        Parameters
        ----------
        role : {"content", "style"}
            Whose.
        """
        choice = self.choices[role]
        choice.thumbnail.value = self.pictures.thumbnail(choice.select.value)

    def _arrange(self) -> VBox:
        weights, fields = self.weights, self.fields
        knobs = VBox(
            [
                weights.label,
                weights.ratio.add_class("nst-ratio"),
                weights.presets.add_class("nst-presets"),
                HBox([HTML("<b>style layers</b>: weights"), weights.equal]).add_class("nst-row"),
                VBox(list(weights.layers.values())).add_class("nst-layers"),
                HBox([HTML("<b>content</b> from"), fields["content_layer"]]).add_class("nst-row"),
                self.canvas.plot,
            ]
        ).add_class("nst-knobs")
        pictures = [
            HBox(
                [
                    Box([choice.thumbnail]).add_class("nst-thumbnail"),
                    VBox(
                        [
                            choice.select.add_class("nst-field"),
                            HBox([w for w in (choice.upload, choice.path) if w is not None]),
                        ]
                    ),
                ]
            ).add_class("nst-choice")
            for choice in self.choices.values()
        ]
        numbers = Box(
            [
                fields[name].add_class("nst-field")
                for name in ("start", "size", "steps", "seed", "network")
            ]
        ).add_class("nst-numbers")
        view = VBox(
            [
                HTML(f"<style>{CSS}</style>"),
                *([HTML(TITLE).add_class("nst-title")] if self.served else []),
                HBox([self.canvas.view, knobs]).add_class("nst-main"),
                HBox([*pictures, numbers]).add_class("nst-setup"),
                self.strip.view,
            ]
        ).add_class("nst-explorer")
        return view.add_class("nst-served") if self.served else view


def _make_choice(role: str, tooltip: str, served: bool) -> PictureChoice:
    path = None
    if not served:
        path = ipywidgets.Text(
            placeholder="or path",
            tooltip="The path of a picture on this machine, and Enter",
            continuous_update=False,
            **WIDE,
        )
    upload = ipywidgets.FileUpload(
        accept="image/*",
        description="Upload ≤ 8 MB",
        tooltip="A picture of your own, up to 8 MB: browsers lose larger ones silently",
        **WIDE,
    )
    options = list(sample_images())
    select = ipywidgets.Dropdown(options=options, description=role, tooltip=tooltip, **WIDE)
    return PictureChoice(select, ipywidgets.Image(format="jpeg"), upload, path)


def _make_fields() -> dict[str, ipywidgets.Widget]:
    """Return a widget for each setting that is no picture and no weight."""
    number = partial(ipywidgets.BoundedIntText, **WIDE)
    return {
        "content_layer": ipywidgets.Dropdown(
            options=[f"relu{block}_2" for block in range(1, 6)],
            value=CONTENT_LAYERS[0],
            description="content layer",
            tooltip="Low: every pixel of the photograph counts. High: only what is where.",
            **WIDE,
        ),
        "start": ipywidgets.Dropdown(
            options=["noise", "content", "style"],
            description="start",
            tooltip="What is on the canvas before the first step",
            **WIDE,
        ),
        "size": number(
            value=192,
            min=32,
            max=2048,
            step=32,
            description="size",
            tooltip="Shorter side in pixels: the larger, the slower, and the smaller the strokes",
        ),
        "steps": number(
            value=300,
            min=1,
            max=10_000,
            step=50,
            description="steps",
            tooltip="After how many steps to rest; Start adds as many again",
        ),
        "seed": number(
            value=0, min=0, max=2**31 - 1, description="seed", tooltip="Another seed, other noise"
        ),
        "network": ipywidgets.Dropdown(
            description="network",
            tooltip="Who judges the picture. VGG-19 is downloaded once (548 MB), and slower.",
            **WIDE,
        ),
    }
