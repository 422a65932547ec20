"""A browser, and the servers that it looks at: for scripts and tests that see what people see.

Chromium comes from the system, Playwright from the ``browser`` extra.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").is_file())
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
MESSAGES = 'tornado_settings={"websocket_max_message_size": 104857600}'  # as in the Makefile
LAB = ["jupyterlab", "--allow-root", "--ip=127.0.0.1", "--IdentityProvider.token="]
LAB += ["--ServerApp.disable_check_xsrf=True", "--LabApp.expose_app_in_browser=True"]
LAB += [f"--ServerApp.{MESSAGES}"]
VOILA = ["scripts.serve", "--Page.token="]  # without a token
START_SECONDS = 90  # for a server, on a busy machine
KERNEL = "jupyterapp.shell?.currentWidget?.sessionContext?.session?.kernel"
EXECUTE = f"""async code => {{
    const future = {KERNEL}.requestExecute({{code}});
    let text = '';
    future.onIOPub = m => {{ text += m.content.text ?? m.content.evalue ?? ''; }};
    await future.done;
    return text;
}}"""


def find_chromium() -> str | None:
    """Return the path of Chromium or Chrome; None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def serve(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    quiet: bool = True,
) -> Iterator[str]:
    """Run a server of this Python's environment in a folder; give its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *arguments, f"--port={port}", "--no-browser"]
    output = subprocess.DEVNULL if quiet else None
    env = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    server = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output)
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + START_SECONDS
        while not answers(address):
            if server.poll() is not None:
                raise RuntimeError(f"{arguments[0]} has ended with {server.returncode}")
            if time.monotonic() > end:
                raise TimeoutError(f"{arguments[0]} does not answer")
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def answers(address: str) -> bool:
    """Return whether a server answers; "not found" is an answer, too."""
    try:
        urllib.request.urlopen(f"{address}/static/", timeout=10).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


class Notebook:
    """A notebook open in JupyterLab, with a kernel of its own."""

    def __init__(self, page: Any, address: str, path: str) -> None:
        self.page = page
        page.goto(f"{address}/doc/tree/{path}")
        page.wait_for_function(f"() => window.jupyterapp && {KERNEL}")

    @staticmethod
    def write(path: Path, cells: Sequence[str]) -> None:
        """Write a notebook of code cells."""
        notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, path)

    def command(self, name: str, **options: object) -> None:
        """Do what an entry of JupyterLab's menus does."""
        call = "([name, options]) => jupyterapp.commands.execute(name, options)"
        self.page.evaluate(call, [name, options])

    def execute(self, code: str) -> str:
        """Run code as a cell of its own would, and return what it prints."""
        return self.page.evaluate(EXECUTE, code)

    def value(self, expression: str) -> Any:
        """Return the value of an expression that JSON can hold."""
        return json.loads(self.execute(f"import json; print(json.dumps({expression}))"))
