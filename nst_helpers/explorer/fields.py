"""The widgets of the settings that are no weights: pictures, numbers, network, colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import ipywidgets

from nst_helpers.explorer.settings import RANGES, SECOND, START, WHOLE
from nst_helpers.explorer.widgets import WIDE
from nst_helpers.images import sample_images
from nst_helpers.language import N_, _
from nst_helpers.losses import CONTENT_LAYERS

__all__: list[str] = []

LABELS = {"content": N_("content"), "style": N_("style"), SECOND: N_("second style")}
STARTS = {"noise": N_("noise"), "content": N_("content"), "style": N_("style")}
TOOLTIPS = {
    "content": N_("The photograph: what is where. A new one counts from the next Reset."),
    "style": N_("The painting: colours, strokes and motifs. Change it while it paints."),
    SECOND: N_("Another painting, to be blended with the first one"),
}
NO_PICTURE = N_("none")
COLORS = {  # what the list says, and the setting
    N_("the style's"): "style",
    N_("the content's, put back"): "keep",
    N_("the style's, matched"): "match",
    N_("luminance only"): "luminance",
}


@dataclass
class PictureChoice:
    """The widgets to choose the content or a style: from a list, by upload, by path."""

    select: ipywidgets.Dropdown
    thumbnail: ipywidgets.Image
    upload: ipywidgets.FileUpload
    path: ipywidgets.Text | None  # none on a served page

    def offer(self, name: str) -> None:
        """Put a picture among the options, if it is a new one.

        Parameters
        ----------
        name : str
            Of a picture.
        """
        options = self.select.options
        if name not in values_of(self.select):
            new = (name, name) if isinstance(options[0], tuple) else name
            self.select.options = (*options, new)


def values_of(select: ipywidgets.Dropdown) -> list[str]:
    """Return the values that there are to choose from.

    Parameters
    ----------
    select : ipywidgets.Dropdown
        Its options are values, or pairs of what is shown and the value.
    """
    return [option[-1] if isinstance(option, tuple) else option for option in select.options]


def make_choice(role: str, served: bool) -> PictureChoice:
    """Return the widgets to choose a picture.

    Parameters
    ----------
    role : {"content", "style", "second_style"}
        What it is to be.
    served : bool
        Leave out paths of this machine.
    """
    path = None
    if not served:
        path = ipywidgets.Text(
            placeholder=_("or path"),
            tooltip=_("The path of a picture on this machine, and Enter"),
            continuous_update=False,
            **WIDE,
        )
    upload = ipywidgets.FileUpload(
        accept="image/*",
        description=_("Upload ≤ 8 MB"),
        tooltip=_("A picture of your own, up to 8 MB: browsers lose larger ones silently"),
        **WIDE,
    )
    names = list(sample_images())
    options = [(_(NO_PICTURE), ""), *zip(names, names, strict=True)] if role == SECOND else names
    select = ipywidgets.Dropdown(
        options=options, description=_(LABELS[role]), tooltip=_(TOOLTIPS[role]), **WIDE
    )
    thumbnail = ipywidgets.Image(format="jpeg")
    thumbnail.layout.visibility = "hidden"
    return PictureChoice(select, thumbnail, upload, path)


def make_fields() -> dict[str, ipywidgets.Widget]:
    """Return a widget for each setting that is no picture and no weight."""
    return {
        "content_layer": ipywidgets.Dropdown(
            options=[f"relu{block}_2" for block in range(1, 6)],
            value=CONTENT_LAYERS[0],
            description=_("content layer"),
            tooltip=_("Low: every pixel of the photograph counts. High: only what is where."),
            **WIDE,
        ),
        "start": ipywidgets.Dropdown(
            options=[(_(STARTS[name]), name) for name in START],
            description=_("start"),
            tooltip=_("What is on the canvas before the first step"),
            **WIDE,
        ),
        "size": _make_number(
            N_("size"),
            192,
            32,
            N_("Shorter side in pixels: the larger, the slower, the smaller strokes"),
        ),
        "steps": _make_number(
            N_("steps"), 300, 50, N_("After how many steps to rest; Start adds as many again")
        ),
        "seed": _make_number(N_("seed"), 0, 1, N_("Another seed, other noise")),
        "network": ipywidgets.Dropdown(
            description=_("network"),
            tooltip=_("Who judges the picture. VGG-19 is downloaded once (548 MB), and slower."),
            **WIDE,
        ),
        **_make_more(),
    }


def _make_more() -> dict[str, ipywidgets.Widget]:
    """Return the widgets of what is folded away, but for the second style."""
    return {
        "colors": ipywidgets.Dropdown(
            options=[(_(text), value) for text, value in COLORS.items()],
            description=_("colours"),
            tooltip=_("Put back: after each step. Matched: before. Luminance: both pictures grey."),
            **WIDE,
        ),
        "blend": ipywidgets.FloatSlider(
            value=0.5,
            min=RANGES["blend"][0],
            max=RANGES["blend"][1],
            step=0.01,
            description=_("blend"),
            tooltip=_("Share of the second style: at 0 % the first one is alone"),
            readout_format=".0%",
            disabled=True,
            **WIDE,
        ),
        "style_scale": ipywidgets.FloatLogSlider(
            value=1,
            base=2,
            min=math.log2(RANGES["style_scale"][0]),
            max=math.log2(RANGES["style_scale"][1]),
            step=0.25,
            description=_("strokes"),
            tooltip=_(
                "How coarse: the size of the style's picture, from half to twice the content's"
            ),
            readout_format=".2f",
            continuous_update=False,
            **WIDE,
        ),
    }


def _make_number(name: str, value: int, step: int, tooltip: str) -> ipywidgets.BoundedIntText:
    least, most = WHOLE[name]
    numbers = partial(ipywidgets.BoundedIntText, value=value, min=least, max=most, step=step)
    return numbers(description=_(name), tooltip=_(tooltip), **WIDE)
