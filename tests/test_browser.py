"""The explorer in a real browser: JupyterLab, and the page that Voila makes of it.

Chromium comes from the system, Playwright from the ``browser`` extra; without them these tests are
skipped. A picture of a test that failed lies in output/browser/.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from nst_helpers import load_settings

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
if not CHROMIUM:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)

ROOT = Path(__file__).parents[1]
PATIENCE = 90_000  # milliseconds, on a busy machine
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
MESSAGES = 'tornado_settings={"websocket_max_message_size": 104857600}'  # as in the Makefile
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
STEP = "e => parseInt(e.querySelector('.nst-status b').textContent)"


def answers(address):
    try:
        urllib.request.urlopen(address, timeout=10)
    except urllib.error.HTTPError:  # "not found" is an answer, too
        return True
    except OSError:
        return False
    return True


@contextmanager
def server(arguments, folder):
    """Run a server of this environment, and give its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *arguments, f"--port={port}", "--no-browser"]
    environment = {**os.environ, "NST_BUDGET": "quick", "NST_OUTPUT": str(folder / "output")}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + PATIENCE / 1000
        while not answers(address + "/static/"):
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    arguments = ["jupyterlab", "--allow-root", "--ip=127.0.0.1", "--IdentityProvider.token="]
    arguments += ["--ServerApp.disable_check_xsrf=True", "--LabApp.expose_app_in_browser=True"]
    with server([*arguments, f"--ServerApp.{MESSAGES}"], folder) as address:
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


def is_ours(said):
    """Whether a line of the console is an error that widgets made: servers have errors, too."""
    return said.type == "error" and "widget" in said.text.lower()


@pytest.fixture
def page(chromium, request):
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if is_ours(said) else None)
    failed = request.session.testsfailed
    yield page
    if request.session.testsfailed > failed:
        (ROOT / "output" / "browser").mkdir(parents=True, exist_ok=True)
        page.screenshot(path=ROOT / "output" / "browser" / f"{request.node.name}.png")
    page.close()
    assert errors == []


class Notebook:
    """A notebook open in JupyterLab."""

    def __init__(self, page, address, folder, cells=(), path="test.ipynb"):
        self.page, self.address, self.folder = page, address, folder
        if cells:
            notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
            notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
            nbformat.write(notebook, folder / path)
        page.goto(f"{address}/doc/tree/{path}")
        page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
        )

    def command(self, name):
        self.page.evaluate("name => jupyterapp.commands.execute(name)", name)

    def outputs(self):
        return self.page.evaluate(
            "() => jupyterapp.shell.currentWidget.content.widgets"
            ".filter(c => c.model.type == 'code')"
            ".map(c => [c.model.executionCount, c.model.outputs.toJSON()])"
        )

    def ask(self, code):
        """What a cell of its own would print, while the explorer may be running."""
        return json.loads(
            self.page.evaluate(
                """async code => {
                    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                    const future = kernel.requestExecute({code});
                    let said = '';
                    future.onIOPub = m => { said += m.content.text ?? m.content.evalue ?? ''; };
                    await future.done;
                    return said;
                }""",
                f"import json; print(json.dumps({code}))",
            )
        )

    def losses(self):
        _, content, style = self.ask("explorer._curve[-1]")
        return content, style


@pytest.fixture
def notebook(page, lab):
    made = Notebook(page, *lab, [EXPLORER])
    made.command("notebook:run-all-cells")
    page.wait_for_selector(".nst-explorer")
    return made


def button(page, name):
    return page.locator(f".nst-explorer button.jupyter-button:text-is('{name}')").last


def picture(page):
    return page.locator(".nst-picture img").last.evaluate(PIXELS)


def step(page):
    return page.locator(".nst-explorer").last.evaluate(STEP)


def wait_for(condition):
    end = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def wait_for_steps(page, count=5):
    at = step(page)
    wait_for(lambda: step(page) >= at + count)


def start(page):
    button(page, "Start").click()
    wait_for_steps(page)


def test_the_picture_paints_itself_and_answers_the_ratio(notebook, page):
    before = picture(page)
    start(page)
    assert picture(page) != before
    button(page, "texture only").click()
    wait_for_steps(page, 60)
    styled, texture = picture(page), notebook.losses()  # another cell answers, while it runs
    handle = page.locator(".nst-ratio .noUi-handle")
    handle.focus()
    page.keyboard.press("End")
    page.wait_for_selector(".nst-knobs >> text=/= 1$/")
    wait_for_steps(page, 60)
    assert picture(page) != styled
    close = notebook.losses()
    assert close[0] < 0.7 * texture[0], "more content: its loss falls"
    assert close[1] > texture[1]
    for _ in range(8):  # a little to the left
        page.keyboard.press("ArrowLeft")
    wait_for(lambda: notebook.ask("explorer.settings['alpha']") < 0.5)
    button(page, "texture only").click()
    wait_for_steps(page, 60)
    assert notebook.losses()[1] < close[1], "more style: its loss falls"


def test_a_layers_slider(notebook, page):
    start(page)
    page.locator(".nst-layers .noUi-handle").first.focus()
    page.keyboard.press("Home")
    wait_for(lambda: notebook.ask("explorer.settings['style_layer_weights']['relu1_1']") == 0)
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


def upload(page, path):
    with page.expect_file_chooser() as chooser:
        page.locator(".nst-choice .widget-upload").first.click()
    chooser.value.set_files(path)


def test_upload(notebook, page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), dtype=np.uint8)
    files = {"photo.png": noise[:60, :90], "large.png": noise, "tiny.png": noise[:8, :8]}
    for name, values in files.items():
        Image.fromarray(values).save(tmp_path / name)
    assert (tmp_path / "large.png").stat().st_size > 9e6
    (tmp_path / "notes.jpg").write_text("no picture")
    message = page.locator(".nst-message")
    for name, said in (("large", "the most is 8 MB"), ("tiny", "only 8 x 8"), ("notes", "picture")):
        upload(page, next(tmp_path.glob(f"{name}.*")))
        message.filter(has_text=said).wait_for()
    thumbnail = page.locator(".nst-thumbnail img").first
    before = thumbnail.evaluate(PIXELS)
    upload(page, tmp_path / "photo.png")
    wait_for(lambda: thumbnail.evaluate(PIXELS) != before)
    assert notebook.ask("explorer.settings['content']") == "photo.png (yours)"
    start(page)


def test_keep_and_save(notebook, page):
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
    (film,) = (notebook.folder / "output").glob("*.webp")
    with Image.open(film) as frames:
        assert frames.n_frames > 1
    button(page, "Save PNG").click()
    page.wait_for_selector(".nst-message >> text=.png")
    with page.expect_download() as download:
        page.locator(".nst-message a").click()
    assert load_settings(download.value.path())["content"] == "chelsea"
    button(page, "Back to this").click()
    wait_for(lambda: step(page) == at)
    assert notebook.ask("explorer.live.state") == "idle"
    wait_for(lambda: picture(page) == kept)


def test_run_again_twice_interrupted_restarted(notebook, page):
    running = "sum(t.name == 'nst run' for t in __import__('threading').enumerate())"
    start(page)
    notebook.command("notebook:run-all-cells")
    wait_for(lambda: notebook.ask(running) == 0)
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
    wait_for(lambda: notebook.ask(running) == 2)
    notebook.command("notebook:interrupt-kernel")
    wait_for_steps(page)
    button(page, "Stop").click()
    wait_for(lambda: notebook.ask(running) == 1)
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    gone = "() => getComputedStyle(document.querySelector('.nst-explorer'), '::after').content"
    wait_for(lambda: "kernel is gone" in page.evaluate(gone))
    notebook.command("notebook:run-all-cells")
    wait_for(
        lambda: page.locator(".nst-explorer").count() == 2 and "gone" not in page.evaluate(gone)
    )
    start(page)


def test_everything_is_reached_with_the_tab_key(notebook, page):
    page.locator(".nst-explorer button").first.focus()
    reached = set()
    for _ in range(45):
        reached.add(page.evaluate(FOCUSED))
        page.keyboard.press("Tab")
    sliders = {f"slider {i}" for i in range(6)}  # the ratio, and five layers
    assert {"Start", "Keep", "Save film", "texture only", "content only", "1/5 each"} <= reached
    assert sliders | {"content", "style", "size", "network"} <= reached
    button(page, "Start").focus()
    page.keyboard.press("Enter")
    wait_for_steps(page)
    button(page, "Pause").focus()
    page.keyboard.press("Space")
    page.wait_for_selector(".nst-status >> text=paused")


def test_notebook_05_runs_whole(page, lab):
    shutil.copy(ROOT / "notebooks" / "05_sliders.ipynb", lab[1])
    notebook = Notebook(page, *lab, path="05_sliders.ipynb")
    page.evaluate(
        "() => { jupyterapp.commands.execute('notebook:run-all-cells')"
        ".then(() => { window.finished = true; }); }"
    )
    page.wait_for_function("() => window.finished", timeout=3 * PATIENCE)
    outputs = notebook.outputs()
    assert [count for count, _ in outputs] == list(range(1, len(outputs) + 1))
    assert not [o for _, cell in outputs for o in cell if o["output_type"] == "error"]
    views = "application/vnd.jupyter.widget-view+json"
    assert any(views in o.get("data", {}) for _, cell in outputs for o in cell)


def test_the_page(page, tmp_path):
    app = str(ROOT / "scripts" / "app.ipynb")
    with server(["voila", app, f"--Voila.{MESSAGES}"], tmp_path) as address:
        page.goto(address)
        page.wait_for_selector(".nst-explorer")
        assert page.locator(".jp-CodeCell .jp-InputArea:visible").count() == 0
        assert page.locator(".nst-choice input[type=text]").count() == 0, (
            "no paths on a served page"
        )
        for selector in (
            ".nst-picture",
            ".nst-canvas button",
            ".nst-ratio",
            ".nst-presets",
            ".nst-layers",
            ".nst-setup",
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
    assert list(tmp_path.iterdir()) == [], "a served page writes nothing"
