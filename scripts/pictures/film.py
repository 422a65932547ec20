"""Make docs/explorer_film.webp: the explorer in a browser, somebody turning its sliders.

python -m scripts.pictures.film          # needs Chromium and the ``browser`` extra

It is a recording of the page as it runs, frame by frame rather than by the clock: the run is held
between two steps until the browser shows the last one, so that a busy machine makes as smooth a
film as a quiet one. The seconds between are what is left out.
"""

from __future__ import annotations

import argparse
import inspect
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from scripts.browser import ROOT, Notebook
from scripts.pictures.explorer import explorer_in_lab

STEPS = 600  # more than the film needs
CODE = f"""import nst_helpers as nst

explorer = nst.StyleTransferExplorer("chelsea", "night_sky")
explorer.settings = {{"second_style": "stained_glass", "blend": 0, "alpha": 1e-2, "steps": {STEPS}}}
explorer.reset()
explorer"""
FRAME_MS, LAST_MS = 90, 1500
MOVING, HOLDING = 3, 8  # steps to a frame while the pointer moves, and while it rests
WIDTH, QUALITY, MOST_BYTES = 860, 50, 2_000_000
POINTER = """() => {
    const pointer = document.createElement('div');
    pointer.innerHTML = `<svg width="26" height="30" viewBox="0 0 26 30">
        <circle cx="4" cy="4" r="0" fill="#1976d2" opacity="0.35"/>
        <path d="M4 3v20l5-5 4 9 4-2-4-8h7z" fill="#222" stroke="#fff" stroke-width="1.6"/></svg>`;
    pointer.style.cssText = `position: fixed; z-index: 99999; pointer-events: none;
        margin: -3px 0 0 -4px; left: -99px`;
    pointer.firstChild.style.overflow = 'visible';
    document.body.append(pointer);
    const ring = pointer.querySelector('circle');
    addEventListener('pointermove', e => {
        pointer.style.left = `${e.clientX}px`;
        pointer.style.top = `${e.clientY}px`;
    }, true);
    addEventListener('pointerdown', () => ring.setAttribute('r', 14), true);
    addEventListener('pointerup', () => ring.setAttribute('r', 0), true);
}"""
IS_SHOWN = """step => {
    const text = document.querySelector('.nst-status b')?.textContent;
    return document.querySelector('.nst-picture img').complete && text === `${step}`;
}"""


class Hold:
    """In the kernel: an explorer's run, which takes a step only when it is told to."""

    def __init__(self, explorer):
        import threading

        run = explorer.run
        self.gate, self.shown = threading.Semaphore(0), threading.Semaphore(0)
        self.explorer, self.update, self.show = explorer, run.update_weights, run.show
        run.update_weights, run.show = self.held_update, self.held_show

    def held_update(self, loss):
        self.gate.acquire()
        self.update(loss)

    def held_show(self, progress, last):
        self.explorer._redraw_at = 0.0  # each picture
        self.show(progress, last)
        self.shown.release()

    def take(self, steps):
        self.explorer.recording.restart_pace()  # in which the frames' seconds do not count
        self.gate.release(steps)
        for _ in range(steps):
            while not self.shown.acquire(timeout=1):
                if self.explorer.run.state != "running":
                    raise RuntimeError("the run has ended: it needs more steps")
        print(self.explorer.recording.steps_done)


class Camera:
    """A pointer on a page, and the frames that are taken of it."""

    def __init__(self, page: Any, notebook: Notebook) -> None:
        self.page, self.notebook = page, notebook
        self.frames: list[bytes] = []
        self.at = 700.0, 330.0
        page.mouse.move(*self.at)

    def take(self, steps: int, frames: int = 1) -> None:
        """Take frames, each after so many steps."""
        for _ in range(frames):
            print(f"\rframe {len(self.frames) + 1}", end="", flush=True)
            if steps:
                done = self.notebook.execute(f"hold.take({steps})")
                self.page.wait_for_function(IS_SHOWN, arg=int(done))
            self.page.wait_for_timeout(60)  # the browser paints what it was told
            box = self.page.locator(".nst-explorer").bounding_box()
            self.frames.append(self.page.screenshot(clip=box))

    def move(self, target: Any, frames: int, steps: int, share: float = 0.5) -> None:
        """Move the pointer to an element: to a share of its width."""
        box = target.bounding_box()
        goal = box["x"] + share * box["width"], box["y"] + box["height"] / 2
        start = self.at
        for i in range(1, frames + 1):
            t = i / frames
            t = t * t * (3 - 2 * t)  # gently, at both ends
            self.at = tuple(a + t * (b - a) for a, b in zip(start, goal, strict=True))
            self.page.mouse.move(*self.at)
            self.take(steps)

    def drag(self, slider: Any, shares: Sequence[tuple[float, int, int]]) -> None:
        """Take a slider's handle to shares of its length: each in frames, then hold for some."""
        self.move(slider.locator(".noUi-handle"), 6, MOVING)
        self.page.mouse.down()
        for share, frames, held in shares:
            self.move(slider.locator(".noUi-base"), frames, MOVING, share)
            self.take(HOLDING, held)
        self.page.mouse.up()

    def click(self, target: Any, frames: int, steps: int) -> None:
        """Move to an element, and press it."""
        self.move(target, frames, steps)
        self.page.mouse.down()
        self.take(0)
        self.page.mouse.up()


def play(camera: Camera) -> None:
    """Do what is to be seen."""
    page = camera.page
    camera.take(0, 3)
    camera.click(page.locator(".nst-explorer button:text-is('Start')"), 6, 0)
    camera.take(1, 8)
    camera.take(4, 16)
    # To the painting, and to the photograph: there, a style layer's weight is seen best.
    camera.drag(page.locator(".nst-ratio"), [(0.2, 7, 7), (0.76, 10, 9)])
    camera.drag(page.locator(".nst-layers .widget-slider").first, [(0, 6, 9)])
    camera.click(page.locator(".nst-explorer button:text-is('1/5 each')"), 5, MOVING)
    camera.drag(page.locator(".nst-sliders .widget-slider").first, [(1, 10, 12)])


def save(frames: Sequence[bytes], path: Path) -> None:
    """Write the frames as an animation, as good as fits."""
    pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    height = round(pictures[0].height * WIDTH / pictures[0].width)
    pictures = [p.resize((WIDTH, height), Image.Resampling.LANCZOS) for p in pictures]
    durations = [FRAME_MS] * (len(pictures) - 1) + [LAST_MS]
    for quality in range(QUALITY, 10, -3):
        pictures[0].save(
            path,
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
            quality=quality,
            method=4,
            minimize_size=False,
        )
        size = path.stat().st_size
        print(f"\r{path.name}: {len(pictures)} frames, {sum(durations) / 1000:.1f} s,", end=" ")
        print(f"{WIDTH} x {height}, quality {quality}, {size / 1e6:.2f} MB")
        if size < MOST_BYTES:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    parser.add_argument("--frames", type=Path, help="a folder for the frames as PNG, too")
    args = parser.parse_args()
    with explorer_in_lab(CODE) as (page, notebook):
        page.wait_for_selector(".nst-folded", state="visible")
        notebook.command("apputils:change-theme", theme="JupyterLab Light")
        notebook.execute(f"{inspect.getsource(Hold)}\n\nhold = Hold(explorer)")
        page.locator(".nst-explorer").scroll_into_view_if_needed()
        page.evaluate(POINTER)
        camera = Camera(page, notebook)
        try:
            play(camera)
        finally:
            if args.frames:
                args.frames.mkdir(parents=True, exist_ok=True)
                for number, frame in enumerate(camera.frames):
                    (args.frames / f"{number:03}.png").write_bytes(frame)
    save(camera.frames, args.output / "explorer_film.webp")


if __name__ == "__main__":
    main()
