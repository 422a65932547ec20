"""The explorer in a real browser: JupyterLab, and the page that Voila makes of it.

Chromium comes from the system, Playwright from the ``browser`` extra; without them these tests are
skipped. A picture of a test that failed lies in output/browser/.
"""

import json
import shutil
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from helpers import wait_for as wait_until
from nst_helpers import load_settings
from nst_helpers.explorer.layout import MORE
from scripts.browser import FLAGS, LAB, ROOT, VOILA, Notebook, find_chromium, serve

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = find_chromium()
if CHROMIUM is None:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)

PATIENCE = 90_000  # milliseconds, on a busy machine
EXPLORER = (
    "import nst_helpers as nst\nexplorer = nst.StyleTransferExplorer(size=96, steps=5000)\nexplorer"
)
PIXELS = """img => {
    const c = document.createElement('canvas');
    c.width = img.naturalWidth; c.height = img.naturalHeight;
    c.getContext('2d').drawImage(img, 0, 0);
    return c.toDataURL();
}"""
FOCUSED = """() => {
    const e = document.activeElement;
    const slider = [...document.querySelectorAll('.noUi-handle')].indexOf(e);
    const name = e.closest('.nst-field')?.querySelector('label') ?? e;
    return slider >= 0 ? `slider ${slider}` : name.textContent.trim();
}"""
SELECTED = "s => s.selectedOptions[0].textContent.replaceAll('\\u00a0', ' ')"
STEP = "e => parseInt(e.querySelector('.nst-status b').textContent)"


def server(arguments, folder):
    environment = {"NST_BUDGET": "quick", "NST_OUTPUT": str(folder / "output")}
    return serve(arguments, folder, environment, quiet=False)


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    with server(LAB, folder) as address:
        yield address, folder


@pytest.fixture
def lab(lab_server):
    yield lab_server
    sessions = f"{lab_server[0]}/api/sessions"  # kernels outlive the pages that started them
    with urllib.request.urlopen(sessions) as answer:
        for session in json.load(answer):
            end = urllib.request.Request(f"{sessions}/{session['id']}", method="DELETE")
            urllib.request.urlopen(end).close()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def is_ours(message):
    """Whether a line of the console is an error that widgets made: servers have errors, too."""
    return message.type == "error" and "widget" in message.text.lower()


@pytest.fixture
def page(chromium, request):
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if is_ours(line) else None)
    failed = request.session.testsfailed
    yield page
    if request.session.testsfailed > failed:
        (ROOT / "output" / "browser").mkdir(parents=True, exist_ok=True)
        page.screenshot(path=ROOT / "output" / "browser" / f"{request.node.name}.png")
    page.close()
    assert errors == []


def outputs(page):
    """Execution count and outputs of each code cell, whether it is in sight or not."""
    return page.evaluate(
        "() => jupyterapp.shell.currentWidget.content.widgets"
        ".filter(c => c.model.type == 'code')"
        ".map(c => [c.model.executionCount, c.model.outputs.toJSON()])"
    )


def losses(notebook):
    """Content and style loss of the last step."""
    _, content, style, _ = notebook.value("explorer.recording.curve[-1]")
    return content, style


@pytest.fixture
def notebook(page, lab):
    address, folder = lab
    Notebook.write(folder / "test.ipynb", [EXPLORER])
    opened = Notebook(page, address, "test.ipynb")
    opened.command("notebook:run-all-cells")
    page.wait_for_selector(".nst-explorer")
    return opened


def button(page, name):
    return page.locator(f".nst-explorer button.jupyter-button:text-is('{name}')").last


def picture(page):
    return page.locator(".nst-picture img").last.evaluate(PIXELS)


def step(page):
    return page.locator(".nst-explorer").last.evaluate(STEP)


def wait_for(condition):
    wait_until(condition, PATIENCE / 1000, pause=0.1)


def wait_for_steps(page, count=5):
    at = step(page)
    wait_for(lambda: step(page) >= at + count)


def start(page):
    button(page, "Start").click()
    wait_for_steps(page)


def test_picture_paints_itself_and_follows_the_ratio(notebook, page):
    before = picture(page)
    start(page)
    assert picture(page) != before
    button(page, "texture only").click()
    wait_for_steps(page, 60)
    styled, texture = picture(page), losses(notebook)  # another cell answers, while it runs
    handle = page.locator(".nst-ratio .noUi-handle")
    handle.focus()
    page.keyboard.press("End")
    page.wait_for_selector(".nst-knobs >> text=/= 1$/")
    wait_for_steps(page, 60)
    assert picture(page) != styled
    close = losses(notebook)
    assert close[0] < 0.7 * texture[0], "more content: its loss falls"
    assert close[1] > texture[1]
    for _ in range(8):  # a little to the left
        page.keyboard.press("ArrowLeft")
    wait_for(lambda: notebook.value("explorer.settings['alpha']") < 0.5)
    button(page, "texture only").click()
    wait_for_steps(page, 60)
    assert losses(notebook)[1] < close[1], "more style: its loss falls"


def test_slider_of_a_layer_changes_its_weight(notebook, page):
    start(page)
    page.locator(".nst-layers .noUi-handle").first.focus()
    page.keyboard.press("Home")
    wait_for(lambda: notebook.value("explorer.settings['style_layer_weights']['relu1_1']") == 0)
    before = picture(page)
    wait_for_steps(page, 10)
    assert picture(page) != before


def test_pause_resume_step_stop(notebook, page):
    start(page)
    button(page, "Pause").click()
    page.wait_for_selector(".nst-status >> text=paused")
    held, at = picture(page), step(page)
    page.wait_for_timeout(1000)
    assert (picture(page), step(page)) == (held, at)
    button(page, "Step").click()
    wait_for(lambda: step(page) == at + 1)
    button(page, "Resume").click()
    wait_for_steps(page)
    button(page, "Stop").click()
    wait_for(lambda: button(page, "Stop").is_disabled())
    stopped, at = picture(page), step(page)
    page.wait_for_timeout(500)
    assert (picture(page), step(page)) == (stopped, at)
    start(page)
    assert step(page) > at
    button(page, "Reset").click()
    wait_for(lambda: step(page) == 0)


def upload(page, path, role=0):
    with page.expect_file_chooser() as chooser:
        page.locator(".nst-choice .widget-upload").nth(role).click()
    chooser.value.set_files(path)


def test_uploads_become_content_or_are_refused_with_a_reason(notebook, page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), dtype=np.uint8)
    files = {"photo.png": noise[:60, :90], "large.png": noise, "tiny.png": noise[:8, :8]}
    for name, values in files.items():
        Image.fromarray(values).save(tmp_path / name)
    assert (tmp_path / "large.png").stat().st_size > 9e6
    (tmp_path / "notes.jpg").write_text("no picture")
    message = page.locator(".nst-message")
    for name, text in (("large", "the most is 8 MB"), ("tiny", "only 8 x 8"), ("notes", "picture")):
        upload(page, next(tmp_path.glob(f"{name}.*")))
        message.filter(has_text=text).wait_for()
    thumbnail = page.locator(".nst-thumbnail img").first
    before = thumbnail.evaluate(PIXELS)
    upload(page, tmp_path / "photo.png")
    wait_for(lambda: thumbnail.evaluate(PIXELS) != before)
    assert notebook.value("explorer.settings['content']") == "photo.png (yours)"
    start(page)


def test_kept_and_saved_pictures_come_back(notebook, page, lab):
    start(page)
    button(page, "Pause").click()
    page.wait_for_selector(".nst-status >> text=paused")
    at = step(page)
    button(page, "Keep").click()
    kept = page.wait_for_selector(".nst-card img").evaluate(PIXELS)
    button(page, "Resume").click()
    wait_for_steps(page)
    button(page, "Save film").click()
    page.wait_for_selector(".nst-message >> text=.webp")
    (film,) = (lab[1] / "output").glob("*.webp")
    with Image.open(film) as frames:
        assert frames.n_frames > 1
    button(page, "Save PNG").click()
    page.wait_for_selector(".nst-message >> text=.png")
    with page.expect_download() as download:
        page.locator(".nst-message a").click()
    assert load_settings(download.value.path())["content"] == "chelsea"
    button(page, "Back to this").click()
    wait_for(lambda: step(page) == at)
    assert notebook.value("explorer.run.state") == "idle"
    wait_for(lambda: picture(page) == kept)


def test_explorers_survive_second_runs_interrupts_and_restarts(notebook, page):
    running = "sum(t.name == 'nst run' for t in __import__('threading').enumerate())"
    start(page)
    notebook.command("notebook:run-all-cells")
    wait_for(lambda: notebook.value(running) == 0)
    wait_for(lambda: step(page) == 0)
    start(page)
    # Another one in a cell of its own: both go on.
    notebook.command("notebook:insert-cell-below")
    page.evaluate(
        "code => jupyterapp.shell.currentWidget.content.activeCell.model"
        ".sharedModel.setSource(code)",
        EXPLORER.replace("explorer", "other"),
    )
    notebook.command("notebook:run-cell")
    wait_for(lambda: page.locator(".nst-explorer").count() == 2)
    start(page)
    wait_for(lambda: notebook.value(running) == 2)
    notebook.command("notebook:interrupt-kernel")
    wait_for_steps(page)
    button(page, "Stop").click()
    wait_for(lambda: notebook.value(running) == 1)
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    gone = "() => getComputedStyle(document.querySelector('.nst-explorer'), '::after').content"
    wait_for(lambda: "kernel is gone" in page.evaluate(gone))
    notebook.command("notebook:run-all-cells")
    wait_for(
        lambda: page.locator(".nst-explorer").count() == 2 and "gone" not in page.evaluate(gone)
    )
    start(page)


def test_every_control_is_reached_with_the_tab_key(notebook, page):
    button(page, MORE).focus()
    page.keyboard.press("Space")
    page.locator(".nst-folded").wait_for()
    page.locator(".nst-explorer button").first.focus()
    reached = set()
    for _ in range(60):
        reached.add(page.evaluate(FOCUSED))
        page.keyboard.press("Tab")
    sliders = {f"slider {i}" for i in range(8)}  # the ratio, five layers, blend and strokes
    assert {"Start", "Keep", "Save film", "texture only", "content only", "1/5 each"} <= reached
    assert sliders | {"content", "style", "size", "network"} <= reached
    assert {MORE, "second style", "colours"} <= reached
    button(page, "Start").focus()
    page.keyboard.press("Enter")
    wait_for_steps(page)
    button(page, "Pause").focus()
    page.keyboard.press("Space")
    page.wait_for_selector(".nst-status >> text=paused")


SEE_LOSS = """
seen, update = [], explorer.run.update_weights
def see(loss):
    update(loss)
    seen[:] = [loss]
explorer.run.update_weights = see"""


def test_second_style_is_blended_in_by_the_keyboard(notebook, page):
    assert page.locator(".nst-folded").is_hidden()
    notebook.execute(SEE_LOSS)
    start(page)
    button(page, MORE).focus()
    page.keyboard.press("Enter")
    page.locator(".nst-folded").wait_for()
    page.locator(".nst-folded select").first.focus()
    page.keyboard.type("wave")
    blended = "[*seen[0].style_weights['relu1_1']]"
    wait_for(lambda: notebook.value(blended) == [0.5, 0.5])
    page.locator(".nst-folded img").wait_for()
    page.locator(".nst-sliders .noUi-handle").first.focus()
    page.keyboard.press("End")
    wait_for(lambda: notebook.value("explorer.settings['blend']") == 1)
    wait_for(lambda: notebook.value(blended) == [0, 1])
    page.locator(".nst-sliders .noUi-handle").last.focus()
    page.keyboard.press("End")
    wait_for(lambda: notebook.value("explorer.settings['style_scale']") == 2)
    wait_for_steps(page)
    button(page, MORE).click()
    page.locator(".nst-folded").wait_for(state="hidden")
    assert page.locator(".nst-message").inner_text().strip() == ""


def test_notebook_05_runs_whole(page, lab):
    shutil.copy(ROOT / "notebooks" / "05_sliders.ipynb", lab[1])
    Notebook(page, lab[0], "05_sliders.ipynb")
    page.evaluate(
        "() => { jupyterapp.commands.execute('notebook:run-all-cells')"
        ".then(() => { window.finished = true; }); }"
    )
    page.wait_for_function("() => window.finished", timeout=3 * PATIENCE)
    cells = outputs(page)
    assert [count for count, _ in cells] == list(range(1, len(cells) + 1))
    assert not [o for _, cell in cells for o in cell if o["output_type"] == "error"]
    views = "application/vnd.jupyter.widget-view+json"
    assert any(views in o.get("data", {}) for _, cell in cells for o in cell)


HOSTILE = [
    "<img src=x onerror=window.hacked=1>",
    "'\"><svg onload=window.hacked=1>",
    "$\\href{javascript:window.hacked=1}{x}$",
    "<b>{0}&lt;i&gt;",
]


def assert_text(page, texts):
    """Whatever the texts are made of is seen, and nothing of them has become an element."""
    page.wait_for_timeout(300)  # for what a browser fetches in vain
    assert page.evaluate("() => window.hacked") is None
    strange = "img, svg:not(.nst-plot), i, script, mjx-container"
    assert page.locator(f".nst-explorer .widget-html-content :is({strange})").count() == 0
    shown = page.locator(".nst-explorer").last.evaluate(
        "e => e.textContent.replaceAll('\\u00a0', ' ')"
    )
    assert [text for text in texts if text not in shown] == []


def test_names_of_uploads_run_no_script_on_the_page(page, tmp_path):
    with server(VOILA, tmp_path) as address:
        page.goto(address)
        page.wait_for_selector(".nst-explorer")
        button(page, MORE).click()
        page.locator(".nst-folded").wait_for()
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        for name in HOSTILE:
            for role, seed in enumerate((1, 2, 3)):
                noise = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
                file = tmp_path / f"{name}{seed}.png"
                Image.fromarray(noise).save(file)
                upload(page, file, role)
                label = f"{file.name} (yours)"
                selected = page.locator(".nst-choice select").nth(role)
                wait_for(lambda s=selected, t=label: s.evaluate(SELECTED) == t)
            button(page, "Keep").click()
            page.locator(".nst-card").filter(has_text=f"{name}2").wait_for()
            button(page, "Save PNG").click()
            page.locator(".nst-message a").wait_for()
            (tmp_path / name).write_text("no picture")
            upload(page, tmp_path / name)
            page.locator(".nst-message").filter(has_text=name).wait_for()
            assert_text(page, [name, *(f"{name}{seed}.png (yours)" for seed in (1, 2, 3))])
        start(page)
        assert_text(page, [])


def test_paths_settings_and_networks_run_no_script(notebook, page, lab):
    folder = lab[1]
    for name in HOSTILE:
        page.locator(".nst-choice input[type=text]").first.fill(name)
        page.keyboard.press("Enter")
        page.locator(".nst-message").filter(has_text="there is no picture").wait_for()
        assert_text(page, [])
        for setting in ("{%r: 1}", "{'style': %r}", "{'network': %r}", "{'steps': %r}"):
            code = f"try: explorer.settings = {setting % name}\nexcept Exception as e: print(1)"
            assert "1" in notebook.execute(code)
            page.locator(".nst-message").filter(has_text="Nothing was changed").wait_for()
            assert_text(page, [])
        Image.new("RGB", (60, 90)).save(folder / f"{name}.png")
        notebook.execute(f"explorer.settings = {{'style': {str(folder / name) + '.png'!r}}}")
        button(page, "Keep").click()
        page.locator(".nst-card").filter(has_text=name).wait_for()
        assert_text(page, [name])


def is_alive(address, kernel):
    try:
        urllib.request.urlopen(f"{address}/api/kernels/{kernel}").close()
    except urllib.error.HTTPError as error:
        return error.code != 404
    return True


def test_served_page_fits_the_window_and_writes_nothing(page, tmp_path):
    with server(VOILA, tmp_path) as address:
        page.goto(address)
        page.wait_for_selector(".nst-explorer")
        assert page.locator(".jp-CodeCell .jp-InputArea:visible").count() == 0
        assert page.locator(".nst-choice input[type=text]").count() == 0, (
            "no paths on a served page"
        )
        button(page, MORE).click()
        page.locator(".nst-folded").wait_for()
        for selector in (
            ".nst-picture",
            ".nst-canvas button",
            ".nst-ratio",
            ".nst-presets",
            ".nst-layers",
            ".nst-setup",
            ".nst-fold",
            ".nst-sliders",
            ".nst-colors",
        ):
            for each in page.locator(selector).all():
                box = each.bounding_box()
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= 1280
                assert box["y"] + box["height"] <= 800
        before = picture(page)
        start(page)
        assert picture(page) != before
        page.locator(".nst-ratio .noUi-handle").focus()
        page.keyboard.press("Home")
        page.wait_for_selector(".nst-knobs .widget-html-content >> text=1e-5")
        button(page, "content only").click()
        page.wait_for_selector(".nst-knobs .widget-html-content >> text=content only")
        wait_for_steps(page)
        button(page, "Stop").click()
        wait_for(lambda: button(page, "Stop").is_disabled())
        button(page, "Save PNG").click()
        with page.expect_download() as download:
            page.locator(".nst-message a").click()
        assert load_settings(download.value.path())["beta"] == 0.0
        start(page)  # and it is closed while it paints
        kernel = page.evaluate("() => document.getElementById('jupyter-config-data').textContent")
        kernel = json.loads(kernel)["kernelId"]
        page.goto("about:blank")
        wait_for(lambda: not is_alive(address, kernel))
    assert list(tmp_path.iterdir()) == [], "a served page writes nothing"
