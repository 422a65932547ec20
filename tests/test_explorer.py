"""The explorer without a browser: its controls are set as a front end sets them."""

import io
import math
import re
import sys
import threading
import time
import types
from dataclasses import replace

import pytest
import torch
from ipywidgets.widgets import widget as registry
from PIL import Image

from helpers import file_of, make_picture, wait_for
from nst_helpers import (
    StyleTransferLoss,
    load_alpha,
    load_image,
    load_settings,
    match_colors,
    noise_like,
    restore_colors,
    save_image,
)
from nst_helpers.engine import memory
from nst_helpers.explorer import background, frontend, networks
from nst_helpers.explorer import explorer as explorer_module

PATIENCE = 20  # seconds, on a busy machine


@pytest.fixture
def explorer(explore):
    return explore()


@pytest.fixture
def running(explorer):
    """An explorer that has taken some steps, and goes on."""
    click(explorer, "Start")
    wait_for_step(explorer, 4)
    return explorer


def click(explorer, name):
    explorer.controls.canvas.buttons[name].click()


def step(explorer):
    """The number that is shown."""
    return int(re.search(r"step <b>(\d+)</b>", explorer.controls.canvas.status.value)[1])


def wait_for_step(explorer, number):
    wait_for(lambda: step(explorer) >= number)


def message(explorer):
    return re.sub("<[^>]+>", "", explorer.controls.canvas.message.value)


def picture(explorer):
    return explorer.controls.canvas.picture.value


def losses(explorer):
    """Content and style loss of the last step."""
    point = explorer.recording.curve[-1]
    return point.content, point.style


def upload(explorer, role, name, data):
    file = {"name": name, "type": "image/png", "size": len(data), "last_modified": 0}
    # As it comes from the browser, which the widget turns into what Python sees.
    widget = explorer.controls.choices[role].upload
    widget.set_state({"value": [{**file, "content": memoryview(data)}]})


def before_update(explorer, action):
    """Let ``action`` see the loss before its weights are set for the next step."""
    update_weights = explorer.run.update_weights

    def update(loss):
        action(loss)
        update_weights(loss)

    explorer.run.update_weights = update
    return update_weights


def steps_of(explorer):
    return [entry["step"] for entry in explorer.run.result.history]


# --- the buttons ---------------------------------------------------------------------------------


def test_start_is_shown_before_anything_runs(explorer):
    noise = noise_like(load_image("chelsea", 64), 0)
    assert (load_image(picture(explorer)) - noise).abs().mean() < 0.03  # it comes as JPEG
    assert explorer.run.state == "idle"
    assert step(explorer) == 0


def test_start_paints_and_rests_after_the_steps(explore):
    explorer = explore(steps=30)
    before = picture(explorer)
    click(explorer, "Start")
    assert explorer.join(PATIENCE)
    assert step(explorer) == 30
    assert picture(explorer) != before
    assert (load_image(picture(explorer)) - explorer.image).abs().mean() < 0.03
    history = explorer.run.result.history
    assert history[-1]["total"] < 0.5 * history[0]["total"]
    assert message(explorer) == ""
    click(explorer, "Start")
    explorer.join(PATIENCE)
    assert step(explorer) == 60, "Start adds as many again"


def test_status_moves_while_the_kernel_is_free(running):
    early = step(running)
    wait_for_step(running, early + 1)
    assert "steps per second" in running.controls.canvas.status.value
    assert "s left" in running.controls.canvas.status.value


def test_pictures_come_at_most_every_tenth_of_a_second(running):
    shown, started_at = [], time.monotonic()
    running.controls.canvas.picture.observe(shown.append, "value")
    time.sleep(0.5)
    seconds = time.monotonic() - started_at
    assert 0 < len(shown) <= seconds / explorer_module.REDRAW_SECONDS + 1


def test_pause_resume_step_stop_reset(running):
    explorer = running
    click(explorer, "Pause")
    wait_for(lambda: "paused" in explorer.controls.canvas.status.value)
    assert explorer.controls.canvas.buttons["Pause"].description == "Resume"
    paused = step(explorer), picture(explorer)
    time.sleep(0.2)
    assert (step(explorer), picture(explorer)) == paused
    click(explorer, "Step")
    wait_for(lambda: step(explorer) == paused[0] + 1)
    click(explorer, "Pause")  # which now says Resume
    wait_for_step(explorer, paused[0] + 4)
    click(explorer, "Stop")
    explorer.join(PATIENCE)
    assert explorer.run.state == "idle"
    at = step(explorer)
    click(explorer, "Start")
    wait_for_step(explorer, at + 1)
    click(explorer, "Reset")
    assert step(explorer) == 0
    assert explorer.run.result.history == []


def test_buttons_follow_the_state(explorer):
    def enabled():
        buttons = explorer.controls.canvas.buttons
        return {name for name, button in buttons.items() if not button.disabled}

    always = {"Reset", "Keep", "Save PNG", "Save film"}
    assert enabled() == {"Start", "Step", *always}
    explorer.start()
    assert enabled() == {"Pause", "Stop", *always}
    explorer.pause()
    assert enabled() == {"Start", "Pause", "Step", "Stop", *always}
    explorer.stop()
    assert enabled() == {"Start", "Step", *always}


def test_second_start_is_answered_and_harmless(explorer):
    click(explorer, "Start")
    click(explorer, "Start")
    assert "running already" in message(explorer)
    assert sum(t.name == "nst run" for t in threading.enumerate()) == 1


# --- sliders -------------------------------------------------------------------------------------


def test_sliders_reach_the_loss_while_it_runs(explorer):
    weights, updates = explorer.controls.weights, []
    before_update(
        explorer,
        lambda loss: updates.append((loss.alpha, loss.beta, dict(loss.style_layer_weights))),
    )
    click(explorer, "Start")
    wait_for(lambda: len(updates) > 3)
    weights.ratio.value = 0.5
    wait_for(lambda: updates[-1][:2] == (pytest.approx(0.5), 1.0))
    weights.layers["relu1_1"].value = 0
    wait_for(lambda: updates[-1][2]["relu1_1"] == 0)
    assert updates[-1][2]["relu2_1"] == pytest.approx(0.2)
    weights.presets.value = math.inf
    wait_for(lambda: updates[-1][:2] == (1.0, 0.0))
    weights.presets.value = 0.0
    wait_for(lambda: updates[-1][:2] == (0.0, 1.0))
    click(explorer, "Stop")
    explorer.join(PATIENCE)
    assert steps_of(explorer) == list(range(1, step(explorer) + 1)), "nothing began again"


def test_more_content_lowers_the_content_loss(explorer):
    explorer.controls.weights.presets.value = 1e-4
    click(explorer, "Start")
    wait_for_step(explorer, 61)
    click(explorer, "Pause")
    before, at = losses(explorer), step(explorer)
    explorer.controls.weights.presets.value = math.inf
    click(explorer, "Pause")
    wait_for_step(explorer, at + 61)
    click(explorer, "Pause")
    after = losses(explorer)
    assert after[0] < 0.5 * before[0]
    assert after[1] > before[1]


def test_all_weights_at_zero_leave_the_image_alone(running):
    running.controls.weights.presets.value = 0.0
    for slider in running.controls.weights.layers.values():
        slider.value = 0
    wait_for(lambda: losses(running)[1] == 0)
    image, at = running.image, step(running)
    wait_for_step(running, at + 6)
    assert torch.equal(running.image, image)
    running.controls.weights.equal.click()
    wait_for_step(running, step(running) + 4)
    assert torch.isfinite(running.image).all()


@pytest.mark.parametrize(
    "setting",
    [
        {"style": "bojagi"},
        {"second_style": "wave"},
        {"content_layer": "relu2_2"},
        {"colors": "match"},
        {"style_scale": 2},
    ],
)
def test_what_makes_the_loss_changes_on_the_running_picture(running, setting):
    running.settings = setting
    wait_for_step(running, step(running) + 21)
    click(running, "Stop")
    running.join(PATIENCE)
    assert not message(running)
    assert steps_of(running) == list(range(1, step(running) + 1))


@pytest.mark.parametrize(
    ("setting", "value"), [("content", "coffee"), ("size", 80), ("seed", 3), ("start", "content")]
)
def test_other_settings_wait_for_a_reset(running, setting, value):
    shape = running.image.shape
    running.settings = {setting: value}
    assert "Reset begins" in message(running)
    assert running.image.shape == shape
    click(running, "Reset")
    settings = running.settings
    expected = load_image(settings["content"], settings["size"])
    if setting != "start":
        expected = noise_like(expected, settings["seed"])
    assert torch.equal(running.image, expected)


def test_before_the_first_step_all_settings_apply_at_once(explorer):
    fields = explorer.controls.fields
    fields["size"].value = 80
    assert min(explorer.image.shape[2:]) == 80
    fields["start"].value = "content"
    assert torch.equal(explorer.image, load_image("chelsea", 80))
    fields["start"].value = "style"
    assert explorer.image.shape == load_image("chelsea", 80).shape
    fields["start"].value = "content"
    fields["content"].value = "coffee"
    assert torch.equal(explorer.image, load_image("coffee", 80))
    assert not message(explorer)


def test_fewer_steps_while_it_runs(explore):
    explorer = explore(steps=10_000)
    click(explorer, "Start")
    wait_for_step(explorer, 4)
    explorer.controls.fields["steps"].value = 10
    explorer.join(PATIENCE)
    assert step(explorer) % 10 == 0 or step(explorer) < 10_000
    assert explorer.run.state == "idle"


# --- two styles, colours, strokes ----------------------------------------------------------------


def targets(loss):
    return {layer: loss.styles.target(layer) for layer in loss.style_layers}


def test_blend_slider_reaches_the_loss_while_it_runs(explorer, net):
    content = load_image("chelsea", 64)
    each = [
        targets(StyleTransferLoss(net, content, load_image(s, 64))) for s in ("night_sky", "wave")
    ]
    explorer.settings = {"second_style": "wave"}
    made, blended = [], []
    before_update(explorer, lambda loss: (made.append(loss), blended.append(targets(loss))))
    click(explorer, "Start")
    for share in (0.5, 0, 0.25, 1):
        explorer.controls.fields["blend"].set_state({"value": share})
        expected = {layer: (1 - share) * a + share * each[1][layer] for layer, a in each[0].items()}
        at = len(blended)
        wait_for(lambda at=at: len(blended) > at + 2)
        for layer, gram in blended[-1].items():
            torch.testing.assert_close(gram, expected[layer])
    click(explorer, "Stop")
    explorer.join(PATIENCE)
    assert steps_of(explorer) == list(range(1, step(explorer) + 1)), "nothing began again"
    assert len({id(loss) for loss in made}) == 1, "one loss, all the time"


def test_all_of_one_style_paints_as_that_style_alone(explore):
    images = []
    settings = [{}, {"second_style": "wave", "blend": 0}, {"style": "wave"}]
    settings.append({"second_style": "wave", "blend": 1})
    for each in settings:
        explorer = explore(steps=12)
        explorer.settings = each
        explorer.start()
        explorer.join(PATIENCE)
        images.append(explorer.image)
    for alone, blended in (images[:2], images[2:]):
        torch.testing.assert_close(blended, alone, rtol=0, atol=1e-3)
    assert (images[0] - images[2]).abs().mean() > 0.01


@pytest.mark.parametrize("colors", ["style", "keep", "match", "luminance"])
def test_colors_are_those_of_the_choice_in_preview_and_file(explore, tmp_path, colors):
    content, style = load_image("chelsea", 64), load_image("night_sky", 64)
    explorer = explore(steps=12)
    explorer.settings = {"colors": colors}
    explorer.start()
    explorer.join(PATIENCE)
    raw = explorer.run.result.image
    expected = restore_colors(raw, content) if colors in ("keep", "luminance") else raw
    assert torch.equal(explorer.image, expected)
    assert (load_image(picture(explorer)) - expected).abs().mean() < 0.03  # it comes as JPEG
    loss = explorer.run.make_loss()
    (seen,) = loss.styles.images
    if colors == "luminance":
        assert seen.std(1).max() < 1e-6, "no colour"
    else:
        assert torch.equal(seen, match_colors(style, content) if colors == "match" else style)
    click(explorer, "Save PNG")
    (path,) = (tmp_path / "saved").iterdir()
    assert load_settings(path)["colors"] == colors
    torch.testing.assert_close(load_image(path), expected, rtol=0, atol=0.5 / 255 + 1e-6)


def test_colors_put_back_are_seen_at_once_and_change_nothing(explore):
    explorer = explore(steps=6)
    explorer.start()
    explorer.join(PATIENCE)
    raw, before = explorer.image, picture(explorer)
    loss = explorer.run.make_loss()
    explorer.controls.fields["colors"].value = "keep"
    assert picture(explorer) != before
    assert torch.equal(explorer.image, restore_colors(raw, load_image("chelsea", 64)))
    assert explorer.run.make_loss() is loss
    explorer.controls.fields["colors"].value = "style"
    assert picture(explorer) == before
    assert torch.equal(explorer.image, raw)


def test_strokes_are_the_size_of_the_styles_picture(explorer):
    for scale in (0.5, 1, 2):
        explorer.controls.fields["style_scale"].set_state({"value": scale})
        (seen,) = explorer.run.make_loss().styles.images
        assert torch.equal(seen, load_image("night_sky", round(64 * scale)))
    assert not message(explorer)


# --- cut-outs ------------------------------------------------------------------------------------


@pytest.fixture
def cut_out():
    """A file whose left half is transparent."""
    alpha = torch.cat([torch.zeros(1, 1, 64, 32), torch.ones(1, 1, 64, 32)], 3)
    file = io.BytesIO()
    pixels = torch.cat([make_picture(64, 64, seed=3), alpha], 1)[0].mul(255).byte()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("roles", [["content"], ["style"], ["second_style"], ["content", "style"]])
def test_transparent_pixels_are_no_part_of_the_gram_matrices(explorer, cut_out, roles, net):
    explorer.settings = {"second_style": "wave", "style": "pebbles"}
    for role in roles:
        upload(explorer, role, f"{role}.png", cut_out)
    assert not message(explorer)
    loss = explorer.run.make_loss()
    names = [explorer.settings[role] for role in ("content", "style", "second_style")]
    content, *styles = (explorer.controls.pictures.load(name, 64) for name in names)
    alpha = load_alpha(cut_out, 64)
    each = dict(zip(("style", "second_style"), styles, strict=True))
    masks = [alpha if r in roles else torch.ones_like(s[:, :1]) for r, s in each.items()]
    expected = StyleTransferLoss(
        net,
        content,
        styles,
        content_mask=alpha if "content" in roles else torch.ones_like(content[:, :1]),
        style_mask=masks,
    )
    for layer, gram in targets(expected).items():
        torch.testing.assert_close(targets(loss)[layer], gram)
        torch.testing.assert_close(loss.styles.masks[layer], expected.styles.masks[layer])


def test_cut_out_is_painted_shown_and_saved_cut_out(explore, cut_out, tmp_path):
    explorer = explore(steps=4)
    upload(explorer, "content", "cut.png", cut_out)
    explorer.start()
    explorer.join(PATIENCE)
    assert not message(explorer)
    left = load_image(picture(explorer))[..., :28]
    assert left.min() > 0.9, "white, where nothing will be saved"
    click(explorer, "Save PNG")
    (path,) = (tmp_path / "saved").iterdir()
    torch.testing.assert_close(load_alpha(path), load_alpha(cut_out, 64), rtol=0, atol=1 / 255)


def test_opaque_pictures_need_no_masks(explorer):
    assert explorer.run.make_loss().styles.masks == {}


# --- pictures of one's own -----------------------------------------------------------------------


def test_upload_becomes_the_content(explorer):
    data = file_of(make_picture(90, 120, seed=5))
    upload(explorer, "content", "holiday.png", data)
    assert explorer.settings["content"] == "holiday.png (yours)"
    assert not message(explorer)
    explorer.controls.fields["start"].value = "content"
    assert explorer.image.shape == (1, 3, 64, 85)
    torch.testing.assert_close(explorer.image, load_image(data, 64))


def test_upload_becomes_the_style_of_the_running_picture(running):
    upload(running, "style", "paint.jpg", file_of(make_picture(60, 80), "JPEG"))
    wait_for_step(running, step(running) + 11)
    assert running.settings["style"] == "paint.jpg (yours)"
    assert not message(running)


def test_begins_with_files_and_images(explore, tmp_path):
    path = save_image(make_picture(60, 80), tmp_path / "mine.png")
    explorer = explore(path, make_picture(50, 50))
    assert explorer.settings["content"] == str(path)
    explorer.settings = {"steps": 4}
    explorer.start()
    explorer.join(PATIENCE)
    assert step(explorer) == 4
    assert not message(explorer)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"content": "no such"}, FileNotFoundError, "there is no picture 'no such'"),
        ({"style": torch.zeros(3, 8, 8)}, ValueError, r"style must be an image \(1, 3, H, W\)"),
        ({"style": torch.full((1, 3, 40, 40), math.nan)}, ValueError, "not finite"),
        ({"net": "no such"}, FileNotFoundError, "there is no network"),
        ({"size": 7}, ValueError, "size must be a whole number from 32 to 2048; got 7"),
        ({"steps": 0}, ValueError, "steps must be a whole number from 1"),
        ({"size": "large"}, ValueError, "size must be"),
    ],
)
def test_wrong_arguments_raise_at_once(explore, options, error, text):
    with pytest.raises(error, match=text):
        explore(**options)


# --- networks ------------------------------------------------------------------------------------


def test_networks_are_offered_by_name(net, tmp_path):
    offered = networks.Networks(net)
    assert list(offered.options.values()) == ["bundled", "vgg19", "random", "yours: small network"]
    assert offered.load(offered.first) is net
    assert networks.Networks("auto").first in ("bundled", "vgg19")
    assert networks.Networks("bundled").load("bundled").source == "bundled"
    weights = {f"{name}.{kind}": t for name, kind, t in parameters(net)}
    torch.save(weights, tmp_path / "mine.pth")
    by_path = networks.Networks(tmp_path / "mine.pth")
    assert by_path.first == "mine.pth", "no path of this machine in the settings"


def parameters(net):
    for name, convolution in net.convolutions.items():
        yield name, "weight", convolution.weight
        yield name, "bias", convolution.bias


def test_network_is_loaded_when_first_needed_and_then_kept(net, monkeypatch):
    calls, told = [], []
    monkeypatch.setattr(networks, "load_network", lambda name: calls.append(name) or net)
    offered = networks.Networks(net)
    assert offered.load("random", told.append) is net
    assert offered.load("random", told.append) is net
    assert (calls, told) == (["random"], ["loading the network random ...", ""])


def test_network_that_cannot_be_loaded_is_reported(explorer, monkeypatch):
    def fail(source):
        raise ConnectionError("there is no internet. load_network('bundled') works offline.")

    monkeypatch.setattr(networks, "load_network", fail)
    field = explorer.controls.fields["network"]
    field.value = "random"
    click(explorer, "Start")
    explorer.join(PATIENCE)
    assert "there is no internet" in message(explorer)
    field.value = field.options[-1][1]
    click(explorer, "Start")
    wait_for_step(explorer, 4)


# --- when things go wrong ------------------------------------------------------------------------


def test_too_large_a_picture_is_reported_with_a_size_that_fits(explorer, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 10**6)
    click(explorer, "Start")
    explorer.join(PATIENCE)
    assert re.search(r"Not enough memory.*about \d+ x \d+ would fit", message(explorer))
    monkeypatch.undo()
    click(explorer, "Start")
    wait_for_step(explorer, 4)


def test_out_of_memory_midway_is_reported_with_a_size_to_try(explorer):
    def fail(loss):
        if explorer.recording.curve:
            raise torch.OutOfMemoryError("no more")

    before_update(explorer, fail)
    click(explorer, "Start")
    explorer.join(PATIENCE)
    assert "Try size 32, and Reset" in message(explorer)
    assert explorer.run.state == "idle"


@pytest.mark.filterwarnings("ignore:.*not finite")
def test_non_finite_loss_returns_to_the_last_good_image(explorer):
    def spoil(loss):
        if explorer.recording.steps_done == 5:
            loss.get_buffer("content_relu4_2").fill_(math.nan)

    update_weights = before_update(explorer, spoil)
    click(explorer, "Start")
    explorer.join(PATIENCE)
    assert "not finite" in message(explorer)
    assert "last good image" in message(explorer)
    assert torch.isfinite(explorer.image).all()
    explorer.run.update_weights = update_weights
    at = step(explorer)
    click(explorer, "Start")
    wait_for_step(explorer, at + 4)
    assert not message(explorer)


@pytest.mark.parametrize(
    ("stopped", "problem", "text"),
    [
        ("converged", "", "No step makes the loss any lower. Turn a slider, and Start."),
        ("no progress", "no step helped", "no step helped. Turn something, and Start."),
        ("callback", "", ""),
        ("steps", "", ""),
    ],
)
def test_why_a_run_ended_is_reported(explorer, monkeypatch, stopped, problem, text):
    def optimize(loss, start, **options):
        return replace(start, stopped=stopped, problem=problem)

    monkeypatch.setattr(background, "optimize", optimize)
    click(explorer, "Start")
    explorer.join(PATIENCE)
    assert message(explorer) == text


def test_image_that_does_not_come_is_reported(explorer, monkeypatch):
    monkeypatch.setattr(explorer.run, "so_far", lambda: None)
    for name in ("Keep", "Save PNG"):
        click(explorer, name)
        assert "has not ended yet" in message(explorer)
    with pytest.raises(TimeoutError, match="has not ended yet"):
        _ = explorer.image
    assert explorer.controls.strip.kept == []


def test_unexpected_error_is_shown_with_its_kind(explorer, monkeypatch):
    monkeypatch.setattr(explorer.controls.pictures, "load", lambda name, size: 1 / 0)
    click(explorer, "Reset")
    assert message(explorer).startswith("ZeroDivisionError: ")


# --- keeping and saving --------------------------------------------------------------------------


def test_kept_picture_comes_back_with_its_settings(explorer):
    click(explorer, "Start")
    wait_for_step(explorer, 6)
    click(explorer, "Pause")
    click(explorer, "Keep")
    (kept,) = explorer.controls.strip.kept
    image, at = kept.result.image.clone(), len(kept.result.history)
    explorer.controls.weights.presets.value = 1e-1
    explorer.settings = {"style": "bojagi", "content": "coffee", "size": 80}
    explorer.settings = {"second_style": "wave", "colors": "luminance", "style_scale": 2}
    click(explorer, "Reset")
    click(explorer, "Start")
    wait_for_step(explorer, 4)
    assert torch.equal(kept.result.image, image)
    back, _ = kept.buttons
    back.click()
    assert explorer.settings == kept.settings
    assert torch.equal(explorer.image, image)
    assert step(explorer) == at
    click(explorer, "Start")
    wait_for_step(explorer, at + 4)
    assert not message(explorer)


def test_saved_picture_holds_its_settings(explorer, explore, tmp_path):
    more = {"second_style": "wave", "blend": 0.3, "colors": "keep", "style_scale": 0.5}
    explorer.settings = {"alpha": 0.5, "steps": 6, **more}
    explorer.start()
    explorer.join(PATIENCE)
    click(explorer, "Save PNG")
    (path,) = (tmp_path / "saved").iterdir()
    assert f"saved {path}" in message(explorer)
    assert "download" in message(explorer)
    settings = load_settings(path)
    assert settings == {**explorer.settings, "step": 6}
    torch.testing.assert_close(load_image(path), explorer.image, rtol=0, atol=0.5 / 255 + 1e-6)
    other = explore()
    other.settings = settings
    assert other.settings == explorer.settings
    click(explorer, "Save PNG")
    assert len(list((tmp_path / "saved").iterdir())) == 2, "nothing is overwritten"


def test_settings_that_wait_for_a_reset_are_not_saved_with_the_picture(explorer, tmp_path):
    explorer.settings = {"content": "chelsea", "steps": 2}
    explorer.start()
    explorer.join(PATIENCE)
    before = explorer.settings
    explorer.settings = {"content": "astronaut", "size": before["size"] + 16, "seed": 1}
    click(explorer, "Save PNG")
    (path,) = (tmp_path / "saved").glob("chelsea-*.png")
    assert load_settings(path) == {**before, "step": 2}
    click(explorer, "Keep")
    back, _ = explorer.controls.strip.kept[0].buttons
    back.click()
    assert explorer.settings == before
    explorer.start()
    explorer.join(PATIENCE)
    assert step(explorer) == 4
    assert not message(explorer).startswith("at relu")


def test_film_shows_the_run(explorer, tmp_path):
    click(explorer, "Save film")
    assert "no film yet" in message(explorer)
    click(explorer, "Start")
    wait_for(lambda: len(explorer.recording.frames) > 4)
    click(explorer, "Stop")
    explorer.join(PATIENCE)
    click(explorer, "Save film")
    (path,) = (tmp_path / "saved").glob("*.webp")
    with Image.open(path) as film:
        assert film.n_frames > 4
        assert film.size == explorer.image.shape[:1:-1]


def test_folder_that_cannot_be_written_is_reported(explore, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the picture goes instead
    (tmp_path / "file").write_text("")
    explorer = explore(output=tmp_path / "file" / "below")
    click(explorer, "Save PNG")
    (picture,) = tmp_path.glob("*.png")
    assert picture.name in message(explorer)


# --- cells, pages, front ends --------------------------------------------------------------------


class Shell:
    """What IPython's kernel says of the cell that runs."""

    def __init__(self, cell, count):
        self.cell, self.execution_count = cell, count

    def get_parent(self):
        return {"metadata": {"cellId": self.cell}} if self.cell else {}


def test_cell_that_is_run_again_closes_its_old_explorer(explore, monkeypatch):
    def run_cell(cell, count):
        monkeypatch.setattr(frontend, "get_ipython", lambda: Shell(cell, count))
        explorer = explore()
        explorer.start()
        return explorer

    first, other = run_cell("a", 1), run_cell("b", 2)
    second_in_cell = run_cell("b", 2)
    again = run_cell("a", 3)
    wait_for(lambda: first.run.state == "idle")
    assert first.view.comm is None
    for explorer in (other, second_in_cell, again):
        wait_for_step(explorer, 3)
        assert explorer.run.state == "running"


def test_without_cell_ids_all_explorers_go_on(explore, monkeypatch):
    monkeypatch.setattr(frontend, "get_ipython", lambda: Shell(None, 1))
    one, two = explore(), explore()
    for explorer in (one, two):
        explorer.start()
        wait_for_step(explorer, 3)


def test_closed_explorer_leaves_no_widgets(explore):
    before = dict(registry._instances)
    explorer = explore()
    for _ in range(3):
        click(explorer, "Keep")
    explorer.controls.strip.kept[1].buttons[1].click()
    explorer.start()
    wait_for_step(explorer, 3)
    explorer.close()
    explorer.join(PATIENCE)
    # Texts and numbers share styles that ipywidgets makes once and for all.
    assert [w for key, w in registry._instances.items() if key not in before] == []


def test_keeping_and_removing_leaves_no_widgets(explorer):
    def keep_and_remove():
        click(explorer, "Keep")
        explorer.controls.strip.kept[0].buttons[1].click()

    keep_and_remove()
    count = len(registry._instances)
    for _ in range(3):
        keep_and_remove()
    assert len(registry._instances) == count


def test_in_colab_start_waits_and_the_explorer_says_so(explore, monkeypatch):
    managers = []
    colab = types.ModuleType("google.colab")
    colab.output = types.ModuleType("google.colab.output")
    colab.output.enable_custom_widget_manager = lambda: managers.append(True)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google.colab.output", colab.output)
    explorer = explore(steps=5)
    assert managers == [True]
    assert "Colab shows nothing that comes from a thread" in message(explorer)
    threads = threading.active_count()
    click(explorer, "Start")
    assert threading.active_count() == threads
    assert (step(explorer), explorer.run.state) == (5, "idle")
    click(explorer, "Step")
    assert step(explorer) == 6


def test_served_page_knows_no_paths_and_writes_no_files(explore, tmp_path):
    explorer = explore(served=True, steps=3)
    assert {choice.path for choice in explorer.controls.choices.values()} == {None}
    assert "vgg19" not in [value for _, value in explorer.controls.fields["network"].options]
    explorer.start()
    explorer.join(PATIENCE)
    click(explorer, "Save PNG")
    assert message(explorer) == "download"
    assert str(explorer.output) not in explorer.controls.canvas.message.value
    assert not (tmp_path / "saved").exists()


def test_text_is_short_and_of_no_machine(explorer):
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == repr(explorer)
    assert repr(explorer) == (
        "StyleTransferExplorer('chelsea', 'night_sky', size=64, alpha/beta=0.01)"
    )
