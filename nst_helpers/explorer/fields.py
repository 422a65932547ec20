"""The widgets of the settings that are no weights: pictures, numbers, network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import ipywidgets

from nst_helpers.explorer.settings import START, WHOLE
from nst_helpers.explorer.widgets import WIDE
from nst_helpers.images import sample_images
from nst_helpers.losses import CONTENT_LAYERS

__all__: list[str] = []

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


def make_choice(role: str, served: bool) -> PictureChoice:
    """Return the widgets to choose a picture.

    Parameters
    ----------
    role : {"content", "style"}
        What it is to be.
    served : bool
        Leave out paths of this machine.
    """
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
    select = ipywidgets.Dropdown(options=options, description=role, tooltip=TOOLTIPS[role], **WIDE)
    return PictureChoice(select, ipywidgets.Image(format="jpeg"), upload, path)


def make_fields() -> dict[str, ipywidgets.Widget]:
    """Return a widget for each setting that is no picture and no weight."""
    return {
        "content_layer": ipywidgets.Dropdown(
            options=[f"relu{block}_2" for block in range(1, 6)],
            value=CONTENT_LAYERS[0],
            description="content layer",
            tooltip="Low: every pixel of the photograph counts. High: only what is where.",
            **WIDE,
        ),
        "start": ipywidgets.Dropdown(
            options=START,
            description="start",
            tooltip="What is on the canvas before the first step",
            **WIDE,
        ),
        "size": _make_number(
            "size", 192, 32, "Shorter side in pixels: the larger, the slower, the smaller strokes"
        ),
        "steps": _make_number(
            "steps", 300, 50, "After how many steps to rest; Start adds as many again"
        ),
        "seed": _make_number("seed", 0, 1, "Another seed, other noise"),
        "network": ipywidgets.Dropdown(
            description="network",
            tooltip="Who judges the picture. VGG-19 is downloaded once (548 MB), and slower.",
            **WIDE,
        ),
    }


def _make_number(name: str, value: int, step: int, tooltip: str) -> ipywidgets.BoundedIntText:
    least, most = WHOLE[name]
    numbers = partial(ipywidgets.BoundedIntText, value=value, min=least, max=most, step=step)
    return numbers(description=name, tooltip=tooltip, **WIDE)
