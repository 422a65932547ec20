"""The explorer's controls, and the settings that they stand for.

Knows nothing of runs or networks; ``explorer`` decides when a setting takes effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ipywidgets import Box, HBox, VBox

from nst_helpers.explorer.canvas import Canvas, Strip
from nst_helpers.explorer.fields import make_choice, make_fields
from nst_helpers.explorer.pictures import Own, Picture, Pictures
from nst_helpers.explorer.settings import PICTURES, WHOLE, parse_ratio, parse_settings
from nst_helpers.explorer.weight_controls import WeightControls
from nst_helpers.explorer.widgets import Markup, SafeHTML, markup, seal_widget

__all__: list[str] = []

CSS = Path(__file__).with_name("explorer.css").read_text(encoding="utf-8")
TITLE = markup(
    "<b>Neural style transfer</b> · Press Start, then turn something: the picture answers."
)
NAMES = {"content": "your image", "style": "your style"}  # of images that have none


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
        self.choices = {role: make_choice(role, served) for role in PICTURES}
        selects = {role: choice.select for role, choice in self.choices.items()}
        self.fields = {**selects, **make_fields()}
        self.view = self._arrange()
        seal_widget(self.view)

    @property
    def settings(self) -> dict[str, Any]:
        """What the controls say, as a dict that JSON can hold; set all of it, or some."""
        alpha, beta = self.weights.alpha_beta
        values = {name: field.value for name, field in self.fields.items()}
        # Widgets have limits, but who uses a value looks at it: see ``seal_widget``.
        checked = self._parse({name: values[name] for name in WHOLE})
        weights = {"alpha": alpha, "beta": beta, "style_layer_weights": self.weights.layer_weights}
        return {**values, **checked, **weights}

    @settings.setter
    def settings(self, settings: Mapping[str, Any]) -> None:
        parsed = self._parse(settings)
        # All that can be wrong is wrong before this line; from here on, things change.
        for name, value in parsed.items():
            if name in self.choices:
                self._select(name, value)
            elif name in self.fields:
                self.fields[name].value = value
        self.weights.layer_weights = parsed.get("style_layer_weights", {})
        if "alpha" in parsed:
            self.weights.alpha_beta = parsed["alpha"], parsed["beta"]

    def choose(self, role: str, picture: Picture) -> None:
        """Select a picture, and put it among the options if it is a new one.

        Parameters
        ----------
        role : {"content", "style"}
            What it is to be.
        picture : str, path, torch.Tensor, array or Pillow picture
            As for ``Pictures.prepare``.
        """
        self._select(role, self.pictures.prepare(picture, role))

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
            size = self.settings["size"]
            self.choose(role, self.pictures.add_upload(file["name"], file["content"], size))

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

    def _parse(self, settings: Any) -> dict[str, Any]:
        """Return settings that can all be turned, pictures prepared, or raise ``ValueError``."""
        choices = {
            name: [option[-1] if isinstance(option, tuple) else option for option in field.options]
            for name, field in self.fields.items()
            if name not in (*self.choices, *WHOLE)
        }
        parsed = parse_settings(settings, choices, [*self.weights.layers])
        if "alpha" in parsed or "beta" in parsed:
            alpha, beta = self.weights.alpha_beta
            pair = {"alpha": alpha, "beta": beta} | parsed
            parse_ratio(pair["alpha"], pair["beta"])
            parsed |= {"alpha": pair["alpha"], "beta": pair["beta"]}
        for role in self.choices:
            if role in parsed:
                parsed[role] = self.pictures.prepare(parsed[role], role)
        # In the order of the controls.
        return {name: parsed[name] for name in [*self.fields, *parsed] if name in parsed}

    def _select(self, role: str, picture: str | Own) -> None:
        """Select what ``Pictures.prepare`` has returned."""
        name = self.pictures.keep(picture, NAMES[role])
        choice = self.choices[role]
        if name not in choice.select.options:
            choice.select.options = (*choice.select.options, name)
        choice.select.value = name
        self.show_thumbnail(role)

    def _arrange(self) -> VBox:
        weights, fields = self.weights, self.fields
        knobs = VBox(
            [
                weights.label,
                weights.ratio.add_class("nst-ratio"),
                weights.presets.add_class("nst-presets"),
                HBox([SafeHTML(markup("<b>style layers</b>: weights")), weights.equal]).add_class(
                    "nst-row"
                ),
                VBox(list(weights.layers.values())).add_class("nst-layers"),
                HBox([SafeHTML(markup("<b>content</b> from")), fields["content_layer"]]).add_class(
                    "nst-row"
                ),
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
                SafeHTML(Markup(f"<style>{CSS}</style>")),
                *([SafeHTML(TITLE).add_class("nst-title")] if self.served else []),
                HBox([self.canvas.view, knobs]).add_class("nst-main"),
                HBox([*pictures, numbers]).add_class("nst-setup"),
                self.strip.view,
            ]
        ).add_class("nst-explorer")
        return view.add_class("nst-served") if self.served else view
