"""The controls of the loss's weights: alpha / beta, and one for each style layer."""

from __future__ import annotations

import math
import re

import ipywidgets

from nst_helpers import _validate
from nst_helpers.explorer.settings import parse_ratio
from nst_helpers.explorer.widgets import WIDE, SafeHTML, markup
from nst_helpers.language import N_, _
from nst_helpers.losses import RATIOS, STYLE_LAYERS

__all__: list[str] = []

RECEPTIVE_FIELD = {  # what a style layer describes, and how many pixels one of its positions sees
    "relu1_1": (N_("colours, and the finest grain"), 3),
    "relu2_1": (N_("threads and fine strokes"), 10),
    "relu3_1": (N_("strokes, small motifs"), 24),
    "relu4_1": (N_("large motifs"), 68),
    "relu5_1": (N_("the largest shapes"), 156),
}
WEIGHT = N_("Weight of {}: a position sees {} pixels")
RATIO = N_("<b>alpha / beta</b> = {}")
RATIO_TOOLTIP = N_("To the right the picture obeys the photograph, to the left the painting.")
TEXTURE_ONLY, TEXTURE_TOOLTIP = N_("texture only"), N_("Forget the photograph: alpha = 0")
CONTENT_ONLY, CONTENT_TOOLTIP = N_("content only"), N_("Forget the painting: beta = 0")
NO_CONTENT, NO_STYLE = N_("0 (texture only)"), N_("∞ (content only)")
PAPER_TOOLTIP = N_("The paper's Fig. 4")
EQUAL, EQUAL_TOOLTIP = N_("1/5 each"), N_("As in the paper: all style layers alike")


class WeightControls:
    """Sliders for alpha / beta, with presets, and for the weights of the style layers.

    Attributes
    ----------
    ratio, presets, label : ipywidgets.Widget
        alpha / beta as a slider, as buttons, and in words.
    layers : dict of str to ipywidgets.FloatSlider
        Weight of each style layer.
    equal : ipywidgets.Button
        Gives all layers the same weight.
    """

    def __init__(self) -> None:
        self.label = SafeHTML()
        self.ratio = ipywidgets.FloatLogSlider(
            value=1e-2,
            min=-5,
            max=0,
            step=0.05,
            readout=False,
            tooltip=_(RATIO_TOOLTIP),
            **WIDE,
        )
        options = [(_(TEXTURE_ONLY), 0.0), *((f"{r:.0e}".replace("e-0", "e-"), r) for r in RATIOS)]
        self.presets = ipywidgets.ToggleButtons(
            options=[*options, (_(CONTENT_ONLY), math.inf)],
            value=1e-2,
            tooltips=[
                _(TEXTURE_TOOLTIP),
                *[_(PAPER_TOOLTIP)] * len(RATIOS),
                _(CONTENT_TOOLTIP),
            ],
        )
        self.layers = {
            layer: ipywidgets.FloatSlider(
                value=1 / len(STYLE_LAYERS),
                min=0,
                max=1,
                step=0.01,
                description=layer,
                tooltip=_(WEIGHT).format(_(what), pixels),
                **WIDE,
            )
            for layer, (what, pixels) in RECEPTIVE_FIELD.items()
        }
        self.equal = ipywidgets.Button(description=_(EQUAL), tooltip=_(EQUAL_TOOLTIP), **WIDE)
        self.ratio.observe(lambda change: self._ratio_moved(), "value")
        self.presets.observe(lambda change: self._preset_pressed(), "value")
        self.equal.on_click(lambda button: self.set_equal())
        self._show_ratio()

    @property
    def alpha_beta(self) -> tuple[float, float]:
        """The pair alpha, beta, of which one is 1; set them to numbers >= 0, not both 0."""
        limits = {0.0: (0.0, 1.0), math.inf: (1.0, 0.0)}
        if self.presets.value in limits:
            return limits[self.presets.value]
        return parse_ratio(_validate.positive_number("alpha / beta", self.ratio.value), 1.0), 1.0

    @alpha_beta.setter
    def alpha_beta(self, weights: tuple[float, float]) -> None:
        ratio = parse_ratio(*weights)
        if ratio in (0, math.inf):
            self.presets.value = ratio
        else:
            self.ratio.value = ratio
            self._press_nearest()  # the slider may have stood there already

    @property
    def ratio_text(self) -> str:
        """The ratio alpha / beta in words."""
        alpha, beta = self.alpha_beta
        if not (alpha and beta):
            return _(NO_STYLE if alpha else NO_CONTENT)
        return re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{alpha / beta:.2g}")

    @property
    def layer_weights(self) -> dict[str, float]:
        """The weight of each style layer; set some of them to numbers from 0 to 1."""
        sliders = self.layers.items()
        return {layer: _validate.number_between(layer, s.value, 0, 1) for layer, s in sliders}

    @layer_weights.setter
    def layer_weights(self, weights: dict[str, float]) -> None:
        for layer, weight in weights.items():
            self.layers[layer].value = _validate.number_between(layer, weight, 0, 1)

    def set_equal(self) -> None:
        """Give all style layers the same weight."""
        for slider in self.layers.values():
            slider.value = 1 / len(self.layers)

    def _ratio_moved(self) -> None:
        self._press_nearest()
        self._show_ratio()

    def _preset_pressed(self) -> None:
        if self.presets.value in RATIOS:
            self.ratio.value = self.presets.value
        self._show_ratio()

    def _press_nearest(self) -> None:
        near = [r for r in RATIOS if math.isclose(r, self.ratio.value, rel_tol=1e-3)]
        self.presets.value = near[0] if near else None

    def _show_ratio(self) -> None:
        self.label.value = markup(_(RATIO), self.ratio_text)
