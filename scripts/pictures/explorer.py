"""Make docs/explorer.webp and docs/explorer_dark.webp: the sliders, as a browser shows them.

python -m scripts.pictures.explorer      # needs Chromium and the ``browser`` extra
"""

from __future__ import annotations

import argparse
import inspect
import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from scripts.browser import FLAGS, LAB, ROOT, Notebook, find_chromium, serve

CODE = """import nst_helpers as nst

explorer = nst.StyleTransferExplorer("chelsea", "night_sky")
explorer"""
SETTINGS = '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}'


def play(explorer) -> None:
    """Do what a visitor might have done: keep a few ratios, and go on."""
    for ratio in (1e-4, 1e-3, 1e-2, 1e-1):
        explorer.settings = {"alpha": ratio, "steps": 150}
        explorer.reset()
        explorer.start()
        explorer.join()
        explorer.keep()
    explorer.settings = {"alpha": 1e-2, "steps": 300}
    explorer.reset()
    explorer.run.end = 140
    explorer.run.start()
    explorer.join()
    explorer.run.end = 300
    explorer.run.start()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        Notebook.write(Path(folder) / "sliders.ipynb", [CODE])
        (Path(folder) / "overrides.json").write_text(SETTINGS)
        with serve([*LAB, f"--LabApp.app_settings_dir={folder}"], Path(folder)) as address:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 960})
            notebook = Notebook(page, address, "sliders.ipynb")
            notebook.command("notebook:run-all-cells")
            page.wait_for_selector(".nst-explorer")
            for theme, name in (("Light", "explorer"), ("Dark", "explorer_dark")):
                notebook.command("apputils:change-theme", theme=f"JupyterLab {theme}")
                if theme == "Light":
                    notebook.execute(inspect.getsource(play) + "\n\nplay(explorer)")
                page.wait_for_timeout(2000)
                page.locator(".nst-explorer").scroll_into_view_if_needed()
                picture = page.locator(".nst-explorer").screenshot()
                path = args.output / f"{name}.webp"
                Image.open(io.BytesIO(picture)).convert("RGB").save(path, quality=85, method=6)
                print("wrote", path.name, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
