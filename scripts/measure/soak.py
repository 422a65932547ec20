"""Measure the explorer: how quickly it answers, and whether it grows while it is played with.

    python -m scripts.measure.soak               # latencies, and ten minutes of random moves
    python -m scripts.measure.soak --minutes 1

Also ``make soak``. A real kernel runs the explorer; times are taken inside it (``soak_kernel``).
With Playwright and Chromium (the ``browser`` extra) the page that Voila serves is measured from the
click to the changed picture.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from scripts.browser import FLAGS, ROOT, VOILA, find_chromium, serve

SETUP = """
from scripts.measure.soak_kernel import Player
player = Player(size={size})
# pyzmq starts threads of its own with the first message over 64 kB, and keeps them: now.
print([0] * 40_000)
"""
# When pictures and the ratio's label change on the page, and when a key was pressed.
WATCH = """() => {
    window.shown = [];
    window.labelled = [];
    document.querySelector('.nst-picture img')
        .addEventListener('load', () => window.shown.push(performance.now()));
    new MutationObserver(() => window.labelled.push(performance.now()))
        .observe(document.querySelector('.nst-knobs .widget-html'),
            {childList: true, subtree: true, characterData: true});
    addEventListener('keydown', () => { window.pressed = performance.now(); }, true);
}"""
PRESS = """name => {
    window.pressed = performance.now();
    [...document.querySelectorAll('.nst-explorer button')]
        .find(b => b.textContent.trim() == name).click();
}"""
STOPPED = """() => [...document.querySelectorAll('.nst-explorer button')]
    .find(b => b.textContent.trim() == 'Stop').disabled && performance.now() - window.pressed"""
FIRST = "() => (window.shown.find(t => t > window.pressed) ?? 0) - window.pressed"
# The ratio's label comes back from the kernel; one picture may be under way then, and the second
# one was painted with the new ratio.
OBEYS = """() => {
    const labelled = window.labelled.find(t => t > window.pressed);
    const after = window.shown.filter(t => t > labelled);
    return after.length > 1 && after[1] - window.pressed;
}"""
COLUMNS = (  # of a sample, and by how much each may grow
    # Not judged: it holds what malloc keeps of freed memory, more or less of it as the shapes of
    # styles come and go.
    ("resident memory, MB", float("inf")),
    ("of it malloc's, in use, MB", 0.02),
    ("Python's blocks, thousands", 0.02),
    ("threads", 0),
    ("open comms", 0),
)


def ask(client: BlockingKernelClient, code: str) -> Any:
    """Run code in the kernel; return what it printed last, as Python reads it."""
    lines = []

    def read(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            lines.append(message["content"]["text"])

    # Reads everything that the kernel sends, the pictures too, so that nothing piles up.
    # Without history, which grows with every question.
    reply = client.execute_interactive(code, store_history=False, output_hook=read, timeout=300)
    if reply["content"]["status"] != "ok":
        raise RuntimeError("\n".join(reply["content"]["traceback"]))
    return ast.literal_eval("".join(lines).strip().splitlines()[-1]) if lines else None


def print_latencies(first: float, rate: float, move: float, stop: float) -> None:
    print(f"  Start to the first picture, seconds                  1.5   {first:8.2f}")
    print(f"  pictures per second, at least                        5     {rate:8.1f}")
    print(f"  slider to a picture that obeys it, worst of 10       0.5   {move:8.2f}")
    print(f"  Stop to idle                                         0.3   {stop:8.2f}")


def measure_kernel(client: BlockingKernelClient) -> None:
    latencies = ask(client, "print(player.latencies())")
    ask(client, "player.explorer.start()")
    trips = []
    for _ in range(10):
        began = time.monotonic()
        ask(client, "print(1 + 1)")
        trips.append(time.monotonic() - began)
    print("in the kernel                                        asked   measured")
    print_latencies(*latencies)
    print(f"  another cell meanwhile, worst of 10                        {max(trips):8.2f}")


@contextlib.contextmanager
def open_page(chromium: str) -> Iterator[tuple[Any, float]]:
    """Serve the page and open it; give it, and the seconds that opening took."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as folder,
        serve(VOILA, Path(folder)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(120_000)
        began = time.monotonic()
        page.goto(address)
        page.wait_for_selector(".nst-explorer")
        yield page, time.monotonic() - began
        browser.close()


def measure_page(chromium: str) -> None:
    with open_page(chromium) as (page, opened):
        steps = page.locator(".nst-field:has(label:text-is('steps')) input")
        steps.fill("10000")  # as many as the measurements may take
        steps.press("Enter")
        page.evaluate(WATCH)
        page.evaluate(PRESS, "Start")
        page.wait_for_function("() => window.shown.some(t => t > window.pressed)")
        first = page.evaluate(FIRST)
        page.wait_for_timeout(1000)
        count = page.evaluate("() => window.shown.length")
        page.wait_for_timeout(10_000)
        rate = (page.evaluate("() => window.shown.length") - count) / 10
        moves = []
        for key in ("End", "Home") * 5:
            page.locator(".nst-ratio .noUi-handle").focus()
            page.keyboard.press(key)
            moves.append(page.wait_for_function(OBEYS).json_value())
        page.evaluate(PRESS, "Stop")
        stop = page.wait_for_function(STOPPED).json_value()
    print("on the page, in Chromium")
    print(f"  the page opens, with its kernel, seconds                   {opened:8.2f}")
    print_latencies(first / 1000, rate, max(moves) / 1000, stop / 1000)


def soak(client: BlockingKernelClient, minutes: float) -> int:
    """Play with the explorer; return 1 if something grew."""
    end, samples, moves, due = time.monotonic() + 60 * minutes, [], 0, 0.0
    ask(client, "player.sample()")  # begin at rest
    while time.monotonic() < end or len(samples) < 6:
        ask(client, "player.move()")
        moves += 1
        time.sleep(0.2)
        if time.monotonic() > due:
            samples.append(ask(client, "print(player.sample())"))
            due = time.monotonic() + min(30, 6 * minutes)
    message = ask(client, "print(repr(player.explorer.controls.canvas.message.value))")
    steps, third = sum(sample[-1] for sample in samples), len(samples) // 3
    print(f"soak: {minutes:g} minutes, {moves} moves, {steps} steps; at rest, every half minute")
    print("                              first third   last third")
    grew = False
    for column, (name, slack) in enumerate(COLUMNS):
        early = statistics.median(sample[column] for sample in samples[:third])
        late = statistics.median(sample[column] for sample in samples[-third:])
        grew |= late > early * (1 + slack)
        print(f"  {name:26} {early:12.0f} {late:12.0f}")
    print(f"  last message: {message or 'none'}")
    print("  something grew" if grew else "  nothing grew")
    return int(grew)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="of random moves")
    parser.add_argument("--size", type=int, default=192, help="shorter side in pixels")
    parser.add_argument(
        "--browser", action=argparse.BooleanOptionalAction, default=True, help="measure the page"
    )
    args = parser.parse_args()
    chromium = find_chromium()
    if not args.browser:
        print("on the page: left out")
    elif chromium is None or not importlib.util.find_spec("playwright"):
        print("on the page: not measured, that needs Chromium and Playwright")
    else:
        measure_page(chromium)
    # Its warning that it speaks TCP is about shared machines.
    manager, client = start_new_kernel(
        cwd=str(ROOT), extra_arguments=["--IPKernelApp.log_level=40"]
    )
    try:
        ask(client, SETUP.format(size=args.size))
        measure_kernel(client)
        return soak(client, args.minutes)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    sys.exit(main())
