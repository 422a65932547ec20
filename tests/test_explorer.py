"""The explorer without a browser: its controls are set as a front end sets them."""

import io
import math
import re
import sys
import threading
import time
import types
from xml.etree import ElementTree

import ipywidgets
import pytest
import torch
from ipywidgets.widgets import widget as registry
from PIL import Image

from helpers import make_picture
from nst_helpers import (
    STYLE_LAYERS,
    StyleTransferExplorer,
    controls,
    devices,
    load_image,
    load_settings,
    noise_like,
    save_image,
    widgets,
)

PATIENCE = 20  # seconds, on a busy machine


@pytest.fixture
def explore(net, tmp_path):
    made = []

    def make(content="chelsea", style="night_sky", **options):
        options = {"net": net, "size": 48, "steps": 2000, "output": tmp_path / "saved", **options}
        made.append(StyleTransferExplorer(content, style, **options))
        return made[-1]

    yield make
    for explorer in made:
        explorer.stop()
        explorer.close()


@pytest.fixture
def explorer(explore):
    return explore()


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def click(explorer, name):
    explorer.controls.buttons[name].click()


def step(explorer):
    found = re.search(r"step <b>(\d+)</b>", explorer.controls.status.value)
    return int(found[1])


def said(explorer):
    return re.sub("<[^>]+>", "", explorer.controls.message.value)


def as_file(image, kind="PNG"):
    file = io.BytesIO()
    image = Image.fromarray((image[0].permute(1, 2, 0) * 255).byte().numpy())
    image.save(file, format=kind)
    return file.getvalue()


def upload(explorer, control, name, data):
    told = {"name": name, "type": "image/png", "size": len(data), "last_modified": 0}
    # As it comes from the browser, which the widget turns into what Python sees.
    widget = explorer.controls.uploads[control]
    widget.set_state({"value": [{**told, "content": memoryview(data)}]})


# --- it shows what it does -----------------------------------------------------------------------


def test_it_shows_the_start_before_anything_runs(explorer, net):
    shown = load_image(explorer.controls.picture.value)
    noise = noise_like(load_image("chelsea", 48), 0)
    assert (shown - noise).abs().mean() < 0.03  # it comes as JPEG
    assert explorer.live.state == "idle"
    assert step(explorer) == 0


def test_start_paints_and_rests_after_the_steps(explore):
    explorer = explore(steps=30)
    before = explorer.controls.picture.value
    click(explorer, "Start")
    assert explorer.join(PATIENCE)
    assert step(explorer) == 30
    assert explorer.controls.picture.value != before
    assert (load_image(explorer.controls.picture.value) - explorer.image).abs().mean() < 0.03
    history = explorer.live.result.history
    assert history[-1]["total"] < 0.5 * history[0]["total"]
    click(explorer, "Start")
    explorer.join(PATIENCE)
    assert step(explorer) == 60, "Start adds as many again"


def test_the_kernel_is_free_and_the_status_moves(explorer):
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 3)
    early = step(explorer)
    wait_for(lambda: step(explorer) > early)
    assert "steps per second" in explorer.controls.status.value
    assert "s left" in explorer.controls.status.value


def test_pictures_come_at_most_every_tenth_of_a_second(explorer):
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 1)
    painted, began = explorer._painted, time.monotonic()
    time.sleep(0.5)
    assert explorer._painted - painted <= (time.monotonic() - began) / widgets.INTERVAL + 1


def test_pause_resume_step_stop_reset(explorer):
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 3)
    click(explorer, "Pause")
    wait_for(lambda: "paused" in explorer.controls.status.value)
    assert explorer.controls.buttons["Pause"].description == "Resume"
    at, picture = step(explorer), explorer.controls.picture.value
    time.sleep(0.2)
    assert (step(explorer), explorer.controls.picture.value) == (at, picture)
    click(explorer, "Step")
    wait_for(lambda: step(explorer) == at + 1)
    click(explorer, "Pause")  # which now says Resume
    wait_for(lambda: step(explorer) > at + 3)
    click(explorer, "Stop")
    explorer.join(PATIENCE)
    at, picture = step(explorer), explorer.controls.picture.value
    assert explorer.live.state == "idle"
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > at)
    click(explorer, "Reset")
    assert step(explorer) == 0
    assert explorer.live.result.history == []


def test_buttons_fit_the_state(explorer):
    def enabled():
        return {name for name, button in explorer.controls.buttons.items() if not button.disabled}

    always = {"Reset", "Keep", "Save PNG", "Save film"}
    assert enabled() == {"Start", "Step", *always}
    explorer.start()
    assert enabled() == {"Pause", "Stop", *always}
    explorer.pause()
    assert enabled() == {"Start", "Pause", "Step", "Stop", *always}
    explorer.stop()
    assert enabled() == {"Start", "Step", *always}


def test_start_pressed_twice_is_said_and_harmless(explorer):
    click(explorer, "Start")
    click(explorer, "Start")
    assert "running already" in said(explorer)
    assert sum(t.name == "nst run" for t in threading.enumerate()) == 1


# --- sliders -------------------------------------------------------------------------------------


def test_the_documented_defaults(explorer):
    settings = explorer.settings
    assert settings["alpha"] / settings["beta"] == pytest.approx(1e-2)
    assert settings["style_layer_weights"] == dict.fromkeys(STYLE_LAYERS, 0.2)
    assert (settings["content_layer"], settings["start"]) == ("relu4_2", "noise")
    assert (
        explorer.controls.ratio.base**explorer.controls.ratio.min,
        explorer.controls.ratio.base**explorer.controls.ratio.max,
    ) == (
        1e-5,
        1,
    )


def test_sliders_reach_the_loss_while_it_runs(explorer):
    seen = []
    turn = explorer.live.turn

    def watch(loss):
        turn(loss)
        seen.append((loss.alpha, loss.beta, dict(loss.style_layer_weights)))

    explorer.live.turn = watch
    click(explorer, "Start")
    wait_for(lambda: len(seen) > 3)
    explorer.controls.ratio.value = 0.5
    wait_for(lambda: seen[-1][:2] == (pytest.approx(0.5), 1.0))
    explorer.controls.layers["relu1_1"].value = 0
    wait_for(lambda: seen[-1][2]["relu1_1"] == 0)
    assert seen[-1][2]["relu2_1"] == pytest.approx(0.2)
    explorer.controls.presets.value = math.inf
    wait_for(lambda: seen[-1][:2] == (1.0, 0.0))
    explorer.controls.presets.value = 0.0
    wait_for(lambda: seen[-1][:2] == (0.0, 1.0))
    click(explorer, "Stop")
    explorer.join(PATIENCE)
    history = explorer.live.result.history
    assert [e["step"] for e in history] == list(range(1, len(history) + 1)), "nothing began again"


def test_more_content_lowers_the_content_loss(explorer):
    explorer.controls.presets.value = 1e-4
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 60)
    click(explorer, "Pause")
    before = explorer._curve[-1]
    explorer.controls.presets.value = math.inf
    click(explorer, "Pause")
    wait_for(lambda: step(explorer) > before[0] + 60)
    click(explorer, "Pause")
    after = explorer._curve[-1]
    assert after[1] < 0.5 * before[1]
    assert after[2] > before[2]


def test_presets_and_slider_go_together(explorer):
    for ratio in controls.RATIOS:
        explorer.controls.presets.value = ratio
        assert explorer.controls.ratio.value == pytest.approx(ratio)
        assert f"= {explorer._ratio_text()}" in explorer.controls.ratio_label.value
    explorer.controls.ratio.value = 3e-3
    assert explorer.controls.presets.value is None
    explorer.controls.ratio.value = 1e-3
    assert explorer.controls.presets.value == 1e-3
    explorer.controls.presets.value = 0.0
    assert "texture only" in explorer.controls.ratio_label.value
    explorer.controls.ratio.value = 2e-2
    assert explorer.controls.presets.value is None
    assert explorer.settings["alpha"] == pytest.approx(2e-2)
    for ratio, preset in ((1e-2, 1e-2), (1e-2, 1e-2), (0.0, 0.0), (1e-2, 1e-2), (2e-2, None)):
        explorer.settings = {"alpha": ratio, "beta": 1.0}
        assert explorer.controls.presets.value == preset
        assert f"= {explorer._ratio_text()}" in explorer.controls.ratio_label.value


def test_the_slider_has_its_decades_where_the_presets_stand(explorer):
    # Six columns, of which the slider's ends take the first and the last: five decades.
    ratio = explorer.controls.ratio
    assert len(explorer.controls.presets.options) == ratio.max - ratio.min + 1
    for column, (_, value) in enumerate(explorer.controls.presets.options[1:-1], 1):
        assert math.log10(value) == pytest.approx(ratio.min + column)


def test_equal_weights_again(explorer):
    explorer.controls.layers["relu3_1"].value = 1.0
    explorer.controls.equal.click()
    assert explorer.settings["style_layer_weights"] == dict.fromkeys(STYLE_LAYERS, 0.2)


def test_all_weights_at_zero_does_no_harm(explorer):
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 3)
    explorer.controls.presets.value = 0.0
    for slider in explorer.controls.layers.values():
        slider.value = 0
    wait_for(lambda: explorer._curve[-1][2] == 0)
    picture, at = explorer.image, step(explorer)
    wait_for(lambda: step(explorer) > at + 5)
    assert torch.equal(explorer.image, picture), "nothing is asked for, so nothing moves"
    explorer.controls.equal.click()
    at = step(explorer)
    wait_for(lambda: step(explorer) > at + 3)
    assert torch.isfinite(explorer.image).all()


@pytest.mark.parametrize("name", ["style", "content_layer"])
def test_style_and_content_layer_change_on_the_running_picture(explorer, name):
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 3)
    explorer.settings = {"style": "bojagi"} if name == "style" else {"content_layer": "relu2_2"}
    at = step(explorer)
    wait_for(lambda: step(explorer) > at + 20)
    click(explorer, "Stop")
    explorer.join(PATIENCE)
    assert not said(explorer)
    history = explorer.live.result.history
    assert [e["step"] for e in history] == list(range(1, len(history) + 1))


@pytest.mark.parametrize(
    ("setting", "value"), [("content", "coffee"), ("size", 64), ("seed", 3), ("start", "content")]
)
def test_other_settings_count_from_the_next_reset(explorer, setting, value):
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 3)
    shape = explorer.image.shape
    explorer.settings = {setting: value}
    assert "Reset begins" in said(explorer)
    assert explorer.image.shape == shape
    click(explorer, "Reset")
    expected = load_image(explorer.controls.content.value, explorer.controls.size.value)
    if setting != "start":
        expected = noise_like(expected, explorer.controls.seed.value)
    assert torch.equal(explorer.image, expected)


def test_before_the_first_step_they_count_at_once(explorer):
    explorer.controls.size.value = 64
    assert min(explorer.image.shape[2:]) == 64
    explorer.controls.start_from.value = "content"
    assert torch.equal(explorer.image, load_image("chelsea", 64))
    explorer.controls.start_from.value = "style"
    assert explorer.image.shape == load_image("chelsea", 64).shape
    assert not said(explorer)


def test_more_steps_while_it_runs(explore):
    explorer = explore(steps=100_00)
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 3)
    explorer.controls.steps.value = 10
    explorer.join(PATIENCE)
    assert step(explorer) % 10 == 0 or step(explorer) < 10_000
    assert explorer.live.state == "idle"


# --- pictures of one's own -----------------------------------------------------------------------


def test_an_upload_becomes_the_content(explorer):
    picture = make_picture(60, 80, seed=5)
    upload(explorer, explorer.controls.content, "holiday.png", as_file(picture))
    assert explorer.controls.content.value == "holiday.png (yours)"
    assert not said(explorer)
    explorer.controls.start_from.value = "content"
    assert explorer.image.shape == (1, 3, 48, 64)
    small = load_image(as_file(picture), 48)
    torch.testing.assert_close(explorer.image, small)
    assert explorer.controls.uploads[explorer.controls.content].value == (), (
        "the same file may come again"
    )


def test_an_upload_becomes_the_style_of_the_running_picture(explorer):
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 3)
    upload(explorer, explorer.controls.style, "paint.jpg", as_file(make_picture(60, 80), "JPEG"))
    at = step(explorer)
    wait_for(lambda: step(explorer) > at + 10)
    assert explorer.controls.style.value == "paint.jpg (yours)"
    assert not said(explorer)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("notes.jpg", b"no picture at all", "not a picture"),
        ("empty.png", b"", "not a picture"),
        ("cut.png", as_file(make_picture(90, 90))[:3000], "cannot be read"),
        ("tiny.png", as_file(make_picture(9, 80)), "only 80 x 9 pixels; it needs 32"),
        ("huge.png", b"\x89PNG" + bytes(9 * 2**20), "huge.png has 9.0 MB; the most is 8 MB"),
    ],
)
def test_an_upload_that_will_not_do_is_said(explorer, name, data, message):
    before = explorer.controls.content.value
    upload(explorer, explorer.controls.content, name, data)
    assert message in said(explorer)
    assert explorer.controls.content.value == before
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 2)


def test_a_path_is_typed_in(explorer, tmp_path):
    path = save_image(make_picture(60, 80), tmp_path / "mine.png")
    explorer.controls.paths[explorer.controls.content].value = f" {path} "
    assert explorer.controls.content.value == str(path)
    explorer.controls.paths[explorer.controls.style].value = str(tmp_path / "missing.png")
    assert "there is no picture" in said(explorer)
    assert explorer.controls.style.value == "night_sky"
    explorer.controls.paths[explorer.controls.style].value = "wave"
    assert explorer.controls.style.value == "wave"


def test_it_may_begin_with_files_and_tensors(explore, tmp_path):
    path = save_image(make_picture(60, 80), tmp_path / "mine.png")
    explorer = explore(path, make_picture(50, 50))
    assert explorer.settings["content"] == str(path)
    explorer.settings = {"steps": 4}
    explorer.start()
    explorer.join(PATIENCE)
    assert step(explorer) == 4
    assert not said(explorer)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"content": "no such"}, FileNotFoundError, "there is no picture 'no such'"),
        ({"style": torch.zeros(3, 8, 8)}, ValueError, r"expected an image \(1, 3, H, W\)"),
        ({"style": torch.full((1, 3, 40, 40), math.nan)}, ValueError, "not finite"),
        ({"net": "no such"}, FileNotFoundError, "there is no network"),
        ({"size": 7}, ValueError, "size must be from 32 to 2048; got 7"),
        ({"steps": 0}, ValueError, "steps must be from 1"),
        ({"size": "large"}, ValueError, "size must be"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(explore, options, error, message):
    with pytest.raises(error, match=message):
        explore(**options)


# --- when things go wrong ------------------------------------------------------------------------


def test_too_large_a_picture_is_said_with_a_size_that_fits(explorer, monkeypatch):
    monkeypatch.setattr(devices, "available_memory", lambda device: 10**6)
    click(explorer, "Start")
    explorer.join(PATIENCE)
    assert re.search(r"Not enough memory.*about \d+ x \d+ would fit", said(explorer))
    monkeypatch.undo()
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 3)


@pytest.mark.parametrize("error", [MemoryError("none left"), torch.OutOfMemoryError("no more")])
def test_out_of_memory_midway_is_said_with_a_size_to_try(explorer, error):
    turn = explorer.live.turn

    def fail(loss):
        if explorer._curve:
            raise error
        turn(loss)

    explorer.live.turn = fail
    click(explorer, "Start")
    explorer.join(PATIENCE)
    assert "Try size 32, and Reset" in said(explorer)
    assert explorer.live.state == "idle"


@pytest.mark.filterwarnings("ignore:.*not finite")
def test_what_is_not_finite_goes_back_to_the_last_good_picture(explorer):
    turn = explorer.live.turn

    def spoil(loss):
        turn(loss)
        if len(explorer._curve) == 5:
            loss.get_buffer("content_relu4_2").fill_(math.nan)

    explorer.live.turn = spoil
    click(explorer, "Start")
    explorer.join(PATIENCE)
    assert "not finite" in said(explorer)
    assert "last good picture" in said(explorer)
    assert torch.isfinite(explorer.image).all()
    explorer.live.turn = turn
    at = step(explorer)
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > at + 3)
    assert not said(explorer)


def test_a_network_that_cannot_be_loaded_is_said(explorer, monkeypatch):
    def fail(source):
        raise ConnectionError("there is no internet. load_network('bundled') works offline.")

    monkeypatch.setattr(widgets, "load_network", fail)
    explorer.controls.network.value = "random"
    click(explorer, "Start")
    explorer.join(PATIENCE)
    assert "there is no internet" in said(explorer)
    explorer.controls.network.value = explorer.controls.network.options[-1][1]
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 3)


def test_an_error_of_ours_is_shown_with_its_kind(explorer, monkeypatch):
    monkeypatch.setattr(explorer, "_load", lambda name, size: 1 / 0)
    click(explorer, "Reset")
    assert said(explorer).startswith("ZeroDivisionError: ")


def test_messages_cannot_smuggle_in_html(explorer):
    explorer.controls.paths[explorer.controls.content].value = "<img src=x onerror=alert(1)>"
    assert "<img" not in explorer.controls.message.value
    assert "&lt;img" in explorer.controls.message.value


# --- keeping -------------------------------------------------------------------------------------


def test_a_kept_picture_comes_back_with_its_settings(explorer):
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 5)
    click(explorer, "Pause")
    click(explorer, "Keep")
    ((result, settings, card),) = explorer._kept
    kept, at = result.image.clone(), len(result.history)
    explorer.controls.presets.value = 1e-1
    explorer.settings = {"style": "bojagi", "content": "coffee", "size": 64}
    click(explorer, "Reset")
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > 3)
    assert torch.equal(result.image, kept)
    back, _ = card.children[-1].children
    back.click()
    assert explorer.settings == settings
    assert torch.equal(explorer.image, kept)
    assert step(explorer) == at
    click(explorer, "Start")
    wait_for(lambda: step(explorer) > at + 3)
    assert not said(explorer)


def test_the_strip_is_limited_and_can_be_emptied(explorer):
    click(explorer, "Start")  # so that each one is another picture
    for _ in range(widgets.KEPT + 1):
        click(explorer, "Keep")
    assert len(explorer.controls.strip.children) == widgets.KEPT
    assert "remove one" in said(explorer)
    for card in reversed(explorer.controls.strip.children):
        _, remove = card.children[-1].children
        remove.click()
    assert explorer.controls.strip.children == ()
    assert explorer._kept == []


def test_the_saved_picture_holds_its_settings(explorer, explore, tmp_path):
    explorer.settings = {"alpha": 0.5, "steps": 6}
    explorer.start()
    explorer.join(PATIENCE)
    click(explorer, "Save PNG")
    (path,) = (tmp_path / "saved").iterdir()
    assert f"saved {path}" in said(explorer)
    assert "download" in explorer.controls.message.value
    settings = load_settings(path)
    assert settings == {**explorer.settings, "step": 6}
    torch.testing.assert_close(load_image(path), explorer.image, rtol=0, atol=0.5 / 255 + 1e-6)
    other = explore()
    other.settings = settings
    assert other.settings == explorer.settings
    click(explorer, "Save PNG")
    assert len(list((tmp_path / "saved").iterdir())) == 2, "nothing is overwritten"


def test_what_waits_for_reset_is_not_said_of_the_picture(explorer, tmp_path):
    explorer.settings = {"content": "chelsea", "steps": 2}
    explorer.start()
    explorer.join(PATIENCE)
    before = explorer.settings
    explorer.settings = {"content": "astronaut", "size": before["size"] + 16, "seed": 1}
    click(explorer, "Save PNG")
    (path,) = (tmp_path / "saved").glob("chelsea-*.png")
    assert load_settings(path) == {**before, "step": 2}
    click(explorer, "Keep")
    back, _ = explorer.controls.strip.children[0].children[-1].children
    back.click()
    assert explorer.settings == before
    explorer.start()
    explorer.join(PATIENCE)
    assert step(explorer) == 4
    assert not said(explorer).startswith("at relu")


def test_the_film_shows_the_run(explorer, tmp_path):
    click(explorer, "Save film")
    assert "no film yet" in said(explorer)
    click(explorer, "Start")
    wait_for(lambda: len(explorer._frames) > 4)
    click(explorer, "Stop")
    explorer.join(PATIENCE)
    click(explorer, "Save film")
    (path,) = (tmp_path / "saved").glob("*.webp")
    with Image.open(path) as film:
        assert film.n_frames > 4
        assert film.size == explorer.image.shape[:1:-1]


def test_a_long_film_keeps_every_second_frame(explorer):
    image = explorer.image
    for number in range(1, 5 * widgets.FRAMES):
        explorer._paint(image, number)
    assert widgets.FRAMES / 2 <= len(explorer._frames) <= widgets.FRAMES


def test_a_folder_that_cannot_be_written_is_said(explore, tmp_path):
    (tmp_path / "file").write_text("")
    explorer = explore(output=tmp_path / "file" / "below")
    click(explorer, "Save PNG")
    assert said(explorer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"colour": 1}, "unknown settings: colour"),
        ({"alpha": -1.0}, "alpha and beta must be"),
        ({"alpha": 0.0, "beta": 0.0}, "not both 0"),
        ({"alpha": 100.0}, "alpha / beta must be from 1e-05 to 1"),
        ({"style_layer_weights": {"relu9_1": 1.0}}, "style layers are"),
        ({"style_layer_weights": {"relu1_1": 7.0}}, "relu1_1 must be from 0 to 1"),
        ({"content_layer": "relu9_9"}, "content_layer must be one of"),
        ({"start": "middle"}, "start must be one of"),
        ({"size": 5}, "size must be from 32"),
    ],
)
def test_settings_that_make_no_sense_are_refused(explorer, settings, message):
    before = explorer.settings
    with pytest.raises(ValueError, match=message):
        explorer.settings = settings
    assert explorer.settings == before


# --- cells, pages, front ends --------------------------------------------------------------------


class Shell:
    """What IPython's kernel says of the cell that runs."""

    def __init__(self, cell, count):
        self.cell, self.execution_count = cell, count

    def get_parent(self):
        return {"metadata": {"cellId": self.cell}} if self.cell else {}


def test_a_cell_that_is_run_again_ends_its_old_explorer(explore, monkeypatch):
    def run_cell(cell, count):
        monkeypatch.setattr(widgets, "get_ipython", lambda: Shell(cell, count))
        explorer = explore()
        explorer.start()
        return explorer

    first, other = run_cell("a", 1), run_cell("b", 2)
    second_in_cell = run_cell("b", 2)
    again = run_cell("a", 3)
    wait_for(lambda: first.live.state == "idle")
    assert first.view.comm is None
    for explorer in (other, second_in_cell, again):
        wait_for(lambda explorer=explorer: step(explorer) > 2)
        assert explorer.live.state == "running"


def test_without_cell_ids_all_go_on(explore, monkeypatch):
    monkeypatch.setattr(widgets, "get_ipython", lambda: Shell(None, 1))
    one, two = explore(), explore()
    for explorer in (one, two):
        explorer.start()
        wait_for(lambda explorer=explorer: step(explorer) > 2)


def test_nothing_of_a_closed_explorer_stays(explore):
    before = dict(registry._instances)
    explorer = explore()
    for _ in range(3):
        click(explorer, "Keep")
    explorer.controls.strip.children[1].children[-1].children[1].click()
    explorer.start()
    wait_for(lambda: step(explorer) > 2)
    explorer.close()
    explorer.join(PATIENCE)
    left = [w for key, w in registry._instances.items() if key not in before]
    # Texts and numbers share styles that ipywidgets makes once and for all.
    assert left == []


def test_keeping_and_removing_leaves_nothing(explorer):
    click(explorer, "Keep")
    explorer.controls.strip.children[0].children[-1].children[1].click()
    count = len(registry._instances)
    for _ in range(3):
        click(explorer, "Keep")
        explorer.controls.strip.children[0].children[-1].children[1].click()
    assert len(registry._instances) == count


def test_in_colab_it_waits_and_says_so(explore, monkeypatch):
    managers = []
    colab = types.ModuleType("google.colab")
    colab.output = types.ModuleType("google.colab.output")
    colab.output.enable_custom_widget_manager = lambda: managers.append(True)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google.colab.output", colab.output)
    explorer = explore(steps=5)
    assert managers == [True]
    assert "Colab shows nothing that comes from a thread" in said(explorer)
    threads = threading.active_count()
    click(explorer, "Start")
    assert threading.active_count() == threads
    assert (step(explorer), explorer.live.state) == (5, "idle")
    click(explorer, "Step")
    assert step(explorer) == 6


def test_a_served_page_knows_no_paths_and_writes_no_files(explore, tmp_path):
    explorer = explore(served=True, steps=3)
    assert explorer.controls.paths == {}
    assert not any(isinstance(w, ipywidgets.Text) for w in descendants(explorer.view))
    assert "vgg19" not in [value for _, value in explorer.controls.network.options]
    explorer.start()
    explorer.join(PATIENCE)
    click(explorer, "Save PNG")
    assert said(explorer) == "download"
    assert str(explorer.output) not in explorer.controls.message.value
    assert not (tmp_path / "saved").exists()


def descendants(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from descendants(child)


def test_every_control_says_what_it_does(explorer):
    controls = [
        w
        for w in descendants(explorer.view)
        if not isinstance(w, ipywidgets.Box | ipywidgets.HTML | ipywidgets.Image)
        and not isinstance(w, ipywidgets.IntProgress | ipywidgets.Text)
    ]
    assert len(controls) > 20
    for control in controls:
        assert control.tooltip or getattr(control, "tooltips", ()), control


def test_what_the_tooltips_say_a_position_sees_is_true(net):
    for layer, (_, pixels) in controls.SEEN.items():
        image = torch.full((1, 3, 256, 256), 0.5, requires_grad=True)
        maps = net(image, [layer.replace("relu", "conv")])[layer.replace("relu", "conv")]
        middle = maps.shape[2] // 2
        (slope,) = torch.autograd.grad(maps[0, :, middle, middle].sum(), image)
        rows = slope.abs().sum((0, 1, 3)).nonzero().flatten()
        assert rows[-1] - rows[0] + 1 == pixels


def test_its_text_is_short_and_of_no_machine(explorer, explore):
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == repr(explorer)
    assert repr(explorer) == (
        "StyleTransferExplorer('chelsea', 'night_sky', size=48, alpha/beta=0.01)"
    )


@pytest.mark.parametrize(
    "curve", [[], [(1, 0.0, 0.0)], [(1, 3.0, 1e-9)], [(i, 10.0 / i, i) for i in range(1, 2000)]]
)
def test_the_curves_are_svg(curve):
    root = ElementTree.fromstring(controls.curves_svg(curve, 2000))
    lines = [e for e in root.iter() if e.tag == "polyline"]
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    assert len(lines) == 2 * (len(curve) > 1 or bool(curve and curve[0][1]))
    assert len(controls.curves_svg(curve, 2000)) < 20_000
