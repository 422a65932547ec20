"""What is on the explorer's screen: sliders, buttons, pictures, and where they are.

Knows nothing of runs or networks; the explorer in ``widgets`` says what a control does.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets
from ipywidgets import HTML, Box, HBox, VBox
from traitlets import TraitError

from nst_helpers.images import sample_images
from nst_helpers.losses import CONTENT_LAYERS, STYLE_LAYERS
from nst_helpers.sweeps import RATIOS

__all__: list[str] = []

SEEN = {  # what a style layer knows, and how many pixels one of its positions sees
    "relu1_1": ("colours, and the finest grain", 3),
    "relu2_1": ("threads and fine strokes", 10),
    "relu3_1": ("strokes, small motifs", 24),
    "relu4_1": ("large motifs", 68),
    "relu5_1": ("the largest shapes", 156),
}
CSS = Path(__file__).with_name("explorer.css").read_text(encoding="utf-8")
TITLE = "<b>Neural style transfer</b> · Press Start, then turn something: the picture answers."

WIDE = {"layout": {"width": "auto"}}  # as wide as its place


class Controls:
    """The explorer's widgets; ``view`` shows them all.

    Parameters
    ----------
    served : bool
        Leave out what a visitor of a page must not have: paths of this machine.
    """

    def __init__(self, served: bool = False) -> None:
        self.served = served
        self._make_pictures()
        self._make_weights()
        self._make_numbers()
        self._make_buttons()
        self.named = {  # settings that are what their control says
            "content": self.content,
            "style": self.style,
            "content_layer": self.content_layer,
            "start": self.start_from,
            "size": self.size,
            "steps": self.steps,
            "seed": self.seed,
            "network": self.network,
        }
        self._arrange()

    def _make_pictures(self) -> None:
        samples = list(sample_images())
        pick = partial(ipywidgets.Dropdown, options=samples, **WIDE)
        self.content = pick(
            description="content",
            tooltip="The photograph: what is where. A new one counts from the next Reset.",
        )
        self.style = pick(
            description="style",
            tooltip="The painting: colours, strokes and motifs. Change it while it paints.",
        )
        self.thumbnails = {c: ipywidgets.Image(format="jpeg") for c in (self.content, self.style)}
        self.uploads = {
            c: ipywidgets.FileUpload(
                accept="image/*",
                description="Upload ≤ 8 MB",
                tooltip="A picture of your own, up to 8 MB: browsers lose larger ones silently",
                **WIDE,
            )
            for c in (self.content, self.style)
        }
        self.paths = {
            c: ipywidgets.Text(
                placeholder="or path",
                tooltip="The path of a picture on this machine, and Enter",
                continuous_update=False,
                **WIDE,
            )
            for c in (() if self.served else (self.content, self.style))
        }
        self.picture = ipywidgets.Image(format="jpeg")
        self.bar = ipywidgets.IntProgress(**WIDE)
        self.status, self.message, self.plot = HTML(), HTML(), HTML()

    def _make_weights(self) -> None:
        self.ratio_label = HTML("<b>alpha / beta</b> = 0.01")
        self.ratio = ipywidgets.FloatLogSlider(
            value=1e-2,
            min=-5,
            max=0,
            step=0.05,
            readout=False,
            tooltip="To the right the picture obeys the photograph, to the left the painting.",
            **WIDE,
        )
        options = [("texture only", 0.0), *((f"{r:.0e}".replace("e-0", "e-"), r) for r in RATIOS)]
        self.presets = ipywidgets.ToggleButtons(
            options=[*options, ("content only", math.inf)],
            value=1e-2,
            tooltips=[
                "Forget the photograph: alpha = 0",
                *("The paper's Fig. 4" for _ in RATIOS),
                "Forget the painting: beta = 0",
            ],
        )
        self.layers = {
            layer: ipywidgets.FloatSlider(
                value=1 / len(STYLE_LAYERS),
                min=0,
                max=1,
                step=0.01,
                description=layer,
                tooltip=f"Weight of {SEEN[layer][0]}: a position sees {SEEN[layer][1]} pixels",
                **WIDE,
            )
            for layer in STYLE_LAYERS
        }
        self.equal = ipywidgets.Button(
            description="1/5 each", tooltip="As in the paper: all style layers alike", **WIDE
        )
        self.content_layer = ipywidgets.Dropdown(
            options=[f"relu{block}_2" for block in range(1, 6)],
            value=CONTENT_LAYERS[0],
            description="content layer",
            tooltip="Low: every pixel of the photograph counts. High: only what is where.",
            **WIDE,
        )

    def _make_numbers(self) -> None:
        self.start_from = ipywidgets.Dropdown(
            options=["noise", "content", "style"],
            description="start",
            tooltip="What is on the canvas before the first step",
            **WIDE,
        )
        whole = partial(ipywidgets.BoundedIntText, **WIDE)
        self.size = whole(
            value=192,
            min=32,
            max=2048,
            step=32,
            description="size",
            tooltip="Shorter side in pixels: the larger, the slower, and the smaller the strokes",
        )
        self.steps = whole(
            value=300,
            min=1,
            max=10_000,
            step=50,
            description="steps",
            tooltip="After how many steps to rest; Start adds as many again",
        )
        self.seed = whole(
            value=0, min=0, max=2**31 - 1, description="seed", tooltip="Another seed, other noise"
        )
        self.network = ipywidgets.Dropdown(
            description="network",
            tooltip="Who judges the picture. VGG-19 is downloaded once (548 MB), and slower.",
            **WIDE,
        )

    def _make_buttons(self) -> None:
        icons = {
            "Start": ("play", "Paint; go on after Pause, Stop or the last step"),
            "Pause": ("pause", "Hold the picture as it is; sliders may be turned meanwhile"),
            "Step": ("step-forward", "One step, then pause"),
            "Stop": ("stop", "End the run, and keep the picture"),
            "Reset": ("refresh", "Back to the start, with the settings below"),
            "Keep": ("bookmark", "Put the picture into the strip, to compare"),
            "Save PNG": ("download", "Write the picture, its settings in the file"),
            "Save film": ("film", "Write the run as a small animation (WebP)"),
        }
        self.buttons = {
            name: ipywidgets.Button(description=name, icon=icon, tooltip=tooltip, **WIDE)
            for name, (icon, tooltip) in icons.items()
        }
        self.buttons["Start"].button_style = "primary"
        self.strip = HBox().add_class("nst-strip")

    def _arrange(self) -> None:
        b = self.buttons
        canvas = VBox(
            [
                Box([self.picture]).add_class("nst-picture"),
                self.bar,
                self.status.add_class("nst-status"),
                HBox([b[n] for n in ("Start", "Pause", "Step", "Stop", "Reset")]),
                HBox([b[n] for n in ("Keep", "Save PNG", "Save film")]),
                self.message.add_class("nst-message"),
            ]
        ).add_class("nst-canvas")
        knobs = VBox(
            [
                self.ratio_label,
                self.ratio.add_class("nst-ratio"),
                self.presets.add_class("nst-presets"),
                HBox([HTML("<b>style layers</b>: weights"), self.equal]).add_class("nst-row"),
                VBox(list(self.layers.values())).add_class("nst-layers"),
                HBox([HTML("<b>content</b> from"), self.content_layer]).add_class("nst-row"),
                self.plot,
            ]
        ).add_class("nst-knobs")
        own = {c: [u] if self.served else [u, self.paths[c]] for c, u in self.uploads.items()}
        pictures = [
            HBox(
                [
                    Box([self.thumbnails[c]]).add_class("nst-thumbnail"),
                    VBox([c.add_class("nst-field"), HBox(own[c])]),
                ]
            ).add_class("nst-choice")
            for c in (self.content, self.style)
        ]
        numbers = Box(
            [
                each.add_class("nst-field")
                for each in (self.start_from, self.size, self.steps, self.seed, self.network)
            ]
        ).add_class("nst-numbers")
        setup = HBox([*pictures, numbers]).add_class("nst-setup")
        self.view = VBox(
            [
                HTML(f"<style>{CSS}</style>"),
                *([HTML(TITLE).add_class("nst-title")] if self.served else []),
                HBox([canvas, knobs]).add_class("nst-main"),
                setup,
                self.strip,
            ]
        ).add_class("nst-explorer")
        if self.served:
            self.view.add_class("nst-served")


def set_value(name: str, control: ipywidgets.Widget, value: Any) -> None:
    """Set a control, and say so where it does not take the value as it is."""
    before = control.value
    try:
        control.value = value
    except TraitError:
        control.value = before
    # A slider's own value is a power of ten, and rounds.
    close = isinstance(value, float) and math.isclose(control.value, value, rel_tol=1e-6)
    if control.value != value and not close:
        control.value = before
        options = getattr(control, "options", None)
        least, most = getattr(control, "min", None), getattr(control, "max", None)
        if isinstance(control, ipywidgets.FloatLogSlider):
            least, most = control.base**least, control.base**most
        can = f"from {least:g} to {most:g}" if options is None else f"one of {options}"
        raise ValueError(f"{name} must be {can}; got {value!r}")


def curves_svg(curve: list[tuple[int, float, float]], end: int) -> str:
    """Draw content and style loss against the step, on a logarithmic axis, as SVG.

    Not by matplotlib, which is not made for threads, takes longer than a step, and does not know
    the theme's colours.
    """
    width, height, left, bottom = 560, 150, 44, 20
    points = list(curve)
    points = points[:: max(1, len(points) // 300)] + points[-1:]
    values = [v for _, *both in points for v in both if v > 0]
    low = math.floor(math.log10(min(values))) if values else -3
    high = math.ceil(math.log10(max(values))) if values else 1
    high = max(high, low + 1)

    def place(step: float, value: float) -> tuple[float, float]:
        x = left + (width - left - 4) * step / max(1, end)
        y = 6 + (height - bottom - 6) * (high - math.log10(value)) / (high - low)
        return x, y

    parts = []
    for power in range(low, high + 1, max(1, (high - low) // 4)):
        _, y = place(0, 10.0**power)
        parts.append(f'<path class="nst-grid" d="M{left} {y:.1f}H{width - 4}"/>')
        parts.append(
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        )
    for share in (0, 0.5, 1):
        x, _ = place(share * end, 1)
        anchor = {0: "start", 1: "end"}.get(share, "middle")
        text = f"{share * end:.0f}" + (" steps" if share == 1 else "")
        parts.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="{anchor}">{text}</text>')
    for column, name in ((1, "content"), (2, "style")):
        places = [place(point[0], point[column]) for point in points if point[column] > 0]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        if places:
            parts.append(f'<polyline class="nst-{name}" points="{line}"/>')
    key = "".join(
        f'<tspan class="nst-{name}-text" dx="12">{name} loss</tspan>'
        for name in ("content", "style")
    )
    parts.append(f'<text x="{width - 196}" y="18" class="nst-key">{key}</text>')
    return (
        f'<svg class="nst-plot" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="content and style loss against the step">{"".join(parts)}</svg>'
    )


def close_widget(widget: ipywidgets.Widget) -> None:
    """Close a widget and all that belongs to it, so that nothing of it stays in the kernel."""
    for child in getattr(widget, "children", ()):
        close_widget(child)
    for part in (getattr(widget, "layout", None), getattr(widget, "style", None)):
        if isinstance(part, ipywidgets.Widget):
            part.close()
    widget.close()
