"""Run notebooks without a browser, and keep what they make: ``make run``.

Writes each executed notebook and an HTML page of it into the output folder, beside the pictures the
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

from scripts.pictures.notebooks import chosen_figure

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"
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


def run(notebook: Path, output: Path, inplace: bool) -> bool:
    """Run one notebook and write what it makes; return whether all its cells passed."""
    cells = nbformat.read(notebook, as_version=4)
    started_at, wall_clock = time.monotonic(), time.time()
    error = execute(cells, notebook.parent, output)
    executed = output / notebook.name
    nbformat.write(cells, executed)
    executed.with_suffix(".html").write_text(page(cells), encoding="utf-8")
    if error is not None:
        print(error, file=sys.stderr)
        print(f"a cell failed; the notebook up to there: {executed}", file=sys.stderr)
        return False
    if inplace:
        nbformat.write(cells, notebook)
    print(f"\ndone in {time.monotonic() - started_at:.0f} s")
    print(f"network: {network_of(cells)}")
    for path in sorted(output.iterdir()):
        if path.stat().st_mtime >= wall_clock:
            print(f"  {os.path.relpath(path)}")
    return True


# --- execution ----------------------------------------------------------------------------------


def execute(
    notebook: nbformat.NotebookNode, folder: Path, output: Path
) -> nbclient.exceptions.CellExecutionError | None:
    """Fill in the outputs of all cells; return the error of the cell that failed, if one did."""
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    started_at = time.monotonic()

    def print_progress(cell: nbformat.NotebookNode, cell_index: int) -> None:
        if cell.cell_type == "code":
            first_line = next((line for line in cell.source.splitlines() if line.strip()), "")
            number, seconds = code_cells.index(cell) + 1, time.monotonic() - started_at
            print(f"[{seconds:4.0f} s] cell {number} of {len(code_cells)}: {first_line}")

    os.environ["NST_OUTPUT"] = str(output.resolve())  # where the notebook saves its pictures
    client = nbclient.NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=print_progress,
    )
    # The kernel's warning that it speaks TCP is about shared machines, and reads like a failure.
    client.extra_arguments = ["--IPKernelApp.log_level=40"]
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        return error
    finally:
        remove_widget_views(notebook)
    return None


def remove_widget_views(notebook: nbformat.NotebookNode) -> None:
    """Leave only a widget's text: progress bars that are over, sliders without a kernel."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(WIDGET, None)


def network_of(notebook: nbformat.NotebookNode) -> str:
    """Return what ``load_network("auto")`` printed in a notebook."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "\n".join(output.get("text", "") for output in outputs)
    line = re.search(r"^network: (.*)$", text, re.MULTILINE)
    return line[1] if line else "not stated"


# --- pages --------------------------------------------------------------------------------------


def page(notebook: nbformat.NotebookNode) -> str:
    """Return a notebook as HTML that needs no internet, with links to the other pages."""
    resources = {"metadata": {"name": title(notebook)}}
    body, _ = nbconvert.HTMLExporter().from_notebook_node(with_mathml(notebook), resources)
    return re.sub(r'href="([^":/]+)\.ipynb"', r'href="\1.html"', body)


def with_mathml(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Copy a notebook with formulas as MathML, which needs no MathJax from the internet."""

    def convert(formula: re.Match[str]) -> str:
        display = "block" if formula[1] else "inline"
        return latex2mathml.converter.convert(formula[1] or formula[2], display=display)

    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(?s)\$\$(.+?)\$\$|\$([^$\n]+)\$", convert, cell.source)
    return notebook


def title(notebook: nbformat.NotebookNode) -> str:
    """Return the heading of a notebook."""
    return notebook.cells[0].source.split("\n")[0].lstrip("# ")


def index(output: Path) -> str:
    """Return the page of what is in the output folder: notebooks, and pictures that they saved."""
    cards = "".join(card(path) for path in sorted(output.glob("*.ipynb")))
    pictures = "".join(
        f'<a href="{path.name}"><img src="{path.name}" alt="">{path.name}</a>\n'
        for path in sorted(output.iterdir())
        if path.suffix in (".png", ".webp", ".gif")
    )
    text = '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
    text += f"<title>Neural Style Transfer</title>\n<style>{CSS}</style>\n"
    text += f"<h1>Neural Style Transfer, from white noise</h1>\n<main>{cards}</main>\n"
    if pictures:
        text += f"<h1>Pictures that they saved</h1>\n<main>{pictures}</main>\n"
    return text


def card(path: Path) -> str:
    """Return a notebook's entry in the index: a figure, its title, its question."""
    notebook, file = nbformat.read(path, as_version=4), io.BytesIO()
    if figure := chosen_figure(path, (720, 440)):
        figure.save(file, "webp", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    question = re.search(r"\*\*The question:\*\* (.*)", notebook.cells[0].source)
    heading = f"{path.stem.split('_')[0]} {html.escape(title(notebook))}"
    return (
        f'<a href="{path.stem}.html"><img src="data:image/webp;base64,{data}" alt="">'
        f"<h2>{heading}</h2>"
        f"{nbconvert.filters.markdown2html(question[1] if question else '')}</a>\n"
    )


# --- command line -------------------------------------------------------------------------------


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
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / ".writable").touch()  # before the work, not after
        (args.output / ".writable").unlink()
        for notebook in args.notebooks:
            print(f"\n{notebook}")
            if not run(notebook, args.output, args.inplace):
                return 1
        (args.output / "index.html").write_text(index(args.output), encoding="utf-8")
    except OSError as error:
        print(f"cannot write into {args.output}: {error}", file=sys.stderr)
        return 1
    print(f"\nall of them: {os.path.relpath(args.output / 'index.html')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
