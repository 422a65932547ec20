"""Ctrl-C, SIGTERM and SIGHUP at any moment of a command: what is finished is saved, and told."""

import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interrupts import before_line, sample_of_lines
from oracle import PACKAGE, check_image, check_words, time_limit

import nst_helpers as nst
from nst_helpers.__main__ import main

pytestmark = pytest.mark.usefixtures("heeded_signals")
SHORT = 8  # signals of each kind, to each command
SIGNALS = [s for s in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, s)]
COMMANDS = {
    "transfer": "transfer content.png style.png --layers",
    "sweep": "sweep content.png style.png --ratios 0.1 1 --layers",
    "kept": "texture style.png --save-every 2 --style-layers relu1_1",
    "pyramid": "reconstruct content.png --layer relu1_1 --pyramid 16",
}
LAYERS = "--content-layers relu1_1 --style-layers relu1_1"
TINY = "-o out.png --size 36 --network small.pth --device cpu"


def words_of(command, steps):
    line = f"{COMMANDS[command]} {TINY} --steps {steps}"
    return line.replace("--layers", LAYERS).split()


def check_what_is_left(folder, before, text):
    """Check that what was written is whole, named by what was printed, and all that is there."""
    check_words(text, "what is printed")
    written = {path for path in folder.iterdir() if path not in before}
    for path in written:
        assert path.suffix == ".png", f"{path.name} is left behind"
        check_image(nst.load_image(path))
        # Those of --save-every are told of where the picture itself is not written.
        assert path.name in text or "out.png" in text, f"{path.name} is not told of: {text}"
        path.unlink()
    denied = "nothing written" in text
    assert denied != bool(written), f"{[path.name for path in written]}: {text}"
    return written


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_before_any_line_of_a_command_saves_what_is_finished(
    command, name, here, monkeypatch, capfd, request, seed
):
    number = getattr(signal, name)
    before, finished = {*here.iterdir()}, []
    optimize = functools.partial(main, words_of(command, 3))
    advance = nst.optimization.Progress

    def counted(*arguments):
        finished.append(1)  # it is made after each step
        return advance(*arguments)

    monkeypatch.setattr("nst_helpers.optimization.Progress", counted)

    def run():
        finished.clear()
        return optimize()

    def send():
        sent.append(len(finished))
        signal.raise_signal(number)

    def ended(*_):
        raise KeyboardInterrupt  # before the command has put its own handler there

    handler = signal.signal(number, ended)
    try:
        code, lines = before_line(0, send, run)
        assert code == 0
        check_what_is_left(here, before, "".join(capfd.readouterr()))
        count = request.config.getoption("campaign") or SHORT
        for line in sample_of_lines(lines, count, seed, last=3):
            sent = []
            with time_limit():
                code, _ = before_line(line, send, run)
            text = "".join(capfd.readouterr())
            if code is None:  # it came through: nothing had begun, or all was over
                assert not finished or "wrote" in text, f"line {line}: {text}"
                [path.unlink() for path in here.iterdir() if path not in before]
                continue
            assert code in (0, 128 + number), f"line {line}: exit {code}: {text}"
            written = check_what_is_left(here, before, text)
            assert bool(written) == bool(finished), f"line {line}: {len(finished)} steps, {text}"
    finally:
        signal.signal(number, handler)


def moments(name, count):
    """Up to 41 tenths of seconds after a program's start: its imports, its steps, its end."""
    first = 13 * (SIGNALS.index(name) + 1)
    return [0.1 * (1 + (first + 41 * i // count) % 41) for i in range(count)]


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_at_any_moment_of_a_program_saves_what_is_finished(name, here, request):
    number = getattr(signal, name)
    count = min(41, request.config.getoption("campaign") or 1)
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    before = {*here.iterdir()}
    command = [sys.executable, "-m", "nst_helpers", *words_of("transfer", 100_000)]
    for moment in moments(name, count):
        with Path("said.txt").open("wb") as file:
            program = subprocess.Popen(command, env=environment, stderr=file, stdout=file)
        time.sleep(moment)
        steps = re.findall(r"(\d+)/100000", Path("said.txt").read_text())
        program.send_signal(number)
        assert program.wait(60) in (128 + number, -number), f"after {moment:.1f} s"
        text = Path("said.txt").read_text()
        Path("said.txt").unlink()
        if program.returncode == -number:  # Python itself had hardly begun
            assert "site-packages" not in text, f"after {moment:.1f} s: {text}"
            continue
        written = check_what_is_left(here, before, text)
        assert written or not any(int(step) for step in steps), f"after {moment:.1f} s: {text}"
