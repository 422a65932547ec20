"""The explorer's controls without a run: they are set as a front end sets them."""

import math
import re
from xml.etree import ElementTree

import ipywidgets
import pytest
import torch
from ipywidgets.widgets import widget as registry

from helpers import file_of, make_picture
from nst_helpers import STYLE_LAYERS, Result, load_image, save_image
from nst_helpers.explorer.canvas import MAX_KEPT, Strip, curves_svg, explain
from nst_helpers.explorer.controls import Controls
from nst_helpers.explorer.pictures import Pictures
from nst_helpers.explorer.recording import CurvePoint
from nst_helpers.explorer.weight_controls import RECEPTIVE_FIELD
from nst_helpers.explorer.widgets import close_widget
from nst_helpers.losses import RATIOS


@pytest.fixture
def controls():
    made = Controls(Pictures())
    made.choose("content", "chelsea")
    made.choose("style", "night_sky")
    made.offer_networks({"bundled": "bundled", "random weights": "random"}, "bundled")
    yield made
    close_widget(made.view)


def connect(controls):
    """Let the widgets act; return the settings that have changed, as they are reported."""
    changed = []
    controls.connect({}, changed.append)
    return changed


def message(controls):
    return re.sub("<[^>]+>", "", controls.canvas.message.value)


def upload(controls, role, name, data):
    file = {"name": name, "type": "image/png", "size": len(data), "last_modified": 0}
    # As it comes from the browser, which the widget turns into what Python sees.
    state = {"value": [{**file, "content": memoryview(data)}]}
    controls.choices[role].upload.set_state(state)


def descendants(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from descendants(child)


# --- settings ------------------------------------------------------------------------------------


def test_defaults_are_the_documented_ones(controls):
    settings = controls.settings
    assert settings["alpha"] / settings["beta"] == pytest.approx(1e-2)
    assert settings["style_layer_weights"] == dict.fromkeys(STYLE_LAYERS, 0.2)
    assert (settings["content_layer"], settings["start"]) == ("relu4_2", "noise")
    ratio = controls.weights.ratio
    assert (ratio.base**ratio.min, ratio.base**ratio.max) == (1e-5, 1)


def test_settings_go_to_the_widgets_and_come_back(controls):
    settings = {
        "content": "coffee",
        "style": "wave",
        "second_style": "bojagi",
        "blend": 0.3,
        "colors": "keep",
        "style_scale": 1.5,
        "content_layer": "relu2_2",
        "start": "content",
        "size": 64,
        "steps": 7,
        "seed": 3,
        "network": "random",
        "alpha": 0.5,
        "beta": 1.0,
        "style_layer_weights": dict.fromkeys(STYLE_LAYERS, 0.3),
    }
    controls.settings = {**settings, "step": 12}  # as saved in a file
    assert controls.settings == {**settings, "alpha": pytest.approx(0.5)}
    assert controls.fields["size"].value == 64
    assert controls.choices["style"].thumbnail.value == Pictures().thumbnail("wave")
    controls.settings = {"style_layer_weights": {"relu3_1": 1.0}}
    expected = {**settings["style_layer_weights"], "relu3_1": 1.0}
    assert controls.settings["style_layer_weights"] == expected


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"colour": 1}, "unknown settings: colour"),
        ({"alpha": -1.0}, "alpha must be a number >= 0; got -1.0"),
        ({"alpha": 0.0, "beta": 0.0}, "must not both be 0"),
        ({"alpha": 100.0}, "alpha / beta must be from 1e-05 to 1"),
        ({"style_layer_weights": {"relu9_1": 1.0}}, "style layers must be one of"),
        ({"style_layer_weights": {"relu1_1": 7.0}}, "of relu1_1 must be a number from 0 to 1"),
        ({"content_layer": "relu9_9"}, "content_layer must be one of"),
        ({"start": "middle"}, "start must be one of"),
        ({"size": 5}, "size must be a whole number from 32 to 2048; got 5"),
        ({"size": "large"}, "size must be"),
        ({"steps": 0}, "steps must be a whole number from 1"),
        ({"style": torch.zeros(3, 8, 8)}, "style must be an image"),
        ({"style": None}, "style: picture must be"),
        ({"second_style": torch.zeros(3, 8, 8)}, "second_style must be an image"),
        ({"blend": 1.1}, "blend must be a number from 0 to 1; got 1.1"),
        ({"style_scale": 4}, "style_scale must be a number from 0.5 to 2; got 4"),
        ({"colors": "mine"}, "colors must be one of"),
        ({"second_style": "wave", "blend": 0.2, "size": 5}, "size must be"),
    ],
)
def test_wrong_settings_raise_and_change_nothing(controls, settings, text):
    before = controls.settings
    with pytest.raises(ValueError, match=text):
        controls.settings = settings
    assert controls.settings == before


def test_changed_fields_are_reported(controls):
    changed = connect(controls)
    controls.settings = {"size": 64, "style": "wave", "content_layer": "relu2_2"}
    assert changed == ["style", "content_layer", "size"]


# --- weights -------------------------------------------------------------------------------------


def test_presets_and_slider_move_together(controls):
    weights = controls.weights
    for ratio in RATIOS:
        weights.presets.value = ratio
        assert weights.ratio.value == pytest.approx(ratio)
        assert f"= {weights.ratio_text}" in weights.label.value
    weights.ratio.value = 3e-3
    assert weights.presets.value is None
    weights.ratio.value = 1e-3
    assert weights.presets.value == 1e-3
    weights.presets.value = 0.0
    assert "texture only" in weights.label.value
    weights.ratio.value = 2e-2
    assert weights.presets.value is None
    assert controls.settings["alpha"] == pytest.approx(2e-2)
    for ratio, preset in ((1e-2, 1e-2), (1e-2, 1e-2), (0.0, 0.0), (1e-2, 1e-2), (2e-2, None)):
        controls.settings = {"alpha": ratio, "beta": 1.0}
        assert weights.presets.value == preset
        assert f"= {weights.ratio_text}" in weights.label.value


@pytest.mark.parametrize(
    ("settings", "alpha_beta", "text"),
    [
        ({"alpha": 0.0}, (0.0, 1.0), "0 (texture only)"),
        ({"beta": 0.0}, (1.0, 0.0), "∞ (content only)"),
        ({"alpha": 1e-5, "beta": 1.0}, (1e-5, 1.0), "1e-5"),
        ({"alpha": 3.0, "beta": 6.0}, (0.5, 1.0), "0.5"),
    ],
)
def test_alpha_and_beta_are_one_ratio_with_two_limits(controls, settings, alpha_beta, text):
    controls.settings = settings
    assert controls.weights.alpha_beta == pytest.approx(alpha_beta)
    assert controls.weights.ratio_text == text


def test_slider_has_its_decades_where_the_presets_stand(controls):
    # Six columns, of which the slider's ends take the first and the last: five decades.
    ratio, presets = controls.weights.ratio, controls.weights.presets
    assert len(presets.options) == ratio.max - ratio.min + 1
    for column, (_, value) in enumerate(presets.options[1:-1], 1):
        assert math.log10(value) == pytest.approx(ratio.min + column)


def test_button_makes_layer_weights_equal(controls):
    controls.weights.layers["relu3_1"].value = 1.0
    controls.weights.equal.click()
    assert controls.settings["style_layer_weights"] == dict.fromkeys(STYLE_LAYERS, 0.2)


def test_tooltips_name_the_true_receptive_fields(net):
    assert list(RECEPTIVE_FIELD) == list(STYLE_LAYERS)
    for layer, (_, pixels) in RECEPTIVE_FIELD.items():
        convolution = layer.replace("relu", "conv")
        image = torch.full((1, 3, 256, 256), 0.5, requires_grad=True)
        maps = net(image, [convolution])[convolution]
        middle = maps.shape[2] // 2
        (gradient,) = torch.autograd.grad(maps[0, :, middle, middle].sum(), image)
        rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
        assert rows[-1] - rows[0] + 1 == pixels


# --- pictures ------------------------------------------------------------------------------------


def test_upload_is_selected_and_may_come_again(controls):
    changed, picture = connect(controls), make_picture(60, 80, seed=5)
    upload(controls, "content", "holiday.png", file_of(picture))
    assert controls.settings["content"] == "holiday.png (yours)"
    assert message(controls) == ""
    assert set(changed) == {"content"}
    assert controls.choices["content"].upload.value == ()
    thumbnail = controls.pictures.thumbnail("holiday.png (yours)")
    assert controls.choices["content"].thumbnail.value == thumbnail
    upload(controls, "content", "holiday.png", file_of(make_picture(60, 80, seed=6)))
    assert controls.choices["content"].thumbnail.value != thumbnail


def test_unusable_upload_is_reported_and_changes_nothing(controls):
    changed = connect(controls)
    upload(controls, "content", "notes.jpg", b"no picture at all")
    assert "not a picture" in message(controls)
    assert controls.settings["content"] == "chelsea"
    assert changed == []


def test_path_is_typed_in(controls, tmp_path):
    changed, choices = connect(controls), controls.choices
    path = save_image(make_picture(60, 80), tmp_path / "mine.png")
    choices["content"].path.value = f" {path} "
    assert controls.settings["content"] == str(path)
    assert choices["content"].path.value == ""
    choices["style"].path.value = str(tmp_path / "missing.png")
    assert "there is no picture" in message(controls)
    assert controls.settings["style"] == "night_sky"
    choices["style"].path.value = "wave"
    assert controls.settings["style"] == "wave"
    assert set(changed) == {"content", "style"}


def test_thumbnail_follows_the_list(controls):
    connect(controls)
    controls.fields["style"].value = "wave"
    assert controls.choices["style"].thumbnail.value == Pictures().thumbnail("wave")


def test_second_style_comes_as_the_first_one_does_and_goes(controls, tmp_path):
    changed, choice = connect(controls), controls.choices["second_style"]
    assert controls.settings["second_style"] is None
    assert choice.thumbnail.layout.visibility == "hidden"
    assert controls.fields["blend"].disabled
    upload(controls, "second_style", "paint.png", file_of(make_picture(60, 80, seed=5)))
    assert controls.settings["second_style"] == "paint.png (yours)"
    assert choice.thumbnail.value == controls.pictures.thumbnail("paint.png (yours)")
    assert choice.thumbnail.layout.visibility == "visible"
    assert not controls.fields["blend"].disabled
    choice.path.value = str(save_image(make_picture(60, 80), tmp_path / "mine.png"))
    assert controls.settings["second_style"] == str(tmp_path / "mine.png")
    choice.select.set_state({"index": 0})  # as the front end sets it
    assert controls.settings["second_style"] is None
    assert choice.thumbnail.layout.visibility == "hidden"
    assert controls.fields["blend"].disabled
    assert (message(controls), set(changed)) == ("", {"second_style"})


@pytest.mark.parametrize("share", [0, 0.25, 1])
def test_shares_of_the_styles_add_up_to_one(controls, share):
    controls.settings = {"blend": share}
    assert controls.shares == (1 - share, share)


# --- what is folded away -------------------------------------------------------------------------


def is_folded(controls):
    return controls.fold.row.layout.display == "none"


def test_fold_opens_and_closes(controls):
    assert is_folded(controls)
    for pressed in (True, False):
        controls.fold.button.set_state({"value": pressed})
        assert is_folded(controls) is not pressed


@pytest.mark.parametrize(
    ("settings", "folded"),
    [
        ({"second_style": "wave"}, False),
        ({"colors": "keep"}, False),
        ({"style_scale": 0.5}, False),
        ({"style": "wave", "second_style": None, "colors": "style", "style_scale": 1}, True),
        ({"blend": 0.1}, True),  # of no second style
    ],
)
def test_what_acts_is_not_folded_away(controls, settings, folded):
    controls.settings = settings
    assert is_folded(controls) is folded


# --- canvas --------------------------------------------------------------------------------------


def test_buttons_act_and_show_errors():
    controls, pressed = Controls(Pictures(), explain=lambda error: f"why: {error}"), []

    def fail():
        raise ValueError("no such step")

    controls.connect({"Start": lambda: pressed.append("Start"), "Stop": fail}, pressed.append)
    controls.canvas.buttons["Start"].click()
    controls.canvas.buttons["Stop"].click()
    assert pressed == ["Start"]
    assert message(controls) == "why: no such step"


@pytest.mark.parametrize(
    ("state", "pace", "status"),
    [
        ("idle", 0.0, "step <b>30</b> of 50"),
        ("running", 4.0, "step <b>30</b> of 50 · 4 steps per second · 5 s left"),
        ("running", 0.0, "step <b>30</b> of 50"),
        ("paused", 4.0, "step <b>30</b> of 50 · paused"),
    ],
)
def test_status_tells_how_far_it_is(controls, state, pace, status):
    controls.canvas.show(b"jpeg", 30, 50, [], state, pace)
    assert controls.canvas.status.value == status
    assert controls.canvas.picture.value == b"jpeg"
    assert (controls.canvas.bar.value, controls.canvas.bar.max) == (30, 50)


def test_messages_cannot_smuggle_in_html(controls):
    connect(controls)
    controls.choices["content"].path.value = "<img src=x onerror=alert(1)>"
    assert "<img" not in controls.canvas.message.value
    assert "&lt;img" in controls.canvas.message.value


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError("none left"), "Not enough memory: none left. Try size 128, and Reset."),
        (torch.OutOfMemoryError("no more"), "Not enough memory: no more. Try size 128, and Reset."),
        (ValueError("memory: 64 x 64 would fit"), "Not enough memory: memory: 64 x 64 would fit."),
        (ConnectionError("there is no internet"), "there is no internet"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_errors_are_explained(error, text):
    assert explain(error, 192) == text


@pytest.mark.parametrize(
    "losses", [[], [(0.0, 0.0)], [(3.0, 1e-9)], [(10.0 / i, i) for i in range(1, 2000)]]
)
def test_curves_are_svg_inside_its_box(losses):
    curve = [CurvePoint(step, *both, 0.0) for step, both in enumerate(losses, 1)]
    svg = curves_svg(curve, 2000)
    root = ElementTree.fromstring(svg)
    lines = [e for e in root.iter() if e.tag == "polyline"]
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    assert len(lines) == 2 * (len(curve) > 1 or bool(curve and curve[0].content))
    assert len(svg) < 20_000


# --- strip ---------------------------------------------------------------------------------------


def test_strip_holds_a_dozen_pictures_and_can_be_emptied():
    strip, result = Strip(), Result(make_picture(8, 8))
    cards = [strip.add(result, {"size": i}, f"picture {i}").card for i in range(MAX_KEPT)]
    with pytest.raises(ValueError, match="12 pictures are kept already; remove one"):
        strip.add(result, {}, "")
    assert list(strip.view.children) == cards
    thumbnail, caption, _ = cards[3].children
    assert load_image(thumbnail.value).shape == (1, 3, 8, 8)
    assert caption.value == "picture 3"
    for kept in strip.kept[::2] + strip.kept[1::2]:
        strip.remove(kept)
    assert strip.view.children == ()
    assert strip.kept == []


# --- all of them ---------------------------------------------------------------------------------


def test_every_control_has_a_tooltip(controls):
    no_controls = ipywidgets.Box | ipywidgets.HTML | ipywidgets.Image | ipywidgets.IntProgress
    widgets = [
        w
        for w in descendants(controls.view)
        if not isinstance(w, no_controls) and not isinstance(w, ipywidgets.Text)
    ]
    assert len(widgets) > 20
    for widget in widgets:
        assert widget.tooltip or getattr(widget, "tooltips", ()), widget


def test_served_controls_ask_for_no_paths():
    controls = Controls(Pictures(), served=True)
    assert all(choice.path is None for choice in controls.choices.values())
    assert not any(isinstance(w, ipywidgets.Text) for w in descendants(controls.view))


@pytest.mark.parametrize("served", [False, True])
def test_closing_the_view_closes_every_widget(served):
    before = dict(registry._instances)
    controls = Controls(Pictures(), served)
    controls.strip.add(Result(make_picture(8, 8)), {}, "")
    close_widget(controls.view)
    assert [w for key, w in registry._instances.items() if key not in before] == []
