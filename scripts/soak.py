"""Measure the explorer: how quickly it answers, and whether it grows while it is played with.

python scripts/soak.py               # latencies, and ten minutes of random moves: make soak
python scripts/soak.py --minutes 1

A real kernel runs the explorer; times are taken inside it. With Playwright and Chromium (the
``browser`` extra) the page that Voila serves is measured from the click to the changed picture.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jupyter_client.manager import start_new_kernel

APP = Path(__file__).with_name("app.ipynb")
SETUP = """
import ctypes, gc, random, sys, time
import comm, psutil
import nst_helpers as nst

explorer = nst.StyleTransferExplorer(net="bundled", size={size}, steps=10_000, served=True)
painted, turned = [], []
paint, turn = explorer._paint, explorer.live.turn


def noting_paint(image, step):
    paint(image, step)
    painted.append((time.monotonic(), step))


def noting_turn(loss):
    turn(loss)
    turned.append((time.monotonic(), loss.alpha))


explorer._paint, explorer.live.turn = noting_paint, noting_turn

# pyzmq starts threads of its own with the first message over 64 kB, and keeps them: now.
print([0] * 40_000)


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
    return time.monotonic()
"""
LATENCIES = """
began = time.monotonic()
explorer.controls.buttons["Start"].click()
until(lambda: painted and painted[-1][1] > 0)
first = painted[-1][0] - began
time.sleep(1)
count, began = len(painted), time.monotonic()
time.sleep(10)
rate = (len(painted) - count) / (time.monotonic() - began)
moves = []
for ratio in (3e-5, 3e-1) * 5:
    began = time.monotonic()
    explorer.controls.ratio.value = ratio
    until(lambda: abs(turned[-1][1] / ratio - 1) < 0.1)
    # The step after next is the first that moves by the new weights, and then it must be shown.
    step = explorer._curve[-1][0] + 2
    until(lambda: painted[-1][1] >= step)
    moves.append(painted[-1][0] - began)
began = time.monotonic()
explorer.controls.buttons["Stop"].click()
stopped = until(lambda: explorer.live.state == "idle") - began
print((first, rate, max(moves), stopped))
"""
MOVE = """
def move():
    c = explorer.controls
    what = random.random()
    if what < 0.5:
        c.ratio.value = 10 ** random.uniform(-5, 0)
    elif what < 0.75:
        random.choice(list(c.layers.values())).value = random.random()
    elif what < 0.83:
        c.presets.value = random.choice(c.presets.options)[1]
    elif what < 0.88:
        c.content_layer.value = random.choice(c.content_layer.options)
    elif what < 0.93:
        c.style.value = random.choice(c.style.options)
    elif what < 0.97:
        c.buttons["Keep"].click()
        if len(c.strip.children) > 3:
            c.strip.children[0].children[-1].children[1].click()
    else:
        c.buttons["Pause"].click()
        c.buttons["Start"].click()


class Mallinfo2(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


def in_use():
    '''Return the bytes that C libraries have from malloc and not given back; from glibc only.'''
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return 0
    ask.restype = Mallinfo2
    info = ask()
    return info.uordblks + info.hblkhd


def sample():
    '''Return what must not grow, as it is at rest, and the steps since the last time.'''
    steps = explorer._curve[-1][0] if explorer._curve else 0
    for card in explorer.controls.strip.children:
        card.children[-1].children[1].click()
    explorer.reset()
    gc.collect()
    process = psutil.Process()
    comms = len(comm.get_comm_manager().comms)
    memory = process.memory_info().rss / 2**20, in_use() / 2**20, sys.getallocatedblocks() / 1000
    explorer.start()
    return *memory, process.num_threads(), comms, steps


explorer._paint, explorer.live.turn = paint, turn  # what is noted grows
random.seed(0)
print(sample())
"""


def ask(client, code: str):
    """Run code in the kernel; return what it printed last, as Python reads it."""
    lines = []

    def hear(message) -> None:
        if message["msg_type"] == "stream":
            lines.append(message["content"]["text"])

    # Reads everything that the kernel sends, the pictures too, so that nothing piles up.
    # Without history, which grows with every question.
    reply = client.execute_interactive(code, store_history=False, output_hook=hear, timeout=300)
    if reply["content"]["status"] != "ok":
        raise RuntimeError("\n".join(reply["content"]["traceback"]))
    return ast.literal_eval("".join(lines).strip().splitlines()[-1]) if lines else None


def measure_kernel(client) -> None:
    first, rate, move, stop = ask(client, LATENCIES)
    ask(client, "explorer.start()")
    trips = []
    for _ in range(10):
        began = time.monotonic()
        ask(client, "print(1 + 1)")
        trips.append(time.monotonic() - began)
    print("in the kernel                                        asked   measured")
    print(f"  Start to the first picture, seconds                  1.5   {first:8.2f}")
    print(f"  pictures per second, at least                        5     {rate:8.1f}")
    print(f"  slider to a picture that obeys it, worst of 10       0.5   {move:8.2f}")
    print(f"  Stop to idle                                         0.3   {stop:8.2f}")
    print(f"  another cell meanwhile, worst of 10                        {max(trips):8.2f}")


def measure_page(chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", str(APP), f"--port={port}", "--no-browser"]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = subprocess.Popen(command, cwd=folder, **quiet)
        stack.callback(server.wait)
        stack.callback(server.terminate)
        for _ in range(300):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.1)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        began = time.monotonic()
        page.goto(f"http://127.0.0.1:{port}/", timeout=120_000)
        page.wait_for_selector(".nst-explorer", timeout=120_000)
        opened = time.monotonic() - began
        page.evaluate(
            """() => {
                window.shown = [];
                window.said = [];
                document.querySelector('.nst-picture img')
                    .addEventListener('load', () => window.shown.push(performance.now()));
                new MutationObserver(() => window.said.push(performance.now()))
                    .observe(document.querySelector('.nst-knobs .widget-html'),
                        {childList: true, subtree: true, characterData: true});
                addEventListener('keydown', () => { window.pressed = performance.now(); }, true);
            }"""
        )
        press = """name => {
            window.pressed = performance.now();
            [...document.querySelectorAll('.nst-explorer button')]
                .find(b => b.textContent.trim() == name).click();
        }"""
        page.evaluate(press, "Start")
        page.wait_for_function("() => window.shown.some(t => t > window.pressed)")
        first = page.evaluate("() => window.shown.find(t => t > window.pressed) - window.pressed")
        page.wait_for_timeout(1000)
        count = page.evaluate("() => window.shown.length")
        page.wait_for_timeout(10_000)
        rate = (page.evaluate("() => window.shown.length") - count) / 10
        # The ratio's label comes back from the kernel; one picture may be under way then, and the
        # second one was painted with the new ratio.
        obeys = """() => {
            const said = window.said.find(t => t > window.pressed);
            const after = window.shown.filter(t => t > said);
            return after.length > 1 && after[1] - window.pressed;
        }"""
        moves = []
        for key in ("End", "Home") * 5:
            page.locator(".nst-ratio .noUi-handle").focus()
            page.keyboard.press(key)
            moves.append(page.wait_for_function(obeys).json_value())
        page.evaluate(press, "Stop")
        idle = "() => [...document.querySelectorAll('.nst-explorer button')]"
        idle += ".find(b => b.textContent.trim() == 'Stop').disabled && performance.now()"
        stop = page.wait_for_function(idle).json_value() - page.evaluate("() => window.pressed")
        browser.close()
    print("on the page, in Chromium")
    print(f"  the page opens, with its kernel, seconds                   {opened:8.2f}")
    print(f"  Start to the first picture                           1.5   {first / 1000:8.2f}")
    print(f"  pictures per second, at least                        5     {rate:8.1f}")
    print(f"  slider to a picture that obeys it, worst of 10       0.5   {max(moves) / 1000:8.2f}")
    print(f"  Stop to idle                                         0.3   {stop / 1000:8.2f}")


def soak(client, minutes: float) -> int:
    """Play with the explorer; return 1 if something grew."""
    ask(client, MOVE)
    end, samples, moves, due = time.monotonic() + 60 * minutes, [], 0, 0.0
    while time.monotonic() < end or len(samples) < 6:
        ask(client, "move()")
        moves += 1
        time.sleep(0.2)
        if time.monotonic() > due:
            samples.append(ask(client, "print(sample())"))
            due = time.monotonic() + min(30, 6 * minutes)
    said = ask(client, "print(repr(explorer.controls.message.value))")
    steps, third = sum(sample[-1] for sample in samples), len(samples) // 3
    print(f"soak: {minutes:g} minutes, {moves} moves, {steps} steps; at rest, every half minute")
    print("                              first third   last third")
    grew = 0
    for column, (name, slack) in enumerate(
        (
            # Not judged: it holds what malloc keeps of freed memory, more or less of it as the
            # shapes of styles come and go.
            ("resident memory, MB", float("inf")),
            ("of it malloc's, in use, MB", 0.02),
            ("Python's blocks, thousands", 0.02),
            ("threads", 0),
            ("open comms", 0),
        )
    ):
        early = statistics.median(sample[column] for sample in samples[:third])
        late = statistics.median(sample[column] for sample in samples[-third:])
        grew |= late > early * (1 + slack)
        print(f"  {name:26} {early:12.0f} {late:12.0f}")
    print(f"  last message: {said or 'none'}")
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
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if not args.browser:
        print("on the page: left out")
    elif chromium is None or not importlib.util.find_spec("playwright"):
        print("on the page: not measured, that needs Chromium and Playwright")
    else:
        measure_page(chromium)
    # Its warning that it speaks TCP is about shared machines.
    manager, client = start_new_kernel(extra_arguments=["--IPKernelApp.log_level=40"])
    try:
        ask(client, SETUP.format(size=args.size))
        measure_kernel(client)
        return soak(client, args.minutes)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    sys.exit(main())
