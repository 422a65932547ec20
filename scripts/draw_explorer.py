"""Make images/explorer.webp and images/explorer_dark.webp: the sliders, as a browser shows them.

python scripts/draw_explorer.py      # needs Chromium and the ``browser`` extra
"""

from __future__ import annotations

import argparse
import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import sync_playwright

CODE = """import nst_helpers as nst

explorer = nst.StyleTransferExplorer("chelsea", "night_sky")
explorer"""
READY = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
SETTINGS = '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}'
ASK = """code => jupyterapp.shell.currentWidget.sessionContext.session.kernel
    .requestExecute({code}).done"""
# What a visitor might have done: kept a few ratios, and gone on.
PLAY = """
for ratio in (1e-4, 1e-3, 1e-2, 1e-1):
    explorer.settings = {"alpha": ratio, "steps": 150}
    explorer.reset()
    explorer.start()
    explorer.join()
    explorer.keep()
explorer.settings = {"alpha": 1e-2, "steps": 300}
explorer.reset()
explorer.live.end = 140
explorer.live.start()
explorer.join()
explorer.live.end = 300
explorer.live.start()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).parents[1]
    parser.add_argument("--output", type=Path, default=root / "images")
    args = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, Path(folder) / "sliders.ipynb")
        (Path(folder) / "overrides.json").write_text(SETTINGS)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ["--allow-root", "--ip=127.0.0.1", "--no-browser", f"--port={port}"]
        options += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
        options += ["--LabApp.expose_app_in_browser=True", f"--LabApp.app_settings_dir={folder}"]
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(300):
                with suppress(OSError):
                    urllib.request.urlopen(f"{address}/api")
                    break
                time.sleep(0.1)
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 960})
            page.goto(f"{address}/doc/tree/sliders.ipynb")
            page.wait_for_function(READY)
            page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
            page.wait_for_selector(".nst-explorer")
            for theme, name in (("Light", "explorer"), ("Dark", "explorer_dark")):
                change = "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})"
                page.evaluate(change, f"JupyterLab {theme}")
                if theme == "Light":
                    page.evaluate(ASK, PLAY)
                page.wait_for_timeout(2000)
                page.locator(".nst-explorer").scroll_into_view_if_needed()
                shot = page.locator(".nst-explorer").screenshot()
                path = args.output / f"{name}.webp"
                Image.open(io.BytesIO(shot)).convert("RGB").save(path, quality=85, method=6)
                print("wrote", path.name, f"{path.stat().st_size / 1000:.0f} kB")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
