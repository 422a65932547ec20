"""The explorer's controls, and the settings that they stand for.

Knows nothing of runs or networks; ``explorer`` decides when a setting takes effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ipywidgets import VBox

from nst_helpers import _validate
from nst_helpers.explorer.canvas import Canvas, Strip
from nst_helpers.explorer.fields import make_choice, make_fields, values_of
from nst_helpers.explorer.layout import TITLE, arrange, arrange_knobs
from nst_helpers.explorer.pictures import Own, Picture, Pictures
from nst_helpers.explorer.settings import (
    PICTURES,
    RANGES,
    SECOND,
    WHOLE,
    parse_ratio,
    parse_settings,
)
from nst_helpers.explorer.weight_controls import WeightControls
from nst_helpers.explorer.widgets import SafeHTML, markup, seal_widget
from nst_helpers.language import _, current_language

__all__: list[str] = []

NAMES = {"content": "your image", "style": "your style", SECOND: "your second style"}
FOLDED = {SECOND: "", "colors": "style", "style_scale": 1.0}  # values of what is folded away


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
        How "content", "style" and "second_style" are chosen.
    weights : WeightControls
        alpha / beta and the weights of the style layers.
    fields : dict of str to ipywidgets.Widget
        The other settings: each is the value of its widget.
    fold : Fold
        What is rarely needed: second style, blend, colours, strokes.
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
        knobs = arrange_knobs(self.weights, self.fields["content_layer"], self.canvas.plot)
        rows, self.fold = arrange(self.canvas, knobs, self.choices, self.fields)
        if served:
            rows.insert(1, SafeHTML(markup(_(TITLE))).add_class("nst-title"))
        self.view = VBox([*rows, self.strip.view]).add_class("nst-explorer")
        self.view.add_class(f"nst-{current_language()}")  # no widget has a lang attribute
        if served:
            self.view.add_class("nst-served")
        seal_widget(self.view)

    @property
    def settings(self) -> dict[str, Any]:
        """What the controls say, as a dict that JSON can hold; set all of it, or some."""
        alpha, beta = self.weights.alpha_beta
        values = {name: field.value for name, field in self.fields.items()}
        # Widgets have limits, but who uses a value looks at it: see ``seal_widget``.
        values[SECOND] = values[SECOND] or None
        checked = self._parse({name: values[name] for name in (*WHOLE, *RANGES)})
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
        if any(self.fields[name].value != value for name, value in FOLDED.items()):
            self.fold.open()  # nothing acts unseen

    @property
    def shares(self) -> tuple[float, float]:
        """How much of the first and of the second style, which add up to 1."""
        share = _validate.number_between("blend", self.fields["blend"].value, *RANGES["blend"])
        return 1 - share, share

    def choose(self, role: str, picture: Picture) -> None:
        """Select a picture, and put it among the options if it is a new one.

        Parameters
        ----------
        role : {"content", "style", "second_style"}
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
            What to do when a button is pressed, by what is written on it in English.
        on_setting : callable
            Given the name of a setting that has changed, if it is one of the fields and not the
            blend, which is read at each step as the weights are.
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
            if name != "blend":
                field.observe(self.report_errors(partial(on_setting, name)), "value")

    def report_errors(self, action: Callable[[], object]) -> Callable[[object], None]:
        """Return a handler that shows exceptions in the message area.

        Parameters
        ----------
        action : callable
            What to do. A traceback of it would go nowhere.
        """

        def handle(event: object) -> None:
            try:
                action()
            except Exception as error:
                self.canvas.say(self.explain(error))

        return handle

    def accept_upload(self, role: str) -> None:
        """Choose what has just been uploaded, if anything.

        Parameters
        ----------
        role : {"content", "style", "second_style"}
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
        role : {"content", "style", "second_style"}
            What it is to be.
        """
        text = self.choices[role].path
        if text is not None and text.value.strip():
            self.choose(role, Path(text.value.strip()).expanduser())
            text.value = ""

    def show_thumbnail(self, role: str) -> None:
        """Show the picture that is selected, if one is.

        Parameters
        ----------
        role : {"content", "style", "second_style"}
            Whose.
        """
        choice = self.choices[role]
        name, thumbnail = choice.select.value, choice.thumbnail
        if role == SECOND:
            self.fields["blend"].disabled = not name
        if name:
            thumbnail.value = self.pictures.thumbnail(name)
        thumbnail.layout.visibility = "visible" if name else "hidden"

    def _parse(self, settings: Any) -> dict[str, Any]:
        """Return settings that can all be turned, pictures prepared, or raise ``ValueError``."""
        choices = {
            name: values_of(field)
            for name, field in self.fields.items()
            if name not in (*self.choices, *WHOLE, *RANGES)
        }
        parsed = parse_settings(settings, choices, [*self.weights.layers])
        if "alpha" in parsed or "beta" in parsed:
            alpha, beta = self.weights.alpha_beta
            pair = {"alpha": alpha, "beta": beta} | parsed
            parse_ratio(pair["alpha"], pair["beta"])
            parsed |= {"alpha": pair["alpha"], "beta": pair["beta"]}
        for role in self.choices:
            if role in parsed and not (role == SECOND and parsed[role] is None):
                parsed[role] = self.pictures.prepare(parsed[role], role)
        # In the order of the controls.
        return {name: parsed[name] for name in [*self.fields, *parsed] if name in parsed}

    def _select(self, role: str, picture: str | Own | None) -> None:
        """Select what ``Pictures.prepare`` has returned, or no picture."""
        name = "" if picture is None else self.pictures.keep(picture, NAMES[role])
        choice = self.choices[role]
        choice.offer(name)
        choice.select.value = name
        self.show_thumbnail(role)
