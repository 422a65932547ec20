"""What visitors of the page can do: name, type, upload, and speak to widgets past the browser."""

import io
import json
import math
import subprocess
import sys
import time
from html.parser import HTMLParser

import pytest
import torch
from ipywidgets.widgets import widget as registry
from PIL import Image

from helpers import file_of, make_picture, make_weights, wait_for
from nst_helpers import StyleTransferExplorer, save_image
from nst_helpers.explorer import pictures as pictures_module
from nst_helpers.explorer.canvas import MAX_KEPT
from nst_helpers.explorer.settings import shorten
from nst_helpers.explorer.widgets import Markup, SafeHTML, markup, parts_of

MARKUP = [
    "<img src=x onerror=window.hacked=1>",
    '"><svg onload=window.hacked=1>',
    "<script>window.hacked=1;",
    "'-window.hacked=1-'",
    "&lt;b&gt;",
    "<b>{0}{alpha}%s",
    "\ud800\u202e\n<i>",
]
OURS = {"b", "br", "div", "a", "style", "svg", "path", "text", "tspan", "polyline"}
ATTRIBUTES = {"role", "download", "href", "class", "viewbox", "aria-label", "d", "x", "y", "dx"}
ATTRIBUTES |= {"text-anchor", "points"}


class Tags(HTMLParser):
    """What a browser makes of a text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def assert_safe(explorer):
    for widget in parts_of(explorer.controls.view):
        json.dumps(widget.get_state(), default=repr, ensure_ascii=False).encode()  # it can be sent
        if hasattr(widget, "value") and "HTML" in type(widget).__name__:
            assert isinstance(widget, SafeHTML)
            seen = Tags(widget.value)
            assert seen.tags <= OURS, widget.value
            assert seen.attributes <= ATTRIBUTES, widget.value


@pytest.fixture
def page(explore):
    return explore(served=True, steps=2)


def upload(explorer, role, name, data):
    file = {"name": name, "type": "image/png", "size": len(data), "last_modified": 0}
    widget = explorer.controls.choices[role].upload
    widget.set_state({"value": [{**file, "content": memoryview(data)}]})


def said(explorer):
    return Tags(explorer.controls.canvas.message.value).text


# --- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", MARKUP)
def test_names_of_uploads_are_text_wherever_they_come(page, text):
    for role, seed in (("content", 1), ("style", 2), ("second_style", 3)):
        upload(page, role, f"{text}.png", file_of(make_picture(40, 50, seed)))
        assert page.settings[role].startswith(shorten(text))
        assert_safe(page)
    page.start()
    page.join(20)
    for button in ("Keep", "Save PNG", "Save film"):
        page.controls.canvas.buttons[button].click()
        assert_safe(page)
    caption = Tags(page.controls.strip.kept[0].card.children[1].value).text
    assert caption.startswith(page.settings["style"])
    upload(page, "style", text, b"no picture")
    assert shorten(text) in said(page)
    assert_safe(page)


@pytest.mark.parametrize("text", MARKUP[:-1])  # file systems take no surrogates
def test_paths_settings_and_errors_are_text(explore, tmp_path, text):
    name = text.replace("/", "")
    picture = save_image(make_picture(40, 50), tmp_path / f"{name}.png")
    torch.save(make_weights(), tmp_path / f"{name}.pth")
    explorer = explore(picture, picture, net=tmp_path / f"{name}.pth", steps=2)
    assert_safe(explorer)
    explorer.keep()
    explorer.save_png()
    assert_safe(explorer)
    for path in (text, f"/{text}", str(picture)):
        explorer.controls.choices["style"].path.value = path
        assert_safe(explorer)
    for settings in ({text: 1}, {"style": text}, {"network": text}, {"size": text}):
        with pytest.raises((ValueError, FileNotFoundError)):
            explorer.settings = settings
        assert "Nothing was changed" in said(explorer)
        assert_safe(explorer)
    explorer.run.make_loss = lambda: 1 / {}[text]
    explorer.start()
    explorer.join(20)
    assert said(explorer).startswith("KeyError")
    assert_safe(explorer)


def test_markup_escapes_what_is_not_markup():
    assert markup("<b>{}</b>{}", "<i>", Markup("<br>")) == "<b>&lt;i&gt;</b><br>"
    widget = SafeHTML("<i>")
    assert widget.value == "&lt;i&gt;"
    widget.value = markup("<b>{}</b>", 7)
    assert widget.value == "<b>7</b>"
    widget.value += "<i>"  # a plain text again
    assert "<i>" not in widget.value
    widget.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.png", "a.png"), ("a\nb", "a b"), ("\u202ea\0", "_a_"), ("é 猫", "é 猫")],
)
def test_names_are_shortened_to_what_can_be_shown(text, expected):
    assert shorten(text) == expected
    assert len(shorten(5000 * text + ".png")) == 100
    assert shorten(5000 * text + ".png").endswith(".png")


# --- bounds --------------------------------------------------------------------------------------


def test_pages_set_values_and_nothing_else(page):
    fields, strip = page.controls.fields, page.controls.strip
    page.keep()
    before = {w: w.get_state() for w in parts_of(page.controls.view)}
    for widget in before:
        hostile = {"max": 10**9, "min": -5, "step": 0, "disabled": False, "children": []}
        hostile |= {"options": ["x"], "_options_labels": ["x"] * 99, "description": "<b>"}
        hostile |= {"layout": None, "_view_name": "HTMLView", "tooltip": "x", "_dom_classes": []}
        is_output = "HTML" in type(widget).__name__ or "Image" in type(widget).__name__
        widget.set_state({**hostile, "value": b"x" if is_output else None, "format": "svg+xml"})
    assert {w: w.get_state() for w in parts_of(page.controls.view)} == before
    assert strip.kept
    for name, wrong, right in (("steps", 10**9, 10_000), ("size", 10**400, 2048), ("seed", -5, 0)):
        fields[name].set_state({"max": 10**9, "value": wrong})
        assert fields[name].value == right


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e300, -1.0, pytest.param(10**400, id="huge"), "x"]
)
def test_sliders_stay_in_their_range_whatever_comes(page, value):
    sliders = [page.controls.weights.ratio, *page.controls.weights.layers.values()]
    for slider in sliders:
        slider.set_state({"value": value})
    json.dumps(page.settings, allow_nan=False)
    page.start()
    page.join(20)
    assert said(page) == ""
    assert page.run.result.steps_done == 2


def test_values_are_looked_at_where_they_are_used(page):
    field = page.controls.fields["size"]
    field.max = 10**6  # as nothing on a page can
    field.value = 10**6
    page.controls.canvas.buttons["Reset"].click()
    assert "size must be a whole number from 32 to 2048; got 1000000" in said(page)
    assert min(page.image.shape[2:]) == 64


def test_uploads_are_counted_and_weighed(page, monkeypatch):
    monkeypatch.setattr(pictures_module, "MAX_UPLOADS", 3)
    for seed in range(5):
        upload(page, "style", "one name.png", file_of(make_picture(40, 50, seed)))
    assert "3 pictures of 0 MB are uploaded already" in said(page)
    names = [n for n in page.controls.fields["style"].options if "one name" in n]
    assert names == [f"one name.png (yours){n}" for n in ("", " 2", " 3")]
    upload(page, "content", "one name.png", file_of(make_picture(40, 50, 1)))
    assert page.settings["content"] == names[1], "the same picture is there already"
    monkeypatch.setattr(pictures_module, "MAX_UPLOADS", 9)
    monkeypatch.setattr(pictures_module, "MAX_BYTES", 20_000)
    upload(page, "style", "large.png", file_of(make_picture(90, 90, 9)))
    assert "are uploaded already" in said(page)


def test_upload_is_decoded_once_for_a_size(page, monkeypatch):
    decoded, load_upload = [], pictures_module.load_upload
    monkeypatch.setattr(
        pictures_module, "load_upload", lambda *a: decoded.append(a[2]) or load_upload(*a)
    )
    upload(page, "content", "a.png", file_of(make_picture(90, 120)))
    page.reset()
    page.start()
    page.join(20)
    assert decoded == [64]
    page.settings = {"size": 80}
    page.reset()
    page.reset()
    assert decoded == [64, 80]
    assert page.image.shape == (1, 3, 80, 107)


def test_kept_pictures_are_counted(page):
    for _ in range(MAX_KEPT + 2):
        page.controls.canvas.buttons["Keep"].click()
    assert len(page.controls.strip.kept) == MAX_KEPT
    assert "are kept already" in said(page)


def test_long_strip_is_refused_at_a_size_at_which_it_takes_gigabytes(page):
    strip = io.BytesIO()
    Image.new("RGB", (300_000, 40), "red").save(strip, "PNG")
    page.settings = {"size": 512}
    upload(page, "content", "strip.png", strip.getvalue())
    assert "strip.png: at size 512 the picture would have" in said(page)
    assert page.settings["content"] == "chelsea"


@pytest.mark.parametrize("kind", ["EPS", "ICO", "PPM", "SGI", "PCX", "TGA", "JPEG2000"])
def test_rarities_are_not_decoded(page, kind):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, kind)
    upload(page, "style", "a.png", file.getvalue())
    assert said(page).startswith("a.png")
    assert page.settings["style"] == "night_sky"


MEMORY = """
import resource, sys
from pathlib import Path
from nst_helpers.explorer.pictures import Pictures
content, pictures = Path(sys.argv[1]).read_bytes(), Pictures()
pictures.add_upload("warm.png", Path(sys.argv[2]).read_bytes(), 192)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    name = pictures.add_upload("large.png", content, int(sys.argv[3]))
    pictures.thumbnail(name), pictures.load(name, 192), pictures.load_alpha(name, 192)
except ValueError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
@pytest.mark.parametrize(
    ("mode", "side", "kind"),
    [("I;16", 4000, "PNG"), ("RGBA", 4000, "PNG"), ("CMYK", 5600, "JPEG"), ("I;16", 13_000, "PNG")],
)
def test_worst_upload_takes_less_than_half_a_gigabyte(tmp_path, mode, side, kind):
    small, large = tmp_path / "small.png", tmp_path / f"large.{kind}"
    save_image(make_picture(64, 64), small)
    Image.new(mode, (side, side)).save(large, kind)
    command = [sys.executable, "-c", MEMORY, large, small, "2048"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) < 512


def test_served_page_leaves_no_file(page, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for _ in range(2):
        page.start()
        page.join(20)
    for button in ("Save PNG", "Save film"):
        page.controls.canvas.buttons[button].click()
        assert said(page) == "download"
    assert list(tmp_path.iterdir()) == []


# --- an end --------------------------------------------------------------------------------------


def test_dropped_explorer_takes_its_run_and_its_widgets_along(net):
    before = set(registry._instances)
    explorer = StyleTransferExplorer(net=net, size=64, steps=10_000)
    explorer.keep()
    explorer.start()
    run = explorer.run
    while explorer.recording.steps_done < 3:
        time.sleep(0.01)
    del explorer
    wait_for(lambda: run.state == "idle")
    wait_for(lambda: set(registry._instances) <= before)


def test_explorer_that_is_shown_lives_without_a_variable(net):
    view = StyleTransferExplorer(net=net, size=64, steps=3).view
    wait_for(lambda: view.explorer.run.state == "idle")
    view.explorer.start()
    assert view.explorer.join(20)
    assert view.explorer.run.result.steps_done == 3
    view.explorer.close()
    assert view.explorer is None
