"""Make docs/explorer.webp and docs/explorer_dark.webp: the sliders, as a browser shows them.

python -m scripts.pictures.explorer      # needs Chromium and the ``browser`` extra
"""

from __future__ import annotations

import argparse
import inspect
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from scripts.browser import FLAGS, LAB, ROOT, Notebook, find_chromium, serve

CODE = """import nst_helpers as nst

explorer = nst.StyleTransferExplorer("chelsea", "night_sky")
explorer"""
VIEWPORT = {"width": 1280, "height": 960}  # JupyterLab's own rows, above 800 of the explorer's
SETTINGS = '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}'


def keep_ratios(explorer) -> None:
    """Do what a visitor might have done: keep a few ratios, and go on."""
    for ratio in (1e-4, 1e-3, 1e-2, 1e-1):
        explorer.settings = {"alpha": ratio, "steps": 150}
        explorer.reset()
        explorer.start()
        explorer.join()
        explorer.keep()
    paint(explorer, {"alpha": 1e-2})


def blend_styles(explorer) -> None:
    """Paint with two styles, which opens what is folded away."""
    paint(explorer, {"second_style": "wave", "blend": 0.5, "alpha": 3e-2})


def paint(explorer, settings) -> None:
    explorer.settings = {**settings, "steps": 300}
    explorer.reset()
    explorer.run.end = 140
    explorer.run.start()
    explorer.join()
    explorer.run.end = 300
    explorer.run.start()


PICTURES = [  # theme, file, what is done before
    ("Light", "explorer", blend_styles),
    ("Dark", "explorer_dark", keep_ratios),
]


@contextmanager
def explorer_in_lab(code: str) -> Iterator[tuple[Any, Notebook]]:
    """Run a cell that shows an explorer in JupyterLab; give the browser's page and the notebook."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        Notebook.write(Path(folder) / "sliders.ipynb", [code])
        (Path(folder) / "overrides.json").write_text(SETTINGS)
        environment = {"JUPYTERLAB_SETTINGS_DIR": folder}  # the theme is nobody's own
        lab = [*LAB, f"--LabApp.app_settings_dir={folder}"]
        with serve(lab, Path(folder), environment) as address:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
            page = browser.new_page(viewport=VIEWPORT)
            page.set_default_timeout(120_000)
            notebook = Notebook(page, address, "sliders.ipynb")
            notebook.command("notebook:run-all-cells")
            page.wait_for_selector(".nst-explorer")
            yield page, notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    with explorer_in_lab(CODE) as (page, notebook):
        notebook.execute(inspect.getsource(paint))
        for theme, name, play in PICTURES:
            notebook.command("apputils:change-theme", theme=f"JupyterLab {theme}")
            notebook.execute(f"{inspect.getsource(play)}\n\n{play.__name__}(explorer)")
            page.wait_for_timeout(2000)
            page.locator(".nst-explorer").scroll_into_view_if_needed()
            picture = page.locator(".nst-explorer").screenshot()
            notebook.execute("explorer.stop()")
            notebook.execute("explorer.settings = {'second_style': None}")
            notebook.execute("explorer.controls.fold.button.value = False")
            path = args.output / f"{name}.webp"
            Image.open(io.BytesIO(picture)).convert("RGB").save(path, quality=85, method=6)
            print("wrote", path.name, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
