"""Run notebooks without a browser, and keep what they make: ``make run``.

Writes each executed notebook and an HTML copy of it into the output folder, beside the pictures the
notebooks themselves save there, and a page that lists them. With --inplace the notebooks keep the
outputs themselves: ``make notebooks``.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import sys
import time
from pathlib import Path

import nbclient
import nbconvert
import nbformat


def run(notebook: Path, output: Path, inplace: bool = False) -> int:
    output.mkdir(parents=True, exist_ok=True)
    (output / ".writable").touch()  # before the work, not after
    (output / ".writable").unlink()
    pages = nbformat.read(notebook, as_version=4)
    cells = [cell for cell in pages.cells if cell.cell_type == "code"]
    began, wall = time.monotonic(), time.time()

    def started(cell, cell_index) -> None:
        if cell.cell_type == "code":
            first = next((line for line in cell.source.splitlines() if line.strip()), "")
            number = cells.index(cell) + 1
            print(f"[{time.monotonic() - began:4.0f} s] cell {number} of {len(cells)}: {first}")

    os.environ["NST_OUTPUT"] = str(output.resolve())  # where the notebook puts its pictures
    client = nbclient.NotebookClient(
        pages,
        timeout=1800,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(notebook.parent)}},
        on_cell_start=started,
    )
    # Its warning that it speaks TCP is about shared machines, and reads like a failure here.
    client.extra_arguments = ["--IPKernelApp.log_level=40"]
    failed = None
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        failed = error
    forget_widgets(pages)
    executed = output / notebook.name
    nbformat.write(pages, executed)
    page = executed.with_suffix(".html")
    page.write_text(nbconvert.HTMLExporter().from_notebook_node(pages)[0], encoding="utf-8")
    if failed is not None:
        print(failed, file=sys.stderr)
        print(f"a cell failed; the notebook up to there: {executed}", file=sys.stderr)
        return 1
    if inplace:
        nbformat.write(pages, notebook)
    made = [p for p in sorted(output.iterdir()) if p.stat().st_mtime >= wall - 1]
    said = "\n".join(o.get("text", "") for c in cells for o in c.get("outputs", ()))
    network = re.search(r"^network: (.*)$", said, re.MULTILINE)
    print(f"\ndone in {time.monotonic() - began:.0f} s")
    print(f"network: {network.group(1) if network else 'not stated'}")
    for path in made:
        print(f"  {os.path.relpath(path)}")
    return 0


def forget_widgets(pages: nbformat.NotebookNode) -> None:
    """Leave a widget's text only: bars that are over, and sliders that nobody answers."""
    pages.metadata.pop("widgets", None)
    for cell in pages.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)


INDEX = """<!doctype html><html lang=en><meta charset=utf-8>
<meta name=viewport content="width=device-width"><title>Neural Style Transfer</title>
<style>body {{ max-width: 42em; margin: 3em auto; padding: 0 1em; font: 18px/1.5 sans-serif }}
h1 {{ font-weight: 500 }} li {{ margin: 1em 0 }} a {{ font-weight: 600 }}</style>
<h1>Neural Style Transfer, from white noise</h1>
<ul>{}</ul></html>
"""


def write_index(notebooks: list[Path], output: Path) -> None:
    """List the pages of the notebooks that ran, by their titles and questions."""
    lines = []
    for notebook in notebooks:
        first = nbformat.read(notebook, as_version=4).cells[0].source
        title = html.escape(first.splitlines()[0].lstrip("# "))
        question = re.search(r"\*\*The question:\*\* (.*)", first)
        said = html.escape(question[1].replace("*", "")) if question else ""
        page = notebook.with_suffix(".html").name
        lines.append(f'<li><a href="{page}">{notebook.stem[:2]} {title}</a><br>{said}</li>')
    (output / "index.html").write_text(INDEX.format("\n".join(lines)), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=Path("output"))
    parser.add_argument("--inplace", action="store_true", help="keep the outputs in the notebooks")
    args = parser.parse_args()
    for notebook in args.notebooks:
        if not notebook.is_file():
            parser.error(f"there is no notebook {notebook}")
    try:
        for notebook in args.notebooks:
            print(f"\n{notebook}")
            if failed := run(notebook, args.output, args.inplace):
                return failed
        write_index(args.notebooks, args.output)
    except OSError as error:
        print(f"cannot write into {args.output}: {error}", file=sys.stderr)
        return 1
    print(f"\nall of them: {os.path.relpath(args.output / 'index.html')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
