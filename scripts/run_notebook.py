"""Run notebooks without a browser, and keep what they make: ``make run``.

Writes each executed notebook and an HTML copy of it into the output folder, beside the pictures the
notebooks themselves save there, and index.html, which leads to all of it. With --inplace the
notebooks keep the outputs themselves: ``make notebooks``.
"""

from __future__ import annotations

import argparse
import base64
import copy
import html
import io
import os
import re
import sys
import time
from pathlib import Path

import latex2mathml.converter
import nbclient
import nbconvert
import nbformat
from draw_notebooks import chosen_figure

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
CSS = """
body { font: 1rem/1.5 system-ui, sans-serif; color: #333; max-width: 66rem; margin: 4rem auto }
body { padding: 0 2rem }
h1, h2 { font-weight: 500; color: #000; margin: 0 }
h2 { font-size: 1.1rem; margin-top: .8rem }
p { margin: 0 }
p::first-letter { text-transform: uppercase }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)) }
main { gap: 3rem 2.5rem; margin: 2rem 0 4rem }
a { color: inherit; text-decoration: none }
a:hover h2 { text-decoration: underline }
img { width: 100%; height: 11rem; object-fit: contain; object-position: left bottom }
"""


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
    named = {"metadata": {"name": title(pages)}}
    body, _ = nbconvert.HTMLExporter().from_notebook_node(with_mathml(pages), named)
    body = re.sub(r'href="([^":/]+)\.ipynb"', r'href="\1.html"', body)  # from page to page
    page.write_text(body, encoding="utf-8")
    if failed is not None:
        print(failed, file=sys.stderr)
        print(f"a cell failed; the notebook up to there: {executed}", file=sys.stderr)
        return 1
    if inplace:
        nbformat.write(pages, notebook)
    made = [p for p in sorted(output.iterdir()) if p.stat().st_mtime >= wall]
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


def with_mathml(pages: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Copy a notebook with formulas that a browser shows without MathJax, which pages download."""

    def convert(formula: re.Match) -> str:
        shown = "block" if formula[1] else "inline"
        return latex2mathml.converter.convert(formula[1] or formula[2], display=shown)

    pages = copy.deepcopy(pages)
    for cell in pages.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(?s)\$\$(.+?)\$\$|\$([^$\n]+)\$", convert, cell.source)
    return pages


def title(pages: nbformat.NotebookNode) -> str:
    return pages.cells[0].source.split("\n")[0].lstrip("# ")


def write_index(output: Path) -> None:
    """Make the page of what is in the output folder: notebooks, and pictures that they saved."""
    cards = saved = ""
    for path in sorted(output.glob("*.ipynb")):
        pages, file = nbformat.read(path, as_version=4), io.BytesIO()
        if figure := chosen_figure(path, (720, 440)):
            figure.save(file, "webp", quality=80)
        data = base64.b64encode(file.getvalue()).decode()
        question = re.search(r"\*\*The question:\*\* (.*)", pages.cells[0].source)
        cards += f'<a href="{path.stem}.html"><img src="data:image/webp;base64,{data}" alt="">'
        cards += f"<h2>{path.stem.split('_')[0]} {html.escape(title(pages))}</h2>"
        cards += nbconvert.filters.markdown2html(question[1] if question else "") + "</a>\n"
    for path in sorted(output.iterdir()):
        if path.suffix in (".png", ".webp", ".gif"):
            saved += f'<a href="{path.name}"><img src="{path.name}" alt="">{path.name}</a>\n'
    text = '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
    text += f"<title>Neural Style Transfer</title>\n<style>{CSS}</style>\n"
    text += f"<h1>Neural Style Transfer, from white noise</h1>\n<main>{cards}</main>\n"
    if saved:
        text += f"<h1>Pictures that they saved</h1>\n<main>{saved}</main>\n"
    (output / "index.html").write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", type=Path, nargs="*", default=NOTEBOOKS, help="default: all")
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
        write_index(args.output)
    except OSError as error:
        print(f"cannot write into {args.output}: {error}", file=sys.stderr)
        return 1
    print(f"\nall of them: {os.path.relpath(args.output / 'index.html')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
