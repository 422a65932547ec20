"""What the explorer adds to ipywidgets: setting a value or saying why not, and closing it all."""

from __future__ import annotations

import math
from typing import Any

import ipywidgets
from traitlets import TraitError

__all__: list[str] = []

WIDE = {"layout": {"width": "auto"}}  # as wide as its place


def set_value(name: str, widget: ipywidgets.Widget, value: Any) -> None:
    """Set a widget, or raise ``ValueError`` where it does not take the value as it is.

    Parameters
    ----------
    name : str
        What to call it in the message.
    widget : ipywidgets.Widget
        With a value, and options or limits.
    value : object
        Its new value.
    """
    before = widget.value
    try:
        widget.value = value
    except TraitError:
        widget.value = before
    # A logarithmic slider keeps the power of ten, and rounds.
    close = isinstance(value, float) and math.isclose(widget.value, value, rel_tol=1e-6)
    if widget.value != value and not close:
        widget.value = before
        if hasattr(widget, "options"):
            choices = f"one of {widget.options}"
        else:
            least, most = widget.min, widget.max
            if isinstance(widget, ipywidgets.FloatLogSlider):
                least, most = widget.base**least, widget.base**most
            choices = f"from {least:g} to {most:g}"
        raise ValueError(f"{name} must be {choices}; got {value!r}")


def close_widget(widget: ipywidgets.Widget) -> None:
    """Close a widget and all that belongs to it, so that nothing of it stays in the kernel.

    Parameters
    ----------
    widget : ipywidgets.Widget
        With its children, layout and style.
    """
    for child in getattr(widget, "children", ()):
        close_widget(child)
    for part in (getattr(widget, "layout", None), getattr(widget, "style", None)):
        if isinstance(part, ipywidgets.Widget):
            part.close()
    widget.close()
