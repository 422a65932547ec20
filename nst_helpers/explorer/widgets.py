"""What the explorer adds to ipywidgets: HTML that is safe, widgets that a page cannot bend, an end.

Whoever opens a page speaks to its widgets directly, past what they look like in a browser.
"""

from __future__ import annotations

import contextlib
import html
import math
from typing import Any

import ipywidgets
from traitlets import TraitError, validate

__all__: list[str] = []

WIDE = {"layout": {"width": "auto"}}  # as wide as its place
INPUTS = {  # what a page may set of a widget; of all others, nothing
    ipywidgets.BoundedIntText: "value",
    ipywidgets.FloatSlider: "value",
    ipywidgets.FloatLogSlider: "value",
    ipywidgets.FileUpload: "value",
    ipywidgets.Text: "value",
    ipywidgets.ToggleButton: "value",
    ipywidgets.Dropdown: "index",
    ipywidgets.ToggleButtons: "index",
}


class Markup(str):
    """HTML of which each part was written here or is escaped: see ``markup``."""

    __slots__ = ()


def markup(template: str, *values: object) -> Markup:
    """Return HTML that is safe to show.

    Parameters
    ----------
    template : str
        HTML that was written here, with ``{}`` for each value.
    *values : object
        Names, messages, numbers: escaped, unless they are ``Markup``.
    """
    safe = (v if isinstance(v, Markup) else html.escape(str(v)) for v in values)
    return Markup(template.format(*safe))


class SafeHTML(ipywidgets.HTML):  # type: ignore[misc]
    """HTML that escapes whatever is not ``Markup``.

    Not a ``Label``, in whose text front ends look for formulas, and formulas may hold links.
    """

    @validate("value")
    def _escape(self, proposal: Any) -> str:
        value = proposal["value"]
        return value if isinstance(value, Markup) else html.escape(value)


def parts_of(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    """Return a widget and all that belongs to it: children, layouts and styles.

    Parameters
    ----------
    widget : ipywidgets.Widget
        The outermost.
    """
    own = (getattr(widget, "layout", None), getattr(widget, "style", None))
    parts = [part for part in own if isinstance(part, ipywidgets.Widget)]
    for child in getattr(widget, "children", ()):
        parts += parts_of(child)
    return [*parts, widget]


def seal_widget(widget: ipywidgets.Widget) -> None:
    """Let a page set the values of inputs and nothing else: no limit, no option, no layout.

    Parameters
    ----------
    widget : ipywidgets.Widget
        With all that belongs to it.
    """
    for part in parts_of(widget):
        if "set_state" not in vars(part):
            part.set_state = _filtered(part.set_state, INPUTS.get(type(part)))


def _filtered(set_state: Any, name: str | None) -> Any:
    def set_input(state: dict[str, Any]) -> None:
        # What a browser sends is JSON as Python reads it, with NaN.
        value = state.get(name) if isinstance(state, dict) and name else None
        if value is not None and not (isinstance(value, float) and not math.isfinite(value)):
            with contextlib.suppress(TraitError):  # it stays as it was
                set_state({name: value})

    return set_input


def close_widget(widget: ipywidgets.Widget) -> None:
    """Close a widget and all that belongs to it, so that nothing of it stays in the kernel.

    Parameters
    ----------
    widget : ipywidgets.Widget
        With its children, layout and style.
    """
    for part in parts_of(widget):
        part.close()
